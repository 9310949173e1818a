"""Between the start model and the fine-tuned one: mixtures of their weights.

Fine-tuning on a few tiles gains on ground like theirs and loses elsewhere. The mean of both networks' weights
keeps most of what each knows, costs nothing in a run, and is what protects a user with five tiles.

Reference: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, equation 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..evaluation.pixel_scores import LevelCounts

MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the fine-tuned network that are compared."""

PRIOR = 0.5
"""What is taken unless validation tiles speak against it (ibid., section 5: a half is near the best)."""

_TELLING_TILES = 3  # fewer validation tiles have no spread that could be measured
_RESAMPLES = 200

State = Mapping[str, Tensor]


def mix_weights(start: State, tuned: State, share: float) -> dict[str, Tensor]:
    """The weights (and statistics) of both networks, blended.

    Args:
        start: State of the start model.
        tuned: State of the fine-tuned one, of the same architecture.
        share: Of `tuned`, 0 to 1.
    """
    return {
        key: value.lerp(tuned[key].to(value.dtype), share) if value.is_floating_point() else tuned[key]
        for key, value in start.items()
    }


def choose_mixture(counts: Mapping[float, Sequence[Sequence[LevelCounts]]], seed: int = 0) -> float:
    """The mixture nearest to `PRIOR` among those within one standard error of the best.

    Args:
        counts: For each share, the level counts of each validation tile of each data set.
        seed: Of the resampling of tiles.

    Returns:
        One of the shares.

    Reference: Breiman et al., Classification and Regression Trees, 1984, section 3.4.3.
    """
    if max(sum(map(len, sets)) for sets in counts.values()) < _TELLING_TILES:
        return min(counts, key=lambda share: abs(share - PRIOR))
    rng = np.random.default_rng(seed)
    sizes = [len(tiles) for tiles in next(iter(counts.values()))]
    draws = [
        np.vstack([np.ones(n, int), rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)]) for n in sizes
    ]
    scores = {share: _iou_of_draws(sets, draws) for share, sets in counts.items()}
    best = max(scores, key=lambda share: scores[share][0])
    good = [
        share
        for share, iou in scores.items()
        if scores[best][0] - iou[0] <= np.std(scores[best][1:] - iou[1:])
    ]
    return min(good, key=lambda share: (abs(share - PRIOR), -scores[share][0]))


def _iou_of_draws(
    sets: Sequence[Sequence[LevelCounts]], draws: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Mean IoU over the sets for each draw of tiles, at the level that is best for the first draw."""
    true = [np.stack([t.true_positive for t in tiles]) for tiles in sets]
    false = [np.stack([t.false_positive for t in tiles]) for tiles in sets]
    union = [
        f + np.array([t.positive.sum() for t in tiles])[:, None] for f, tiles in zip(false, sets, strict=True)
    ]
    curves = [(times @ t) / np.maximum(times @ u, 1) for times, t, u in zip(draws, true, union, strict=True)]
    mean: NDArray[np.float64] = np.mean(curves, axis=0)  # (draws, levels)
    return mean[:, int(mean[0].argmax())]
