"""Damage layers: which layer is one, the levels that it tells apart, and its buildings as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from qgis.core import (
    NULL,
    QgsFeatureRequest,
    QgsFeatureSource,
    QgsFields,
    QgsMapLayer,
    QgsVectorLayer,
    QgsWkbTypes,
)

from ...core.damage_fields import LEVELS, UNKNOWN, Level, level_of
from ...core.errors import VectorError
from ..translation import tr
from .summary import Building

NEEDED_FIELDS = ("damage", "damage_nam", "confidence", "area_m2")
REVIEW_FIELDS = ("reviewed", "analyst", "model_dam", "damage", "damage_nam")
LEVELS_PROPERTY = "aftermap/damage_levels"


def is_damage_layer(layer: QgsMapLayer | None) -> bool:
    """Whether a layer holds buildings with damage, whoever has written its file."""
    return (
        isinstance(layer, QgsVectorLayer)
        and layer.isValid()
        and layer.geometryType() == QgsWkbTypes.GeometryType.PolygonGeometry
        and has_damage(layer.fields())
    )


def has_damage(fields: QgsFields) -> bool:
    """Whether a layer with these fields tells damage."""
    return all(fields.indexOf(name) >= 0 for name in NEEDED_FIELDS)


def require_damage(fields: QgsFields, name: str) -> None:
    """Check that the layer called `name` tells damage.

    Raises:
        VectorError: It has not the fields that this takes.
    """
    missing = [field for field in NEEDED_FIELDS if fields.indexOf(field) < 0]
    if missing:
        raise VectorError(
            tr(
                "“{}” is no layer of building damage (it has no field {}): choose one of Assess Damage."
            ).format(name, ", ".join(missing))
        )


def named_levels(levels: Iterable[Mapping[str, Any]]) -> tuple[Level, ...]:
    """The levels that a run says its model tells apart, by code, and unknown as the last.

    Args:
        levels: Objects with ``code``, ``name`` and perhaps ``colour``, as `AssessDamage` answers them.
    """
    told = {
        int(level["code"]): replace(
            level_of(int(level["code"])),
            name=str(level["name"]),
            colour=str(level.get("colour") or level_of(int(level["code"])).colour),
        )
        for level in levels
        if int(level["code"]) != UNKNOWN
    }
    return (*(told[code] for code in sorted(told)), level_of(UNKNOWN))


def levels_of(layer: QgsVectorLayer) -> tuple[Level, ...]:
    """The levels that the model of a damage layer tells apart, and unknown as the last.

    A layer of a run knows them; of another one, they are those that its buildings tell of.
    """
    stored = layer.customProperty(LEVELS_PROPERTY, "")
    return named_levels(json.loads(stored)) if stored else find_levels(layer, layer.fields())


def find_levels(source: QgsFeatureSource, fields: QgsFields) -> tuple[Level, ...]:
    """The levels that have probabilities in a source of buildings or occur there, and unknown as the last."""
    codes = {int(code) for code in source.uniqueValues(fields.indexOf("damage")) if number(code) is not None}
    for level in LEVELS[1:]:
        index = fields.indexOf(level.field)
        if index >= 0 and number(source.maximumValue(index)) is not None:
            codes.add(level.code)
    codes.intersection_update(level.code for level in LEVELS[1:])
    return named_levels({"code": code, "name": _name_of(code, source, fields)} for code in codes)


def _name_of(code: int, source: QgsFeatureSource, fields: QgsFields) -> str:
    """What the buildings of a level are called."""
    request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry).setLimit(1)
    request.setFilterExpression(f'"damage" = {code}')
    for feature in source.getFeatures(request):
        return str(feature["damage_nam"] or level_of(code).name)
    return level_of(code).name


def remember_levels(layer: QgsVectorLayer, levels: Iterable[Level]) -> None:
    """Have a layer know its levels, so that nobody needs to look for them."""
    known = [
        {"code": level.code, "name": level.name, "colour": level.colour}
        for level in levels
        if level.code != UNKNOWN
    ]
    layer.setCustomProperty(LEVELS_PROPERTY, json.dumps(known))


def read_buildings(source: QgsFeatureSource, fields: QgsFields) -> Iterator[Building]:
    """The buildings of a damage layer, one after the other, without geometry."""
    names = [name for name in (*REVIEW_FIELDS, "area_m2", "triage") if fields.indexOf(name) >= 0]
    request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry)
    request.setSubsetOfAttributes(names, fields)
    damage, area, reviewed, model, triage = (
        fields.indexOf(name) for name in ("damage", "area_m2", "reviewed", "model_dam", "triage")
    )
    for feature in source.getFeatures(request):
        level = number(feature[damage])
        level = UNKNOWN if level is None else int(level)
        named = number(feature[model]) if model >= 0 else None
        yield Building(
            feature.id(),
            level,
            level if named is None else int(named),
            number(feature[area]) or 0.0,
            bool(number(feature[reviewed])) if reviewed >= 0 else False,
            (number(feature[triage]) or 0.0) if triage >= 0 else 0.0,
        )


def number(value: Any) -> float | None:
    """The value of a numeric attribute; none where it is empty."""
    return None if value is None or value == NULL else float(value)
