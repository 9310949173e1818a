"""The confusion matrix of any number of classes, and the scores of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class ConfusionMatrix:
    """How many pixels of each class were taken for which, summed over tiles.

    Attributes:
        names: Of the classes, by code from 0.
        counts: int64 (classes, classes), true class by predicted class.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Start with no pixel; `names` of the classes by code from 0."""
        self.names = tuple(names)
        self.counts: NDArray[np.int64] = np.zeros((len(self.names), len(self.names)), dtype=np.int64)

    def add(self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count a tile.

        Args:
            prediction: uint8 (h, w), codes.
            truth: uint8 (h, w), codes. A pixel with a code of no class (255: not labelled, no data) in
                either is not counted.
        """
        size = len(self.names)
        known = (truth < size) & (prediction < size)
        pairs = truth[known].astype(np.int64) * size + prediction[known]
        self.counts += np.bincount(pairs, minlength=size**2).reshape(size, size)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the pixels of another set of tiles with the same classes."""
        self.counts += other.counts

    def scores(self) -> dict[str, dict[str, float]]:
        """By name of a class: ``precision``, ``recall``, ``f1``, ``iou``, and ``share`` of the true pixels.

        A score without any pixel to judge it by is NaN.
        """
        total, found = int(self.counts.sum()), {}
        for code, name in enumerate(self.names):
            tp = int(self.counts[code, code])
            true, predicted = int(self.counts[code].sum()), int(self.counts[:, code].sum())
            found[name] = {
                "precision": _ratio(tp, predicted),
                "recall": _ratio(tp, true),
                "f1": _ratio(2 * tp, true + predicted),
                "iou": _ratio(tp, true + predicted - tp),
                "share": _ratio(true, total),
            }
        return found


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
