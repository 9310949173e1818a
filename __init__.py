"""Aftermap, a QGIS plugin; QGIS calls `classFactory` when it loads the plugin."""


def classFactory(iface):  # noqa: N802  the name that QGIS asks for
    """Make the plugin; `iface` is QGIS's interface, or None under ``qgis_process``."""
    from .plugin.main import AftermapPlugin

    return AftermapPlugin(iface)
