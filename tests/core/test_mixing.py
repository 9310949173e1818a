"""Mixtures of the start model and the fine-tuned one."""

from __future__ import annotations

import numpy as np
import torch

from aftermap.core.evaluation.pixel_scores import LevelCounts
from aftermap.core.training.mixing import choose_mixture, mix_weights


def counts_of(quality: float, seed: int) -> LevelCounts:
    """A tile on which roads have level 200 with this probability, and everything else level 50."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((64, 64)) < 0.2).astype(np.uint8)
    is_right = rng.random(labels.shape) < quality
    levels = np.where((labels == 1) == is_right, 200, 50).astype(np.uint8)
    counts = LevelCounts()
    counts.add(levels, labels)
    return counts


def sets_of(quality: float, tiles: int) -> list[list[LevelCounts]]:
    return [[counts_of(quality, seed) for seed in range(tiles)]]


def test_a_mixture_lies_between_and_its_ends_are_the_networks():
    start = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    tuned = {"w": torch.tensor([4.0, 2.0]), "n": torch.tensor(7)}
    assert torch.equal(mix_weights(start, tuned, 0.0)["w"], start["w"])
    assert torch.equal(mix_weights(start, tuned, 1.0)["w"], tuned["w"])
    assert torch.equal(mix_weights(start, tuned, 0.25)["w"], torch.tensor([1.0, 2.0]))
    assert mix_weights(start, tuned, 0.25)["n"] == 7


def test_what_clearly_wins_is_chosen():
    qualities = {0.0: 0.7, 0.25: 0.75, 0.5: 0.8, 0.75: 0.85, 1.0: 0.95}
    assert choose_mixture({share: sets_of(q, 8) for share, q in qualities.items()}) == 1.0
    worse = {
        share: sets_of(0.95 - q / 4, 8) for share, q in zip(qualities, (0, 0.4, 0.8, 1, 1.2), strict=True)
    }
    assert choose_mixture(worse) == 0.0


def test_equals_leave_the_middle():
    assert choose_mixture({share: sets_of(0.9, 8) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}) == 0.5


def test_two_tiles_cannot_say():
    assert choose_mixture({0.0: sets_of(0.5, 2), 0.5: sets_of(0.6, 2), 1.0: sets_of(0.99, 2)}) == 0.5
