"""How far scores can be trusted: 95 % intervals by drawing the tiles again, with repetition.

Pixels of one tile resemble each other, so it is tiles that are drawn; their counts are summed, and the score
is computed of the sums. Equal seeds and numbers of tiles draw the same tiles, so that two models can be
compared tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[Any]
Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""From sums of counts, float64 (draws, kinds), to a score each, float64 (draws,); NaN where there is none."""

DRAWS = 2000
_LEAST_TILES = 2
_DRAWN_AT_ONCE = 2_000_000  # tiles; 16 MB
_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval; both ends are NaN where there are fewer than two tiles.

    Attributes:
        value: Over all tiles.
        low: 2.5th percentile over the draws.
        high: 97.5th percentile.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """By how much one score lies over another, with the 95 % interval of that."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0, so that it is hardly chance."""
        return self.low > 0 or self.high < 0


def score_interval(counts: Counts, score: Score, seed: int = 1) -> Interval:
    """A score with its interval.

    Args:
        counts: Shape (tiles, kinds): what the score is made of, for each tile.
        score: One of `PIXEL_SCORES`, `f1_of_matches` or `mean_of_known`.
        seed: Of the draws.
    """
    return Interval(_of_all(counts, score), *_ends(_of_draws(counts, score, seed)))


def paired_difference(first: Counts, other: Counts, score: Score, seed: int = 1) -> Difference:
    """By how much the score of `other` lies over that of `first`, on the same tiles in the same order.

    Raises:
        ValueError: They are not of the same tiles.
    """
    if first.shape != other.shape:
        raise ValueError(f"counts of {len(first)} and of {len(other)} tiles cannot be paired")
    value = _of_all(other, score) - _of_all(first, score)
    return Difference(value, *_ends(_of_draws(other, score, seed) - _of_draws(first, score, seed)))


def _of_all(counts: Counts, score: Score) -> float:
    return float(score(counts.sum(axis=0, keepdims=True).astype(np.float64))[0])


def _of_draws(counts: Counts, score: Score, seed: int) -> Floats:
    tiles = len(counts)
    if tiles < _LEAST_TILES:
        return np.zeros(0)
    rng, even = np.random.default_rng(seed), np.full(tiles, 1 / tiles)
    at_once = max(1, _DRAWN_AT_ONCE // tiles)
    sizes = [min(at_once, DRAWS - done) for done in range(0, DRAWS, at_once)]
    sums = np.concatenate([rng.multinomial(tiles, even, size) @ counts for size in sizes])
    return score(sums.astype(np.float64))


def _ends(draws: Floats) -> tuple[float, float]:
    known = draws[~np.isnan(draws)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.percentile(known, _TAILS)
    return float(low), float(high)


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return ratio


def _iou(sums: Floats) -> Floats:
    return _ratio(sums[:, 0], sums[:, :3].sum(axis=1))


def _f1(sums: Floats) -> Floats:
    return _ratio(2 * sums[:, 0], 2 * sums[:, 0] + sums[:, 1] + sums[:, 2])


def _precision(sums: Floats) -> Floats:
    return _ratio(sums[:, 0], sums[:, 0] + sums[:, 1])


def _recall(sums: Floats) -> Floats:
    return _ratio(sums[:, 0], sums[:, 0] + sums[:, 2])


PIXEL_SCORES: Mapping[str, Score] = {"iou": _iou, "f1": _f1, "precision": _precision, "recall": _recall}
"""Of true positives, false positives and false negatives, as `LevelCounts.counts_at` gives them."""


def f1_of_matches(sums: Floats) -> Floats:
    """Relaxed F1, or clDice, of the sums of `relaxed_counts` or `cldice_counts`."""
    right, predicted, found, true = sums.T
    precision, recall = (
        np.where(w > 0, p / np.maximum(w, 1), 0.0) for p, w in ((right, predicted), (found, true))
    )
    score = np.where(
        precision + recall > 0, 2 * precision * recall / np.maximum(precision + recall, 1e-12), 0.0
    )
    return np.where((predicted > 0) | (true > 0), score, np.nan)


def mean_of_known(sums: Floats) -> Floats:
    """Mean over tiles of sums of (value, 1) where a tile has a value, and (0, 0) where it has none."""
    return _ratio(sums[:, 0], sums[:, 1])
