"""The learning-rate range test: a short run whose rate grows, to see which rates teach and which destroy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

_MEMORY = 0.9  # of the moving average
_DIVERGED = 4.0  # times the best smoothed loss
_LEARNED = 0.97  # of the loss at the start: a curve that stays above teaches nothing


@dataclass(frozen=True)
class RangePoint:
    """One step of a range test.

    Attributes:
        learning_rate: At which the step was taken.
        loss: Before the step.
        smoothed: Moving average of the losses so far.
    """

    learning_rate: float
    loss: float
    smoothed: float


def run_range_test(
    take_step: Callable[[float], float], steps: int = 100, lowest: float = 1e-6, highest: float = 1.0
) -> Iterator[RangePoint]:
    """Take steps at rates that grow exponentially, until the smoothed loss is four times its best.

    Args:
        take_step: Takes one step at a learning rate and returns its loss, as `Trainer.try_rate` does.
        steps: At most so many.
        lowest: The first rate.
        highest: The last one.

    Reference: Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3; growth and
    the bound after Gugger's implementation in fastai.
    """
    average, best = 0.0, math.inf
    for i in range(steps):
        rate = lowest * (highest / lowest) ** (i / max(1, steps - 1))
        loss = take_step(rate)
        if not math.isfinite(loss):
            return
        average = _MEMORY * average + (1 - _MEMORY) * loss
        smoothed = average / (1 - _MEMORY ** (i + 1))  # the average began at 0
        yield RangePoint(rate, loss, smoothed)
        best = min(best, smoothed)
        if smoothed > _DIVERGED * best:
            return


def suggest_rate(points: Sequence[RangePoint]) -> float | None:
    """A learning rate after a range test; none where the loss never fell.

    The middle of the descent, or a tenth of the rate at the minimum, whichever is lower. Adaptive optimisers
    on clipped gradients often do not diverge: from scratch the loss kept falling to a rate of 0.6, of which a
    tenth is still far too much, while the middle of the descent was at 0.003 to 0.004. When fine-tuning, the
    minimum comes soon. The steepest place is not looked for: on some tens of noisy batches it jumps about.
    """
    if not points:
        return None
    before = max(1, len(points) // 4)  # at these rates nothing moves yet
    start = median(p.smoothed for p in points[:before])
    at = min(range(len(points)), key=lambda i: points[i].smoothed)
    least = points[at]
    if at < before or least.smoothed > _LEARNED * start:
        return None
    half = (start + least.smoothed) / 2
    middle = next(p for p in reversed(points[: at + 1]) if p.smoothed >= half or p is points[0])
    return min(middle.learning_rate, least.learning_rate / 10)
