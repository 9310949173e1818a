"""How well a model tells the damage of buildings: by level, and by ranking, with intervals by tile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import PIXEL_SCORES, Floats, Interval, score_interval
from .confusion import ConfusionMatrix
from .ranking import area_quartiles, auc_interval, precision_at, recall_interval, roc_auc
from .xview2 import IGNORE, LEVELS, Bools, Codes

UNKNOWN, DESTROYED = 0, 4

_QUARTERS = 4


@dataclass(frozen=True)
class ScoredBuildings:
    """Buildings whose damage is known, with what a model says of them.

    Attributes:
        tile: Of each, whatever names it, shape (n,).
        truth: uint8 (n,), codes 1 to 4; others are passed over.
        told: uint8 (n,), codes 1 to 4; 0 where the model says *unknown*.
        score: float64 (n,), by which they are ranked: the probability of being destroyed, or whatever rises
            with damage; NaN where unknown.
        area_m2: float64 (n,), of the footprints.
    """

    tile: NDArray[Any]
    truth: Codes
    told: Codes
    score: Floats
    area_m2: Floats

    def only(self, kept: Bools) -> ScoredBuildings:
        """Some of them."""
        return ScoredBuildings(
            self.tile[kept],
            self.truth[kept],
            self.told[kept],
            self.score[kept],
            self.area_m2[kept],
        )


def score_buildings(
    buildings: ScoredBuildings,
    names: Mapping[int, str],
    positive: Sequence[int] = (DESTROYED,),
    seed: int = 1,
) -> dict[str, Any]:
    """All scores of buildings, as JSON values for a card or a report.

    Args:
        buildings: Of one data set.
        names: Of the levels by code; levels that the model does not tell apart have one name.
        positive: Levels that are to be ranked over the rest.
        seed: Of the intervals.

    Returns:
        ``buildings``, ``tiles``, ``unknown`` (of the buildings), ``counts`` (true, by name), ``macro_f1``,
        ``f1`` by name, ``confusion`` (rows true, columns told, the first *unknown*), ``positive_f1`` (the
        positive levels against the rest); and where buildings of both kinds have a score: ``auc``,
        ``auc_within_tiles`` and ``auc_within_area_quartiles`` (of pairs in one tile or quartile),
        ``auc_by_area_quartile``, ``auc_of_area`` (the baseline that knows a footprint's size only),
        ``recall_at_1pct_false_alarms`` and the ``precision_at_1pct_prevalence`` that it gives. A score with
        an interval is ``[value, low, high]``; null stands where there is nothing to judge by.
    """
    buildings = buildings.only(np.isin(buildings.truth, LEVELS))
    matrix = confusion_of(buildings, names)
    by_level = {name: values["f1"] for name, values in matrix.scores().items()}
    by_level.pop(matrix.names[UNKNOWN])
    is_positive = np.isin(buildings.truth, positive)
    told_positive = np.isin(buildings.told, positive)
    found: dict[str, Any] = {
        "buildings": len(buildings.truth),
        "tiles": len(np.unique(buildings.tile)),
        "unknown": int((buildings.told == UNKNOWN).sum()),
        "counts": dict(zip(matrix.names[1:], matrix.counts[1:].sum(axis=1).tolist(), strict=True)),
        "macro_f1": _json(macro_f1(matrix)),
        "f1": {name: _json(f1) for name, f1 in by_level.items()},
        "confusion": {"names": list(matrix.names), "counts": matrix.counts.tolist()},
        "positive_f1": _triple(f1_interval(told_positive, is_positive, buildings.tile, seed)),
    }
    known = np.isfinite(buildings.score)
    ranked, truth = buildings.only(known), is_positive[known]
    if not truth.any() or truth.all():
        return found
    score, tiles, area_m2 = ranked.score, ranked.tile, ranked.area_m2
    quartile, recall = area_quartiles(area_m2), recall_interval(score, truth, tiles, seed=seed)
    size = area_m2 if roc_auc(area_m2, truth) >= 0.5 else -area_m2  # whichever way it tells
    return found | {
        "auc": _triple(auc_interval(score, truth, tiles, seed=seed)),
        "auc_within_tiles": _triple(auc_interval(score, truth, tiles, tiles, seed)),
        "auc_within_area_quartiles": _triple(auc_interval(score, truth, tiles, quartile, seed)),
        "auc_by_area_quartile": [
            _triple(auc_interval(score[part], truth[part], tiles[part], seed=seed))
            for part in (quartile == q for q in range(_QUARTERS))
        ],
        "auc_of_area": _triple(auc_interval(size, truth, tiles, seed=seed)),
        "recall_at_1pct_false_alarms": _triple(recall),
        "precision_at_1pct_prevalence": _json(precision_at(recall.value)),
    }


def confusion_of(buildings: ScoredBuildings, names: Mapping[int, str]) -> ConfusionMatrix:
    """Buildings by true and by told level: *unknown* first, then the names in the order of their codes.

    Args:
        buildings: Of any number of tiles.
        names: Of the levels by code, as in `score_buildings`.
    """
    matrix = ConfusionMatrix(["unknown", *dict.fromkeys(names[code] for code in sorted(names))])
    place = np.full(256, IGNORE, np.uint8)
    place[UNKNOWN] = 0
    for code, name in names.items():
        place[code] = matrix.names.index(name)
    matrix.add(place[buildings.told], place[buildings.truth])
    return matrix


def macro_f1(matrix: ConfusionMatrix) -> float:
    """Mean of the F1 of the levels that are there, true or told; the first class, *unknown*, has none."""
    f1 = [values["f1"] for values in list(matrix.scores().values())[1:] if not math.isnan(values["f1"])]
    return sum(f1) / len(f1) if f1 else math.nan


def f1_interval(told: Bools, truth: Bools, tiles: NDArray[Any], seed: int = 1) -> Interval:
    """F1 of one kind of building against the rest, with its interval.

    Args:
        told: bool (n,), which are taken for it.
        truth: bool (n,), which are.
        tiles: Of each, shape (n,).
        seed: Of the draws.
    """
    names, tile = np.unique(tiles, return_inverse=True)
    counts = np.column_stack(
        [
            np.bincount(tile[kind], minlength=len(names))
            for kind in (told & truth, told & ~truth, ~told & truth)
        ]
    )
    return score_interval(counts, PIXEL_SCORES["f1"], seed)


def _triple(interval: Interval) -> list[float | None]:
    return [_json(interval.value), _json(interval.low), _json(interval.high)]


def _json(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
