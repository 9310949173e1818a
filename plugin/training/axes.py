"""Axes of charts: where values lie on them, and where their ticks are. Knows nothing of Qt."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A range of values, linear or logarithmic.

    Attributes:
        low: Least value that is shown; above 0 on a logarithmic axis.
        high: Greatest value that is shown; above `low`.
        is_log: Whether equal distances mean equal factors.
        is_whole: Whether it counts something, so that ticks are whole.
    """

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False

    @classmethod
    def around(cls, values: Iterable[float], is_log: bool = False, anchor: float | None = None) -> Axis:
        """An axis that shows all values that can be shown, and `anchor` where it has one.

        Args:
            values: What is to be seen; infinite ones, and on a logarithmic axis those up to 0, are not.
            is_log: See the class.
            anchor: A value that is to be seen whatever the others are, such as 0.
        """
        seen = [v for v in values if math.isfinite(v) and (v > 0 or not is_log)]
        if anchor is not None:
            seen.append(anchor)
        if not seen:
            return cls(0.1, 1.0, is_log) if is_log else cls(0.0, 1.0)
        low, high = min(seen), max(seen)
        if is_log:
            return cls(low / 1.2, high * 1.2, True)
        room = (high - low or abs(high) or 1.0) * 0.06
        return cls(low if low == anchor else low - room, high if low < high == anchor else high + room)

    def position(self, value: float) -> float:
        """Where `value` lies: 0 at `low`, 1 at `high`, and beyond outside of them."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def value(self, position: float) -> float:
        """The value at a position: the inverse of `position`."""
        if self.is_log:
            return self.low * (self.high / self.low) ** position
        return self.low + position * (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values on the axis, about `most` of them."""
        if self.is_log:
            decades = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            if len(decades) > 1:
                return [10.0**d for d in decades][:: max(1, math.ceil(len(decades) / most))]
        rough = (self.high - self.low) / max(most, 1)
        decade = 10.0 ** math.floor(math.log10(rough))
        step = next(decade * s for s in STEPS if decade * s >= rough * (1 - 1e-9))
        if self.is_whole:
            step = math.ceil(step)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def short(value: float) -> str:
    """A number as short as a tick's label may be."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        digits, _, power = f"{value:.1e}".partition("e")
        digits = digits[:-2] if digits.endswith(".0") else digits
        return f"{digits}e{int(power)}"
    return f"{value:.4g}"
