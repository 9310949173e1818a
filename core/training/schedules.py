"""The learning rate over a run, by steps and not by epochs: a schedule that fits any length of run.

A schedule is asked for the factor of the peak learning rate at a step. All but `Plateau` know the whole run
in advance, so that it can be drawn, and judged, before it begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import JobError

WARM_UP_SHARE = 0.05
DECAY_SHARE = 0.25
SCHEDULES = ("wsd", "cosine", "one_cycle", "step", "plateau", "constant")
STEP_UNITS = ("epoch", "batch")


def cosine_with_warm_up(step: int, steps: int) -> float:
    """Factor of the peak learning rate at a step: linear over the first 5 %, then a cosine down to 1 %.

    Args:
        step: From 0.
        steps: Of the whole run.

    Reference: Loshchilov and Hutter, SGDR, ICLR 2017, equation 5 (one period).
    """
    warm_up = _warm_up(steps)
    if step < warm_up:
        return (step + 1) / warm_up
    way = (step - warm_up + 1) / max(1, steps - warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * way))


def warmup_stable_decay(step: int, steps: int) -> float:
    """Factor of the peak learning rate at a step: up over the first 5 %, the peak, down over the last 25 %.

    A short run, as that on an analyst's own tiles is, learns until the last quarter, where a cosine has sunk
    to half of the rate in the middle.

    Args:
        step: From 0.
        steps: Of the whole run.

    Reference: Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations,
    NeurIPS 2024, section 3 (constant rate, cool-down with one minus the root); the name is that of Hu et al.,
    MiniCPM, COLM 2024.
    """
    warm_up, fall = _warm_up(steps), steps * (1 - DECAY_SHARE)
    if step < warm_up:
        return (step + 1) / warm_up
    return 1.0 if step < fall else max(0.01, 1 - math.sqrt((step - fall + 1) / (steps - fall)))


def _warm_up(steps: int) -> int:
    return max(1, round(steps * WARM_UP_SHARE))


class Schedule:
    """How the learning rate changes over a run."""

    def factor(self, step: int) -> float:
        """Factor of the peak learning rate at a step, counted from 0."""
        raise NotImplementedError

    def observe(self, step: int, score: float) -> bool:
        """Take note of a validation score after `step` steps; whether the schedule heeds it.

        To say it twice is the same as to say it once.
        """
        return False

    def state(self) -> dict[str, float]:
        """What must be kept for a run that is resumed; its values are plain JSON."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take up what `state` gave."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The peak rate throughout."""

    def factor(self, step: int) -> float:
        """See the base class."""
        return 1.0


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """`warmup_stable_decay` over `steps` steps."""

    steps: int

    def factor(self, step: int) -> float:
        """See the base class."""
        return warmup_stable_decay(step, self.steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    """`cosine_with_warm_up` over `steps` steps."""

    steps: int

    def factor(self, step: int) -> float:
        """See the base class."""
        return cosine_with_warm_up(step, self.steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from 1/25 over the first 30 % of `steps`, then down to 1/250 000, both along a cosine.

    Reference: Smith and Topin, Super-Convergence, 2017, section 3; the shape is that of PyTorch's
    `OneCycleLR`.
    """

    steps: int

    def factor(self, step: int) -> float:
        """See the base class."""
        top = max(1.0, 0.3 * self.steps - 1)
        if step <= top:
            return _cosine_between(1 / 25, 1.0, step / top)
        return _cosine_between(1.0, 1 / 25 / 1e4, min(1.0, (step - top) / max(1.0, self.steps - 1 - top)))


@dataclass(frozen=True)
class Step(Schedule):
    """A tenth of the rate after each `every` steps."""

    every: int

    def factor(self, step: int) -> float:
        """See the base class."""
        return float(0.1 ** (step // self.every))


@dataclass
class Plateau(Schedule):
    """A tenth of the rate after more than `patience` rounds in a row without a better score.

    Attributes:
        patience: Rounds that are waited.
        scores: Validation score by the step after which it was measured.
    """

    patience: int = 2
    scores: dict[int, float] = field(default_factory=dict)

    def factor(self, step: int) -> float:
        """See the base class."""
        best, waited, factor = -math.inf, 0, 1.0
        for at in sorted(s for s in self.scores if s <= step):
            waited = 0 if self.scores[at] > best else waited + 1
            best = max(best, self.scores[at])
            if waited > self.patience:
                factor, waited = factor * 0.1, 0
        return factor

    def observe(self, step: int, score: float) -> bool:
        """See the base class."""
        self.scores[step] = score
        return True

    def state(self) -> dict[str, float]:
        """See the base class."""
        return {str(step): score for step, score in self.scores.items()}

    def restore(self, state: Mapping[str, float]) -> None:
        """See the base class."""
        self.scores = {int(step): score for step, score in state.items()}


def build_schedule(
    name: str, steps: int, steps_per_epoch: float = 1.0, step_every: int = 30, step_unit: str = "epoch"
) -> Schedule:
    """The schedule of a run.

    Args:
        name: One of `SCHEDULES`.
        steps: Of the whole run.
        steps_per_epoch: Where ``step`` counts epochs.
        step_every: Period of ``step``.
        step_unit: What it counts: ``epoch``, or ``batch`` (one step).

    Raises:
        JobError: There is no such schedule or unit, or the period is not positive.
    """
    if name not in SCHEDULES:
        raise JobError(f"There is no schedule {name!r}: choose one of {', '.join(SCHEDULES)}.")
    if step_unit not in STEP_UNITS:
        raise JobError(f"A schedule cannot count by {step_unit!r}: choose epoch or batch.")
    if step_every < 1:
        raise JobError(f"A schedule cannot act every {step_every} {step_unit}s: choose 1 or more.")
    if name == "step":
        return Step(max(1, round(step_every * (steps_per_epoch if step_unit == "epoch" else 1))))
    if name == "plateau":
        return Plateau()
    if name == "constant":
        return Constant()
    return {"cosine": Cosine, "wsd": WarmupStableDecay, "one_cycle": OneCycle}[name](steps)


def curve(schedule: Schedule, steps: int, points: int = 200) -> list[tuple[int, float]]:
    """Pairs of step and factor over a run, for drawing: the first step, the last, and evenly between.

    A step before and after each jump is among them, so that a jump is drawn as one.
    """
    drawn = {round(i * (steps - 1) / max(1, points - 1)) for i in range(points)}
    if isinstance(schedule, Step):
        jumps = range(schedule.every, steps, max(schedule.every, steps // points))
        drawn |= {step for jump in jumps for step in (jump - 1, jump)}
    return [(step, schedule.factor(step)) for step in sorted(drawn)]


def first_change(schedule: Schedule, steps: int) -> int | None:
    """The first step at which the rate is another than at the start; none if there is none in the run."""
    start = schedule.factor(0)
    return next((step for step in range(1, steps) if schedule.factor(step) != start), None)


def first_below(schedule: Schedule, steps: int, factor: float = 0.01) -> int | None:
    """The first step from which on the rate stays under a factor of the peak; none if there is none."""
    found = None
    for step in reversed(range(steps)):
        # A tenth of a tenth is a little more than a hundredth in floating point.
        if schedule.factor(step) > factor * (1 + 1e-9):
            break
        found = step
    return found


def _cosine_between(start: float, end: float, way: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * way))
