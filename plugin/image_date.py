"""When an image was taken, as far as its layer says."""

from __future__ import annotations

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtCore import QDateTime, Qt, QTime


def image_date(layer: QgsRasterLayer) -> str:
    """Begin of the layer's time range, or of the one in its metadata, as ISO 8601; empty if it has none."""
    times = layer.temporalProperties()
    ranges = [times.fixedTemporalRange()] if times.isActive() else []
    ranges += layer.metadata().extent().temporalExtents()
    return next((iso_date(range_.begin()) for range_ in ranges if range_.begin().isValid()), "")


def iso_date(time: QDateTime) -> str:
    """A time as ISO 8601, the day alone where it is midnight; empty if it is not valid."""
    if not time.isValid():
        return ""
    if time.time() == QTime(0, 0):
        return time.date().toString(Qt.DateFormat.ISODate)
    return time.toString(Qt.DateFormat.ISODate)
