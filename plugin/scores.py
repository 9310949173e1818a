"""The numbers among what an evaluation or a training tells, for outputs and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Name of an output → where its number stands among the values of a damage model's result.
DAMAGE_SCORES: dict[str, tuple[Any, ...]] = {
    "BUILDING_IOU": ("building_iou",),
    "BUILDING_F1": ("building_f1",),
    "BUILDING_PRECISION": ("building_precision",),
    "BUILDING_RECALL": ("building_recall",),
    "MACRO_F1": ("macro_f1",),
    "DESTROYED_F1": ("positive_f1", 0),
    "AUC": ("auc", 0),
    "AUC_WITHIN_TILES": ("auc_within_tiles", 0),
    "RECALL_AT_1PCT_FALSE_ALARMS": ("recall_at_1pct_false_alarms", 0),
    "PRECISION_AT_1PCT_PREVALENCE": ("precision_at_1pct_prevalence",),
    "XVIEW2": ("xview2_by_building", "score"),
    "XVIEW2_BY_PIXEL": ("xview2_by_pixel", "score"),
    "BUILDINGS": ("buildings",),
}


def is_damage_result(values: Mapping[str, Any]) -> bool:
    """Whether the values are those of a damage model."""
    return "macro_f1" in values


def damage_scores(values: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a damage model by the name of their output; those that nothing can tell are left out."""
    if not is_damage_result(values):
        return {}
    found = {name: _number_at(values, place) for name, place in DAMAGE_SCORES.items()}
    return {name: value for name, value in found.items() if value is not None}


def as_number(value: Any) -> float | None:
    """The value if it is a number; none if it is none, not finite, or a table."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def _number_at(values: Any, place: tuple[Any, ...]) -> float | None:
    for key in place:
        if isinstance(values, Mapping):
            values = values.get(key)
        elif isinstance(values, (list, tuple)) and isinstance(key, int) and key < len(values):
            values = values[key]
        else:
            return None
    return as_number(values)
