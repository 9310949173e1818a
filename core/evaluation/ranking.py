"""How well a score ranks what is positive over the rest, with intervals by drawing tiles again.

Buildings of one tile resemble each other, so it is tiles that are drawn, with repetition; a building weighs
as often as its tile was drawn. Ties are exact: equal scores are passed together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import DRAWS, Floats, Interval

Bools = NDArray[np.bool_]

FALSE_ALARMS = 0.01
PREVALENCE = 0.01

_TAILS = (2.5, 97.5)
_WEIGHTS_AT_ONCE = 2_000_000  # 16 MB
_LEAST_TILES = 2


def roc_auc(scores: Floats, truth: Bools, strata: NDArray[Any] | None = None) -> float:
    """The probability that a positive building is ranked over a negative one; ties count half.

    Args:
        scores: float (n,), no NaN.
        truth: bool (n,).
        strata: Of each: only buildings of one stratum are compared with each other; none: all are.

    Returns:
        0 to 1; NaN where there is no pair.
    """
    weights = np.ones((1, len(scores)))
    return float(_weighted_auc(scores, truth, weights, strata)[0])


def auc_interval(
    scores: Floats, truth: Bools, tiles: NDArray[Any], strata: NDArray[Any] | None = None, seed: int = 1
) -> Interval:
    """`roc_auc` with its interval.

    Args:
        scores: As in `roc_auc`.
        truth: As in `roc_auc`.
        tiles: Of each, shape (n,).
        strata: As in `roc_auc`.
        seed: Of the draws.
    """
    draws = [_weighted_auc(scores, truth, weights, strata) for weights in _draw_weights(tiles, seed)]
    return _interval(roc_auc(scores, truth, strata), draws)


def recall_at(scores: Floats, truth: Bools, false_alarms: float = FALSE_ALARMS) -> float:
    """The largest recall whose share of negative buildings taken for positive is at most `false_alarms`."""
    return float(_weighted_recall(scores, truth, np.ones((1, len(scores))), false_alarms)[0])


def recall_interval(
    scores: Floats, truth: Bools, tiles: NDArray[Any], false_alarms: float = FALSE_ALARMS, seed: int = 1
) -> Interval:
    """`recall_at` with its interval; each draw has its own threshold."""
    draws = [_weighted_recall(scores, truth, weights, false_alarms) for weights in _draw_weights(tiles, seed)]
    return _interval(recall_at(scores, truth, false_alarms), draws)


def precision_at(recall: float, false_alarms: float = FALSE_ALARMS, prevalence: float = PREVALENCE) -> float:
    """The precision where `prevalence` of the buildings are positive.

    After an earthquake in a city about one building in a hundred is: a false alarm in a hundred then makes
    half of what is found wrong, even if all is found.
    """
    right, wrong = recall * prevalence, false_alarms * (1 - prevalence)
    return right / (right + wrong)


def area_quartiles(area_m2: Floats) -> NDArray[np.int64]:
    """Which quarter of the footprints by size each belongs to, 0 to 3, int64 (n,)."""
    edges = np.quantile(area_m2, [0.25, 0.5, 0.75]) if len(area_m2) else np.zeros(3)
    return np.searchsorted(edges, area_m2, side="right").astype(np.int64)


def _weighted_auc(scores: Floats, truth: Bools, weights: Floats, strata: NDArray[Any] | None) -> Floats:
    """AUC of each draw, float64 (draws,), of weights (draws, n)."""
    above, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    groups = np.zeros(len(scores), np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    for group in range(groups.max(initial=-1) + 1):
        part = groups == group
        if truth[part].any() and not truth[part].all():
            right, wrong = _roc(scores[part], truth[part], weights[:, part])
            above += (np.diff(wrong, axis=1) * (right[:, 1:] + right[:, :-1]) / 2).sum(axis=1)
            pairs += right[:, -1] * wrong[:, -1]
    auc: Floats = np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return auc


def _weighted_recall(scores: Floats, truth: Bools, weights: Floats, false_alarms: float) -> Floats:
    """Recall of each draw, float64 (draws,)."""
    right, wrong = _roc(scores, truth, weights)
    allowed = wrong <= false_alarms * wrong[:, -1:] + 1e-9  # sums of weights are whole: no score lies there
    best = np.where(allowed, right, 0.0).max(axis=1)
    has_both = (right[:, -1] > 0) & (wrong[:, -1] > 0)
    recall: Floats = np.divide(best, right[:, -1], out=np.full(len(best), np.nan), where=has_both)
    return recall


def _roc(scores: Floats, truth: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of positives and of negatives from each score on, falling, and from 0: (draws, scores + 1)."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of equal scores
    sums = []
    for kind in (truth, ~truth):
        total = np.cumsum((weights * kind)[:, order], axis=1)[:, last]
        sums.append(np.concatenate([np.zeros((len(weights), 1)), total], axis=1))
    return sums[0], sums[1]


def _draw_weights(tiles: NDArray[Any], seed: int) -> Iterator[Floats]:
    """How often each building is drawn with its tile, float64 (draws, n), in parts; not for a single tile."""
    names, tile = np.unique(tiles, return_inverse=True)
    if len(names) < _LEAST_TILES:
        return
    rng, even = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    at_once = max(1, _WEIGHTS_AT_ONCE // max(1, len(tile)))
    for done in range(0, DRAWS, at_once):
        drawn = rng.multinomial(len(names), even, min(at_once, DRAWS - done))
        yield drawn[:, tile].astype(np.float64)


def _interval(value: float, draws: list[Floats]) -> Interval:
    known = np.concatenate([np.zeros(0), *draws])
    known = known[~np.isnan(known)]
    if not known.size:
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(known, _TAILS)
    return Interval(value, float(low), float(high))
