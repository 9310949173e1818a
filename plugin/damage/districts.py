"""In which district each building lies."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeatureRequest,
    QgsFeatureSource,
    QgsGeometry,
    QgsPoint,
    QgsSpatialIndex,
)


@dataclass(frozen=True)
class Districts:
    """Polygons with names.

    Attributes:
        source: The polygons.
        field: Field with their names; empty: their ids.
        crs: Their CRS.
    """

    source: QgsFeatureSource
    field: str
    crs: QgsCoordinateReferenceSystem


def name_districts(
    buildings: QgsFeatureSource,
    crs: QgsCoordinateReferenceSystem,
    districts: Districts,
    transforms: QgsCoordinateTransformContext,
) -> Generator[None, None, tuple[dict[int, str], list[str]]]:
    """Find the district of each building: the one that the middle of its bounding box lies in.

    A building lies in one district or in none; where districts overlap, in the first. A step is a building.

    Args:
        buildings: The buildings.
        crs: Their CRS.
        districts: The districts, in their own CRS.
        transforms: Of the project.

    Returns:
        Id of a building to the name of its district, and all names in their order.
    """
    request = QgsFeatureRequest()
    request.setDestinationCrs(crs, transforms)
    request.setInvalidGeometryCheck(QgsFeatureRequest.InvalidGeometryCheck.GeometryNoCheck)
    index, engines, names = QgsSpatialIndex(), {}, {}
    for feature in districts.source.getFeatures(request):
        if not feature.hasGeometry():
            continue
        index.addFeature(feature)
        geometry = QgsGeometry(feature.geometry())
        engine = QgsGeometry.createGeometryEngine(geometry.constGet())
        engine.prepareGeometry()
        engines[feature.id()] = (engine, geometry)  # the engine only points to the geometry
        names[feature.id()] = str(feature[districts.field] if districts.field else feature.id())
    found = {}
    for feature in buildings.getFeatures(QgsFeatureRequest().setNoAttributes()):
        yield
        if not feature.hasGeometry():
            continue
        box = feature.geometry().boundingBox()
        middle = QgsPoint(box.center())
        for id_ in sorted(index.intersects(box)):
            if engines[id_][0].contains(middle):
                found[feature.id()] = names[id_]
                break
    return found, list(dict.fromkeys(names.values()))
