"""How far a run is: shares of the whole, and words for speed and time left."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar

from .jobs import Progress

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Span:
    """The part of a run's progress that one step takes.

    Attributes:
        start: Share of the run at which the step begins.
        stop: Share at which it ends.
    """

    start: float
    stop: float

    def at(self, share: float, message: str) -> Progress:
        """The run's progress when `share` of the step is done."""
        return Progress(round(self.start + (self.stop - self.start) * min(1.0, share), 4), message)


def plan_spans(weights: dict[str, float]) -> dict[str, Span]:
    """Lay steps end to end, each as long as its weight says; the last one ends at 1."""
    total, start = sum(weights.values()), 0.0
    spans = {}
    for name, weight in weights.items():
        spans[name] = Span(start / total, (start + weight) / total)
        start += weight
    return spans


@dataclass
class Stopwatch:
    """Speed and time left of a step whose units cost about the same.

    Attributes:
        done_before: Units that were done before this run.
    """

    done_before: int = 0
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    def time_left(self, done: int, total: int) -> str:
        """Such as ``40 s left``; empty while nothing can be said."""
        new = done - self.done_before
        return f"{in_words(self.seconds * (total - done) / new)} left" if new > 0 and done < total else ""


def follow(
    steps: Generator[float, None, _Found], span: Span, message: str
) -> Generator[Progress, None, _Found]:
    """Run what yields the share that is done, and tell it.

    Returns:
        What it returns.
    """
    try:
        while True:
            yield span.at(next(steps), message)
    except StopIteration as end:
        found: _Found = end.value
        return found
    finally:
        steps.close()


def finish(steps: Generator[object, None, _Found]) -> _Found:
    """What a generator returns, whatever it tells on the way."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: _Found = end.value
            return found


def in_words(seconds: float) -> str:
    """Such as ``40 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
