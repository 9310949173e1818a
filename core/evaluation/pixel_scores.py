"""Pixel scores of a binary class: counted once per probability level, then read at any threshold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

LEVELS = 255
"""Probabilities are counted at the levels of the probability raster: 0 to 254, p = level / 254."""

RELAXED_PX = 3
"""Slack of the relaxed scores, in pixels of the mask (Mnih 2013, section 4.2)."""

Counts = NDArray[np.int64]
RelaxedCounts = tuple[int, int, int, int]


def _zeros() -> Counts:
    return np.zeros(LEVELS, dtype=np.int64)


@dataclass
class LevelCounts:
    """How many pixels of each kind have each probability level.

    Attributes:
        positive: Pixels of the class, int64 (255,).
        negative: Pixels not of the class.
        roof: Building pixels that are not road, where there are building masks.
    """

    positive: Counts = field(default_factory=_zeros)
    negative: Counts = field(default_factory=_zeros)
    roof: Counts = field(default_factory=_zeros)

    def add(
        self, levels: NDArray[np.uint8], labels: NDArray[np.uint8], buildings: NDArray[np.uint8] | None = None
    ) -> None:
        """Count a tile.

        Args:
            levels: uint8 (h, w), 0 to 254; 255 (no data) is not counted.
            labels: uint8 (h, w), 0 or 1; anything else is not counted.
            buildings: uint8 (h, w), 1 on buildings; none where unknown.
        """
        known = levels < LEVELS
        self.positive += np.bincount(levels[known & (labels == 1)], minlength=LEVELS)
        self.negative += np.bincount(levels[known & (labels == 0)], minlength=LEVELS)
        if buildings is not None:
            self.roof += np.bincount(levels[known & (labels == 0) & (buildings == 1)], minlength=LEVELS)

    def merge(self, other: LevelCounts) -> None:
        """Add the counts of another set of tiles."""
        self.positive += other.positive
        self.negative += other.negative
        self.roof += other.roof

    @property
    def true_positive(self) -> Counts:
        """Pixels of the class at or over each level."""
        return _at_or_over(self.positive)

    @property
    def false_positive(self) -> Counts:
        """Pixels not of the class at or over each level."""
        return _at_or_over(self.negative)

    def scores(self, threshold: float) -> dict[str, float]:
        """Scores at a threshold: ``iou``, ``f1``, ``precision``, ``recall``.

        And ``roof_fpr``, the share of building pixels called road, where roofs were counted. A score without
        any pixel to judge it by is NaN.
        """
        tp, fp, fn, _ = self.counts_at(threshold)
        found = {
            "iou": _ratio(tp, tp + fp + fn),
            "f1": _ratio(2 * tp, 2 * tp + fp + fn),
            "precision": _ratio(tp, tp + fp),
            "recall": _ratio(tp, tp + fn),
        }
        if self.roof.any():
            roofs_over = int(_at_or_over(self.roof)[level_of(threshold)])
            found["roof_fpr"] = _ratio(roofs_over, int(self.roof.sum()))
        return found

    def counts_at(self, threshold: float) -> tuple[int, int, int, int]:
        """True positives, false positives, false negatives and true negatives at a threshold, in pixels."""
        level = level_of(threshold)
        tp, fp = int(self.true_positive[level]), int(self.false_positive[level])
        return tp, fp, int(self.positive.sum()) - tp, int(self.negative.sum()) - fp

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """``precision``, ``recall``, ``f1`` and ``iou`` at each level taken as the threshold, float64 (255,).

        NaN where there is no pixel to judge a score by.
        """
        tp, fp = self.true_positive, self.false_positive
        true = self.positive.sum()
        parts = {
            "precision": (tp, tp + fp),
            "recall": (tp, np.full(LEVELS, true)),
            "f1": (2 * tp, tp + fp + true),
            "iou": (tp, fp + true),
        }
        return {
            name: np.divide(part, whole, out=np.full(LEVELS, np.nan), where=whole > 0)
            for name, (part, whole) in parts.items()
        }

    def iou_curve(self) -> NDArray[np.float64]:
        """Intersection over union at each level taken as the threshold, float64 (255,)."""
        union = self.positive.sum() + self.false_positive
        curve: NDArray[np.float64] = self.true_positive / np.maximum(union, 1)
        return curve

    def best_threshold(self) -> float:
        """The threshold of the highest IoU; the middle one where several levels reach 99.9 % of it."""
        curve = self.iou_curve()[1:]
        good = np.flatnonzero(curve >= 0.999 * curve.max()) + 1
        return float(good[len(good) // 2]) / (LEVELS - 1)


def choose_threshold(iou_curve: NDArray[np.float64], prior: float, tiles: int) -> float:
    """The threshold for a run: the middle one of those that are nearly as good as the best on validation.

    A few tiles give a flat curve whose very peak is chance, and whose edges are where other ground falls off:
    *nearly* is within 1 % of the highest IoU, and more where there are fewer than eight tiles (8 % for one).
    Without any road there is no peak, and the prior stays.

    Args:
        iou_curve: IoU at each level, float64 (255,).
        prior: What is chosen where no tile shows the class, 0 to 1.
        tiles: How many the curve was measured on.
    """
    if not iou_curve.any():
        return prior
    slack = max(0.01, 0.08 / max(tiles, 1))
    good = np.flatnonzero(iou_curve[1:] >= (1 - slack) * iou_curve.max()) + 1
    return float(good[len(good) // 2]) / (LEVELS - 1) if good.size else prior


def level_of(threshold: float) -> int:
    """The lowest level whose probability reaches a threshold.

    Args:
        threshold: 0 to 1.
    """
    return int(np.clip(np.ceil(threshold * (LEVELS - 1) - 1e-6), 0, LEVELS - 1))


def relaxed_counts(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], slack_px: int = RELAXED_PX
) -> RelaxedCounts:
    """What relaxed precision and recall are made of.

    Args:
        prediction: bool (h, w).
        truth: bool (h, w).
        slack_px: A pixel is right if one of the other mask lies within this distance.

    Returns:
        Predicted pixels near truth, predicted pixels, true pixels near a prediction, true pixels.

    Reference: Mnih, Machine Learning for Aerial Image Labeling, 2013, section 4.2.
    """
    return (
        int((prediction & _near(truth, slack_px)).sum()),
        int(prediction.sum()),
        int((truth & _near(prediction, slack_px)).sum()),
        int(truth.sum()),
    )


def sum_relaxed(counts: Iterable[RelaxedCounts]) -> RelaxedCounts:
    """The sum of `relaxed_counts` over tiles."""
    near_truth, predicted, near_prediction, true = (sum(n) for n in zip(*counts, strict=True))
    return near_truth, predicted, near_prediction, true


def relaxed_f1(counts: RelaxedCounts) -> float:
    """Relaxed F1 of summed `relaxed_counts`; NaN where there is neither prediction nor truth."""
    near_truth, predicted, near_prediction, true = counts
    if predicted == 0 or true == 0:
        return float("nan") if predicted == true else 0.0
    precision, recall = near_truth / predicted, near_prediction / true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _near(mask: NDArray[np.bool_], distance_px: int) -> NDArray[np.bool_]:
    if not mask.any():
        return np.zeros_like(mask)
    near: NDArray[np.bool_] = distance_transform_edt(~mask) <= distance_px
    return near


def _at_or_over(counts: Counts) -> Counts:
    return counts[::-1].cumsum()[::-1]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
