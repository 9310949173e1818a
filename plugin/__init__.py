"""The QGIS side of Aftermap: buttons, dialogs and Processing algorithms."""
