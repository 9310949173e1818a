"""The scores of a model at its threshold: of each tile, and of all of them together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tasks import TileTask
from .bootstrap import (
    PIXEL_SCORES,
    Difference,
    Interval,
    Score,
    f1_of_matches,
    mean_of_known,
    paired_difference,
    score_interval,
)
from .calibration import measure_reliability
from .pixel_scores import LevelCounts, RelaxedCounts, relaxed_counts, relaxed_f1, sum_relaxed
from .topology import apls, cldice, cldice_counts, trace_network

Bools = NDArray[np.bool_]

LINE_SCORES = ("cldice", "apls")
"""Scores that only a class of lines has."""

_NO_LINES: RelaxedCounts = (0, 0, 0, 0)


@dataclass(frozen=True)
class TileScores:
    """What is kept of a scored tile: a few kB.

    Attributes:
        stem: Its name.
        image: Path of the image.
        mask: Path of the mask.
        counts: Its pixels by level.
        hidden: Its pixels of the class by level, by the name of what covers them.
        pixels: True positives, false positives, false negatives, true negatives.
        relaxed: `relaxed_counts`.
        cldice: `cldice_counts`; zeros where the class is not linear.
        apls: Of its road network; NaN where there is none.
    """

    stem: str
    image: str
    mask: str
    counts: LevelCounts
    hidden: Mapping[str, LevelCounts]
    pixels: tuple[int, int, int, int]
    relaxed: RelaxedCounts
    cldice: RelaxedCounts
    apls: float

    @property
    def iou(self) -> float:
        """Intersection over union; NaN where there is nothing to judge it by."""
        tp, fp, fn, _ = self.pixels
        return tp / (tp + fp + fn) if tp + fp + fn else math.nan

    @property
    def wrong_px(self) -> int:
        """Pixels that are wrong."""
        return self.pixels[1] + self.pixels[2]

    def values(self, threshold: float) -> dict[str, Any]:
        """As JSON values; NaN where a score is not one of the class."""
        return {
            "stem": self.stem,
            "image": self.image,
            "mask": self.mask,
            **self.counts.scores(threshold),
            "relaxed_f1": relaxed_f1(self.relaxed),
            "cldice": cldice(self.cldice),
            "apls": self.apls,
            "wrong_px": self.wrong_px,
        }


def score_masks(
    prediction: Bools, truth: Bools, probability: NDArray[np.float32], gsd_m: float, is_linear: bool
) -> tuple[RelaxedCounts, RelaxedCounts, float]:
    """`relaxed_counts`, `cldice_counts` and `apls` of a tile.

    Args:
        prediction: bool (h, w), False where unlabelled.
        truth: bool (h, w), False where unlabelled.
        probability: float32 (h, w), by which gaps of the predicted network are bridged.
        gsd_m: Side of a pixel in metres.
        is_linear: Whether the class is one of lines; the last two are zeros and NaN where it is not.
    """
    if not is_linear:
        return relaxed_counts(prediction, truth), _NO_LINES, math.nan
    similarity = math.nan
    if truth.any():
        similarity = apls(
            trace_network(truth, np.zeros_like(probability), gsd_m),
            trace_network(prediction, probability, gsd_m),
        )
    return relaxed_counts(prediction, truth), cldice_counts(prediction, truth), similarity


@dataclass
class ModelScores:
    """The scores of a model on a set of tiles.

    Attributes:
        threshold: In use.
        task: What the class is.
        tiles: In the order in which they were added.
        counts: Pixels of all tiles by level.
    """

    threshold: float
    task: TileTask
    tiles: list[TileScores] = field(default_factory=list)
    counts: LevelCounts = field(default_factory=LevelCounts)

    def add(self, tile: TileScores) -> None:
        """Add a tile, scored at this threshold."""
        self.tiles.append(tile)
        self.counts.merge(tile.counts)

    def worst_first(self) -> list[TileScores]:
        """The tiles by IoU, and by wrong pixels where that is equal; those without the class last."""
        return sorted(self.tiles, key=lambda t: (math.isnan(t.iou), t.iou, -t.wrong_px, t.stem))

    @property
    def names(self) -> tuple[str, ...]:
        """The scores that have an interval, in the order in which they are shown."""
        return tuple(name for name in _KINDS if self.task.is_linear or name not in LINE_SCORES)

    def values(self) -> dict[str, Any]:
        """The scores by name, as JSON values."""
        of_lines = {
            "cldice": cldice(sum_relaxed(t.cldice for t in self.tiles)),
            "apls": _mean([t.apls for t in self.tiles]),
        }
        return {
            **self.counts.scores(self.threshold),
            "relaxed_f1": relaxed_f1(sum_relaxed(t.relaxed for t in self.tiles)),
            **(of_lines if self.task.is_linear else {}),
            "ece": measure_reliability(self.counts).ece,
            **self._recall_under_cover(),
            "threshold": self.threshold,
            "tiles": len(self.tiles),
        }

    def intervals(self) -> dict[str, Interval]:
        """The scores of `names` with their 95 % intervals."""
        return {name: score_interval(_parts(self.tiles, name), _KINDS[name]) for name in self.names}

    def differences(self, other: ModelScores) -> dict[str, Difference]:
        """By how much the scores of `other` lie over these, on the same tiles in the same order."""
        return {
            name: paired_difference(_parts(self.tiles, name), _parts(other.tiles, name), _KINDS[name])
            for name in self.names
        }

    def _recall_under_cover(self) -> dict[str, float]:
        found: dict[str, LevelCounts] = {}
        for tile in self.tiles:
            for cover, counts in tile.hidden.items():
                found.setdefault(cover, LevelCounts()).merge(counts)
        return {
            f"recall_under_{cover}": counts.scores(self.threshold)["recall"]
            for cover, counts in found.items()
            if counts.positive.any()
        }


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


_KINDS: dict[str, Score] = {
    **PIXEL_SCORES,
    "relaxed_f1": f1_of_matches,
    "cldice": f1_of_matches,
    "apls": mean_of_known,
}


def _parts(tiles: Iterable[TileScores], name: str) -> NDArray[np.float64]:
    """What a score is made of, tile by tile, shape (tiles, kinds)."""
    if name == "apls":
        rows: list[tuple[float, ...]] = [(0.0, 0.0) if math.isnan(t.apls) else (t.apls, 1.0) for t in tiles]
    elif name in ("relaxed_f1", "cldice"):
        rows = [getattr(t, "relaxed" if name == "relaxed_f1" else "cldice") for t in tiles]
    else:
        rows = [t.pixels[:3] for t in tiles]
    return np.array(rows, dtype=np.float64)
