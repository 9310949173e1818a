"""Calibration: whether of the pixels called 70 % road seven in ten are; and the scaling that mends it.

Everything is computed from `LevelCounts`, so that no pixels need be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from .pixel_scores import LEVELS, LevelCounts

Floats = NDArray[np.float64]

BINS = 15
"""Bins of equal width (17 levels each), as in Guo et al.; of equal mass nearly all would lie next to 0."""

_TOP = LEVELS - 1
_SLOPES = (0.1, 10.0)  # 1 / temperature
_BIASES = (-6.0, 6.0)


@dataclass(frozen=True)
class Reliability:
    """What probabilities promise, and what came true, by bins of probability.

    Attributes:
        promised: Mean probability in each bin, float64 (15,); NaN where the bin is empty.
        observed: Share of pixels of the class in each bin; NaN where the bin is empty.
        share: Share of all pixels that lie in each bin.
    """

    promised: Floats
    observed: Floats
    share: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 to 1; NaN where no pixel was counted.

        Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
        """
        if not self.share.any():
            return float("nan")
        return float(np.nansum(self.share * np.abs(self.promised - self.observed)))


def measure_reliability(counts: LevelCounts) -> Reliability:
    """The reliability curve of counted pixels."""
    probability = np.arange(LEVELS) / _TOP
    pixels = counts.positive + counts.negative
    number, promised, positive = (
        values.reshape(BINS, -1).sum(axis=1).astype(np.float64)
        for values in (pixels, pixels * probability, counts.positive)
    )
    is_empty = number == 0
    mean = np.where(is_empty, np.nan, promised / np.maximum(number, 1))
    observed = np.where(is_empty, np.nan, positive / np.maximum(number, 1))
    return Reliability(mean, observed, number / max(number.sum(), 1))


@dataclass(frozen=True)
class Scaling:
    """What makes true probabilities of a network's: logit / temperature + bias. Masks stay what they are.

    The temperature mends a network that is too sure of itself, or not enough. The bias takes back what a
    sampler or a weighted loss taught it of how frequent the class is, which no temperature can.

    Attributes:
        temperature: By which logits are divided, over 0.
        bias: What is then added to them.
    """

    temperature: float = 1.0
    bias: float = 0.0

    @classmethod
    def of(cls, calibration: Mapping[str, Any]) -> Scaling:
        """What the ``calibration`` of a card states."""
        return cls(float(calibration.get("temperature", 1.0)), float(calibration.get("bias", 0.0)))

    def following(self, earlier: Scaling) -> Scaling:
        """The one scaling that does what `earlier` and then this one do."""
        return Scaling(earlier.temperature * self.temperature, earlier.bias / self.temperature + self.bias)

    def counts(self, counts: LevelCounts) -> LevelCounts:
        """The counts as they would be with scaled probabilities.

        Probabilities are known to a level only, which at both ends leaves the logit open: what lies beyond
        0.998 is taken as 0.999, and what lies below 0.002 as 0.001.
        """
        if self == Scaling():
            return LevelCounts(counts.positive.copy(), counts.negative.copy(), counts.roof.copy())
        to = np.rint(expit(_level_logits() / self.temperature + self.bias) * _TOP).astype(np.int64)
        scaled = LevelCounts()
        for kind in ("positive", "negative", "roof"):
            np.add.at(getattr(scaled, kind), to, getattr(counts, kind))
        return scaled

    def threshold(self, threshold: float) -> float:
        """The threshold that, after scaling, gives the mask that `threshold` gives before."""
        if not 0.0 < threshold < 1.0:
            return threshold
        return float(expit(logit(threshold) / self.temperature + self.bias))


def fit_scaling(counts: LevelCounts) -> Scaling:
    """The scaling that makes the labels most likely.

    Args:
        counts: Of validation tiles as they come, unscaled; a sampler's would teach it another prior.

    Returns:
        A temperature of 0.1 to 10 and a bias of -6 to 6; none at all where only one class was seen.

    Reference: Platt, Probabilistic Outputs for Support Vector Machines, 1999; with the bias left out it is
    the temperature scaling of Guo et al. 2017, section 4.2.
    """
    if not (counts.positive.any() and counts.negative.any()):
        return Scaling()
    logits = _level_logits()
    total = counts.positive.sum() + counts.negative.sum()
    positive, negative = counts.positive / total, counts.negative / total

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scaled = logits * parameters[0] + parameters[1]
        # -log sigmoid(x) = log(1 + e^-x) for the class; the same of -x against it.
        value = positive @ np.logaddexp(0, -scaled) + negative @ np.logaddexp(0, scaled)
        slope = (positive + negative) * expit(scaled) - positive
        return float(value), np.array([slope @ logits, slope.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=(_SLOPES, _BIASES))
    return Scaling(float(1.0 / found.x[0]), float(found.x[1]))


def _level_logits() -> Floats:
    p = np.clip(np.arange(LEVELS) / _TOP, 0.25 / _TOP, 1.0 - 0.25 / _TOP)
    logits: Floats = logit(p)
    return logits
