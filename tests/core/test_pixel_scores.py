"""Scores of a binary class."""

from __future__ import annotations

import numpy as np
import pytest

from aftermap.core.evaluation.pixel_scores import (
    LEVELS,
    LevelCounts,
    choose_threshold,
    level_of,
    relaxed_counts,
    relaxed_f1,
)
from aftermap.core.raster.probability import encode_probabilities


def random_case(seed: int):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (40, 40)).astype(np.uint8)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), (40, 40))
    buildings = rng.integers(0, 2, (40, 40)).astype(np.uint8)
    return levels, labels, buildings


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.37, 0.5, 0.99, 1.0])
def test_scores_agree_with_counting_pixels(threshold: float):
    levels, labels, buildings = random_case(1)
    counts = LevelCounts()
    counts.add(levels, labels, buildings)
    known = (levels < 255) & (labels != 255)
    predicted, truth = (levels >= threshold * 254 - 1e-6) & known, (labels == 1) & known
    tp, fp, fn = (predicted & truth).sum(), (predicted & ~truth).sum(), (~predicted & truth).sum()
    scores = counts.scores(threshold)
    assert scores["iou"] == pytest.approx(tp / (tp + fp + fn))
    assert scores["precision"] == pytest.approx(tp / (tp + fp))
    assert scores["recall"] == pytest.approx(tp / (tp + fn))
    assert scores["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    roofs = known & (buildings == 1) & ~truth
    assert scores["roof_fpr"] == pytest.approx((predicted & roofs).sum() / roofs.sum())


def test_merged_counts_are_those_of_all_tiles():
    both, first, second = LevelCounts(), LevelCounts(), LevelCounts()
    for seed, one in ((1, first), (2, second)):
        one.add(*random_case(seed))
        both.add(*random_case(seed))
    first.merge(second)
    np.testing.assert_array_equal(first.iou_curve(), both.iou_curve())


def test_threshold_between_two_clear_groups_is_found():
    counts = LevelCounts()
    counts.add(np.array([[200, 210, 90, 80]], np.uint8), np.array([[1, 1, 0, 0]], np.uint8))
    assert 90 < counts.best_threshold() * 254 <= 200
    assert counts.scores(counts.best_threshold())["iou"] == 1.0


def test_a_threshold_means_the_same_for_scores_and_for_rasters():
    for threshold in np.linspace(0, 1, 41):
        p = np.array([[max(threshold - 0.003, 0), min(threshold + 0.003, 1)]], np.float32)
        levels = encode_probabilities(p, np.ones((1, 2), bool))
        assert levels[0, 1] >= level_of(float(threshold))
        assert threshold < 0.01 or levels[0, 0] < level_of(float(threshold)) + 1


def test_scores_of_nothing_are_not_a_number():
    assert np.isnan(LevelCounts().scores(0.5)["iou"])
    assert "roof_fpr" not in LevelCounts().scores(0.5)


def test_relaxed_scores_forgive_three_pixels_and_no_more():
    truth = np.zeros((40, 40), bool)
    truth[20] = True
    for shift, expected in ((0, 1.0), (3, 1.0), (4, 0.0)):
        assert relaxed_f1(relaxed_counts(np.roll(truth, shift, axis=0), truth)) == expected


def test_relaxed_scores_by_hand():
    truth, predicted = np.zeros((1, 20), bool), np.zeros((1, 20), bool)
    truth[0, :10] = True
    predicted[0, 8:18] = True
    # 8 to 12 lie within 3 of truth; 5 to 9 of truth lie within 3 of the prediction
    assert relaxed_counts(predicted, truth) == (5, 10, 5, 10)
    assert relaxed_f1((5, 10, 5, 10)) == 0.5
    assert relaxed_f1((0, 0, 0, 5)) == 0.0
    assert np.isnan(relaxed_f1((0, 0, 0, 0)))


def test_threshold_stays_near_its_prior_where_the_curve_is_flat():
    curve = np.zeros(LEVELS)
    curve[50:150] = 0.6
    curve[60] = 0.6001
    assert choose_threshold(curve, 0.4) == pytest.approx(0.4, abs=0.003)
    assert choose_threshold(curve, 0.9) == pytest.approx(149 / 254)
    curve[200] = 0.7
    assert choose_threshold(curve, 0.4) == pytest.approx(200 / 254)


def test_without_any_road_the_prior_stays():
    counts = LevelCounts()
    counts.add(np.full((4, 4), 10, np.uint8), np.zeros((4, 4), np.uint8))
    assert choose_threshold(counts.iou_curve(), 0.35) == 0.35
