"""The worker side of Aftermap: everything that needs no QGIS."""
