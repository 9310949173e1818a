"""The score of the xView2 challenge: buildings and their damage on pixels, summed over all images.

Reference: Gupta et al., *xBD: A Dataset for Assessing Building Damage from Satellite Imagery*, 2019, and the
scoring program of the challenge (DIUx-xView/xView2_scoring), whose ε is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Counts, Floats, Interval, score_interval

Codes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

LEVELS = (1, 2, 3, 4)
"""Codes of the Joint Damage Scale: no damage, minor, major, destroyed."""

IGNORE = 255

_EPSILON = 1e-6
_LOCALISATION, _DAMAGE = 0.3, 0.7


@dataclass(frozen=True)
class Xview2Scores:
    """The score of the xView2 challenge and its parts.

    Attributes:
        score: 0.3 of `localisation_f1` and 0.7 of `damage_f1`.
        localisation_f1: Of building pixels.
        damage_f1: Harmonic mean of `f1_by_level`; one level that is missed, or has no pixel, makes it 0.
        f1_by_level: Of the pixels of levels 1 to 4 on true buildings.
    """

    score: float
    localisation_f1: float
    damage_f1: float
    f1_by_level: tuple[float, float, float, float]


def xview2_counts(buildings: Bools, damage: Codes, true_buildings: Codes, true_damage: Codes) -> Counts:
    """What the xView2 score is made of, for one pair of images; counts of images add up.

    Damage is judged where the true damage is a level, and counts only where a building was found.

    Args:
        buildings: bool (h, w), pixels that are taken for buildings.
        damage: uint8 (h, w), the level that each is taken for.
        true_buildings: uint8 (h, w), 0 or 1; `IGNORE` is not judged.
        true_damage: uint8 (h, w), 0 or a level; `IGNORE` (un-classified) is not judged.

    Returns:
        int64 (5, 3): true positives, false positives and false negatives of buildings and of each level.
    """
    judged = true_buildings != IGNORE
    rows = [_matches(buildings[judged], true_buildings[judged] > 0)]
    judged = (true_damage > 0) & (true_damage != IGNORE)
    told, true = np.where(buildings, damage, 0)[judged], true_damage[judged]
    rows += [_matches(told == level, true == level) for level in LEVELS]
    return np.array(rows, np.int64)


def xview2_scores(counts: Counts) -> Xview2Scores:
    """The scores of `xview2_counts`, summed over the images."""
    localisation, *levels = _xview2_f1(counts[None].astype(np.float64))[0].tolist()
    damage = float(_harmonic_mean(np.array([levels]))[0])
    score = _LOCALISATION * localisation + _DAMAGE * damage
    return Xview2Scores(score, localisation, damage, (levels[0], levels[1], levels[2], levels[3]))


def xview2_interval(counts: Counts, seed: int = 1) -> Interval:
    """The xView2 score with its interval, of `xview2_counts` of each image, int64 (images, 5, 3)."""

    def score(sums: Floats) -> Floats:
        f1 = _xview2_f1(sums.reshape(len(sums), -1, 3))
        found: Floats = _LOCALISATION * f1[:, 0] + _DAMAGE * _harmonic_mean(f1[:, 1:])
        return found

    return score_interval(counts.reshape(len(counts), -1), score, seed)


def _matches(told: Bools, true: Bools) -> tuple[int, int, int]:
    both = int((told & true).sum())
    return both, int(told.sum()) - both, int(true.sum()) - both


def _xview2_f1(sums: Floats) -> Floats:
    """F1 of (…, 3) counts, 0 where there is nothing to judge it by, as the challenge has it."""
    right, wrong, missed = np.moveaxis(sums, -1, 0)
    whole = 2 * right + wrong + missed
    f1: Floats = np.divide(2 * right, whole, out=np.zeros_like(whole), where=whole > 0)
    return f1


def _harmonic_mean(f1: Floats) -> Floats:
    mean: Floats = f1.shape[1] / (1.0 / (f1 + _EPSILON)).sum(axis=1)
    return mean
