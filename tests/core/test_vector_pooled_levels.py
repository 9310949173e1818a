"""Levels of damage from pooled features: the mean as the baseline, and weights that must earn their place."""

import json

import numpy as np
import pytest

from aftermap.core.errors import ModelError
from aftermap.core.vector.pooled_levels import MEAN, fit_pooling, pool_levels
from aftermap.core.vector.pooling import PooledFeatures

SOFTMAX = {"method": "softmax", "mean": [1, 1], "p90": [0, 0.5], "ring": [0.5, 0], "bias": [0.1, -0.2]}


def features(mean: np.ndarray, p90: np.ndarray | None = None, ring: np.ndarray | None = None):
    mean = np.asarray(mean, float)
    p90 = mean if p90 is None else np.asarray(p90, float)
    ring = mean if ring is None else np.asarray(ring, float)
    return PooledFeatures(mean, p90, ring, np.isfinite(mean[:, 0]).astype(float))


def sample(seed: int, tell: str, count: int = 600, groups: int = 12):
    """Footprints of two classes, of which only `tell` says anything; with the classes and the groups."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, count)
    noise = {name: rng.uniform(0.2, 0.8, count) for name in ("mean", "p90", "ring")}
    noise[tell] = 1 / (1 + np.exp(-rng.normal(3.0 * classes - 1.5, 1.0)))
    both = {name: np.column_stack([1 - p, p]) for name, p in noise.items()}
    return PooledFeatures(**both, seen=np.ones(count)), classes, np.arange(count) % groups


def test_the_mean_is_the_mean():
    pooled = pool_levels(features([[0.2, 0.8], [0.5, 0.5]], p90=[[1, 1], [0.1, 0.9]]), MEAN)
    np.testing.assert_allclose(pooled, [[0.2, 0.8], [0.5, 0.5]])


def test_means_that_rounding_keeps_from_summing_to_one_are_made_to():
    pooled = pool_levels(features([[0.3, 0.3, 0.3]]), MEAN)
    np.testing.assert_allclose(pooled, [[1 / 3] * 3])


def test_weights_by_hand():
    pooled = pool_levels(features([[0.4, 0.6]], [[0.5, 0.81]], [[0.25, 0.3]]), SOFTMAX)
    odds = 0.6 * 0.81**0.5 * np.exp(-0.2) / (0.4 * 0.25**0.5 * np.exp(0.1))
    np.testing.assert_allclose(pooled, [[1 / (1 + odds), odds / (1 + odds)]])


def test_what_was_not_seen_stays_unknown_and_an_unseen_ring_does_not_matter():
    nothing = [np.nan, np.nan]
    given = features([[0.4, 0.6], nothing], [[0.5, 0.8], nothing], [nothing, nothing])
    pooled = pool_levels(given, SOFTMAX)
    assert np.isnan(pooled[1]).all()
    same = pool_levels(features([[0.4, 0.6]], [[0.5, 0.8]], [[0.4, 0.6]]), SOFTMAX)
    np.testing.assert_allclose(pooled[0], same[0])


@pytest.mark.parametrize("tell", ["p90", "ring"])
def test_what_tells_is_learned_and_holds_elsewhere(tell):
    fitted = fit_pooling(*sample(1, tell))
    assert json.loads(json.dumps(fitted)) == fitted
    assert fitted["method"] == "softmax"
    assert fitted["log_loss_softmax"] < fitted["log_loss_mean"]
    assert (fitted["buildings"], fitted["groups"]) == (600, 12)
    assert min(fitted[tell]) > 3 * max(abs(w) for w in (*fitted["mean"], *fitted["bias"]))
    given, classes, _ = sample(2, tell)
    right = pool_levels(given, fitted).argmax(axis=1) == classes
    by_mean = pool_levels(given, MEAN).argmax(axis=1) == classes
    assert right.mean() > 0.9
    assert by_mean.mean() < 0.6


def calibrated(seed: int, count: int = 400):
    """Footprints whose mean is the true probability and whose other features are noise."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.02, 0.98, count)
    noise = rng.uniform(0.1, 0.9, (count, 2))
    given = PooledFeatures(np.column_stack([1 - p, p]), noise, noise, np.ones(count))
    return given, (rng.random(count) < p).astype(int), np.arange(count) // 40


def test_the_mean_stays_where_nothing_beats_it_and_chance_does_little_harm():
    fits = [fit_pooling(*calibrated(seed)) for seed in range(12)]
    assert sum(fit["method"] == "mean" for fit in fits) >= 9
    given, classes, _ = calibrated(99, count=20_000)

    def loss(pooling) -> float:
        return -np.log(pool_levels(given, pooling)[np.arange(len(classes)), classes]).mean()

    assert max(map(loss, fits)) < loss(MEAN) + 0.02


def test_what_holds_in_one_group_only_is_no_help():
    given, classes, _ = sample(4, "ring", count=200)
    reversed_half = np.arange(200) < 100
    classes = np.where(reversed_half, 1 - classes, classes)
    assert fit_pooling(given, classes, reversed_half.astype(int))["method"] == "mean"


def test_one_group_or_nothing_known_gives_the_mean():
    given, classes, groups = sample(5, "p90")
    assert fit_pooling(given, classes, np.zeros(len(groups)))["method"] == "mean"
    unknown = fit_pooling(given, np.full(len(groups), 255), groups)
    assert (unknown["method"], unknown["buildings"]) == ("mean", 0)


def test_footprints_that_are_not_seen_or_not_classified_have_no_part():
    given, classes, groups = sample(6, "p90")
    expected = fit_pooling(given, classes, groups)
    blank = np.full((30, 2), np.nan)
    more = PooledFeatures(
        *(np.concatenate([a, blank]) for a in (given.mean, given.p90, given.ring)), seen=np.zeros(630)
    )
    same = fit_pooling(more, np.append(classes, [1] * 30), np.append(groups, [99] * 30))
    assert same == expected
    more = PooledFeatures(
        *(np.concatenate([a, a[:20]]) for a in (given.mean, given.p90, given.ring)), seen=np.ones(620)
    )
    assert fit_pooling(more, np.append(classes, [255] * 20), np.append(groups, [3] * 20)) == expected


@pytest.mark.parametrize(
    "pooling",
    [
        {"method": "vote"},
        {},
        {"method": "softmax"},
        {**SOFTMAX, "bias": [1, 2, 3]},
        {**SOFTMAX, "mean": ["a", 1]},
    ],
)
def test_a_pooling_that_cannot_be_used_is_a_sentence(pooling):
    with pytest.raises(ModelError, match=r"model"):
        pool_levels(features([[0.4, 0.6]]), pooling)
