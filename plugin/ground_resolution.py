"""How large map units are on the ground, as QGIS's ellipsoid measures it."""

from __future__ import annotations

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsDistanceArea,
    QgsPointXY,
    QgsRasterLayer,
    QgsRectangle,
    QgsUnitTypes,
)

SPAN_PX = 100  # measured over this many pixels, since one is too short for the ellipsoid's arithmetic


def pixel_size_m(layer: QgsRasterLayer, transforms: QgsCoordinateTransformContext) -> float | None:
    """True size of the layer's pixel at its centre in metres; none where the CRS is not known."""
    step = (layer.rasterUnitsPerPixelX(), layer.rasterUnitsPerPixelY())
    if not layer.crs().isValid() or min(step) <= 0:
        return None
    width, height = _measure(layer.crs(), transforms, layer.extent().center(), step)
    return (width * height) ** 0.5


def units_per_metre(
    crs: QgsCoordinateReferenceSystem, transforms: QgsCoordinateTransformContext, extent: QgsRectangle
) -> tuple[float, float]:
    """Map units that a metre on the ground takes at the extent's centre, along x and y."""
    step = (extent.width() / SPAN_PX, extent.height() / SPAN_PX)
    width, height = _measure(crs, transforms, extent.center(), step)
    return step[0] / width, step[1] / height


def _measure(
    crs: QgsCoordinateReferenceSystem,
    transforms: QgsCoordinateTransformContext,
    centre: QgsPointXY,
    step: tuple[float, float],
) -> tuple[float, float]:
    """Metres of one step along x and y."""
    measure = QgsDistanceArea()
    measure.setSourceCrs(crs, transforms)
    measure.setEllipsoid(crs.ellipsoidAcronym() or "EPSG:7030")

    def metres(dx: float, dy: float) -> float:
        start = QgsPointXY(centre.x() - dx * SPAN_PX / 2, centre.y() - dy * SPAN_PX / 2)
        end = QgsPointXY(centre.x() + dx * SPAN_PX / 2, centre.y() + dy * SPAN_PX / 2)
        length = measure.measureLine(start, end)
        return measure.convertLengthMeasurement(length, QgsUnitTypes.DistanceUnit.DistanceMeters) / SPAN_PX

    return metres(step[0], 0), metres(0, step[1])
