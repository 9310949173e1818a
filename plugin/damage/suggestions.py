"""What the dialog of Assess Damage is filled in with, as far as the project's layers tell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsCoordinateTransform,
    QgsCsException,
    QgsMapLayer,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
    QgsWkbTypes,
)

from ...core.cards import find_damage_package
from ...core.errors import ModelError
from ..algorithms.assess_damage import AssessDamage
from ..image_date import image_date
from ..run_folder import file_name
from ..settings import Settings
from .buildings import is_damage_layer

# As words of a name, not as parts of one: “Prešov” is not before.
BEFORE = re.compile(
    r"(?<![^\W\d_])(pre|before|prior|pre-?event|vorher|avant|antes|prima|önce)(?![^\W\d_])", re.I
)
FOOTPRINTS = re.compile(r"building|footprint|gebäude|bâtiment|edifici|bina", re.I)


def assess_damage_parameters(layer: QgsRasterLayer, project: QgsProject, folder: Path) -> dict[str, Any]:
    """Parameters for the image after, with the best model and with files in `folder`."""
    try:
        model = find_damage_package("", Settings.load().model_folders).card.name
    except ModelError:
        model = ""  # the run says what is missing; the user may still choose a package
    pre, footprints = guess_pre(layer, project), guess_footprints(project)
    name = file_name(layer.name())
    return {
        AssessDamage.POST: layer.id(),
        AssessDamage.PRE: pre.id() if pre else None,
        AssessDamage.FOOTPRINTS: footprints.id() if footprints else None,
        AssessDamage.MODEL: model,
        AssessDamage.OUTPUT_BUILDINGS: str(folder / f"{name}_building_damage.gpkg"),
        AssessDamage.OUTPUT_SUMMARY: str(folder / f"{name}_building_damage.csv"),
    }


def guess_pre(post: QgsRasterLayer, project: QgsProject) -> QgsRasterLayer | None:
    """The one raster layer that overlaps `post` and was taken before it, by its name or its date."""
    found = [
        layer
        for layer in project.mapLayers().values()
        if isinstance(layer, QgsRasterLayer)
        and layer.id() != post.id()
        and layer.isValid()
        and _is_before(layer, post)
        and _overlap(layer, post, project)
    ]
    return _only(found)


def guess_footprints(project: QgsProject) -> QgsVectorLayer | None:
    """The one polygon layer whose name says that it holds buildings."""
    found = [
        layer
        for layer in project.mapLayers().values()
        if isinstance(layer, QgsVectorLayer)
        and layer.isValid()
        and layer.geometryType() == QgsWkbTypes.GeometryType.PolygonGeometry
        and FOOTPRINTS.search(layer.name())
        and not is_damage_layer(layer)
    ]
    return _only(found)


def _is_before(layer: QgsRasterLayer, post: QgsRasterLayer) -> bool:
    dates = image_date(layer), image_date(post)
    if all(dates):
        return dates[0] < dates[1]  # ISO 8601 sorts by time
    return bool(BEFORE.search(layer.name().replace("_", " ")))


def _overlap(layer: QgsMapLayer, other: QgsMapLayer, project: QgsProject) -> bool:
    try:
        extent: QgsRectangle = QgsCoordinateTransform(layer.crs(), other.crs(), project).transformBoundingBox(
            layer.extent()
        )
    except QgsCsException:
        return False
    return extent.intersects(other.extent())


def _only(layers: Iterable[Any]) -> Any:
    found = list(layers)
    return found[0] if len(found) == 1 else None
