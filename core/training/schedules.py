"""The learning rate over a run, by steps and not by epochs: a schedule that fits any length of run."""

from __future__ import annotations

import math

WARM_UP_SHARE = 0.05


def cosine_with_warm_up(step: int, steps: int) -> float:
    """Factor of the peak learning rate at a step: linear over the first 5 %, then a cosine down to 1 %.

    Args:
        step: From 0.
        steps: Of the whole run.

    Reference: Loshchilov and Hutter, SGDR, ICLR 2017, equation 5 (one period).
    """
    warm_up = max(1, round(steps * WARM_UP_SHARE))
    if step < warm_up:
        return (step + 1) / warm_up
    way = (step - warm_up + 1) / max(1, steps - warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * way))
