"""Scores of a binary class."""

from __future__ import annotations

import numpy as np
import pytest

from aftermap.core.evaluation.bootstrap import (
    PIXEL_SCORES,
    f1_of_matches,
    mean_of_known,
    paired_difference,
    score_interval,
)
from aftermap.core.evaluation.confusion import ConfusionMatrix
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


def test_curves_are_the_scores_at_each_threshold():
    counts = LevelCounts()
    counts.add(*random_case(3))
    curves = counts.curves()
    for level in (0, 1, 90, 254):
        scores = counts.scores(level / (LEVELS - 1))
        for name, curve in curves.items():
            assert curve[level] == pytest.approx(scores[name])
    np.testing.assert_array_equal(curves["iou"], counts.iou_curve())
    assert np.isnan(LevelCounts().curves()["iou"]).all()


def test_the_four_counts_make_all_pixels():
    counts = LevelCounts()
    levels, labels, _ = random_case(4)
    counts.add(levels, labels)
    known = (levels < 255) & (labels != 255)
    tp, fp, fn, tn = counts.counts_at(0.4)
    assert tp + fp + fn + tn == known.sum()
    assert tp + fn == (known & (labels == 1)).sum()
    assert tp + fp == (known & (levels >= 0.4 * 254)).sum()


def test_a_confusion_matrix_counts_what_is_known():
    matrix, rest = (
        ConfusionMatrix(("none", "minor", "destroyed")),
        ConfusionMatrix(("none", "minor", "destroyed")),
    )
    matrix.add(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8))
    rest.add(np.array([[2, 2, 0, 1]], np.uint8), np.array([[2, 0, 255, 7]], np.uint8))
    matrix.merge(rest)
    assert matrix.counts.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    scores = matrix.scores()
    # minor: 1 of 1 called so is, 1 of 2 was found; 2 of 5 pixels are.
    assert scores["minor"] == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "iou": 0.5, "share": 0.4}
    assert scores["destroyed"]["precision"] == 0.5
    assert np.isnan(ConfusionMatrix(("a", "b")).scores()["a"]["iou"])


def test_the_confusion_of_two_classes_agrees_with_the_binary_scores():
    levels, labels, _ = random_case(5)
    counts, matrix = LevelCounts(), ConfusionMatrix(("background", "road"))
    counts.add(levels, labels)
    prediction = np.where(levels == 255, 255, levels >= level_of(0.4)).astype(np.uint8)
    matrix.add(prediction, labels)
    scores = matrix.scores()["road"]
    assert {k: v for k, v in scores.items() if k != "share"} == pytest.approx(counts.scores(0.4))


def tile_counts(tiles: int, seed: int, recall: float = 0.7) -> np.ndarray:
    """True positives, false positives and false negatives of tiles that are unlike each other."""
    rng = np.random.default_rng(seed)
    road = rng.integers(200, 4000, tiles)
    found = (road * np.clip(recall + rng.normal(0, 0.1, tiles), 0, 1)).astype(np.int64)
    return np.column_stack([found, rng.integers(100, 1500, tiles), road - found])


def test_an_interval_holds_its_score_and_narrows_with_more_tiles():
    widths = []
    for tiles in (10, 40, 640):
        counts = tile_counts(tiles, 7)
        found = score_interval(counts, PIXEL_SCORES["iou"])
        tp, fp, fn = counts.sum(axis=0)
        assert found.value == tp / (tp + fp + fn)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[0] > 1.4 * widths[1] > 1.4 * 2.5 * widths[2]
    assert score_interval(counts, PIXEL_SCORES["iou"]) == found


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    tp, _, fn = tile_counts(100_000, 1).sum(axis=0)
    truth = tp / (tp + fn)
    hits = 0
    for seed in range(200):
        found = score_interval(tile_counts(40, 1000 + seed), PIXEL_SCORES["recall"], seed)
        hits += found.low <= truth <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_a_paired_difference_sees_what_two_intervals_do_not():
    first = tile_counts(20, 3)
    better = first.copy()
    gain = first[:, 2] // 20
    better[:, 0] += gain
    better[:, 2] -= gain
    one, two = (score_interval(c, PIXEL_SCORES["iou"]) for c in (first, better))
    assert one.high > two.low
    difference = paired_difference(first, better, PIXEL_SCORES["iou"])
    assert difference.value == pytest.approx(two.value - one.value)
    assert difference.excludes_zero
    assert not paired_difference(first, first, PIXEL_SCORES["iou"]).excludes_zero
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(first, better[1:], PIXEL_SCORES["iou"])


def test_one_tile_has_no_interval():
    found = score_interval(tile_counts(1, 3), PIXEL_SCORES["f1"])
    assert 0 < found.value < 1
    assert np.isnan([found.low, found.high]).all()


def test_intervals_of_matches_and_means_agree_with_their_scores():
    counts = np.array([[5, 10, 6, 12], [0, 0, 0, 4], [3, 3, 3, 3]])
    assert score_interval(counts, f1_of_matches).value == pytest.approx(relaxed_f1(tuple(counts.sum(axis=0))))
    values = np.array([[0.5, 1], [0, 0], [0.9, 1]])
    assert score_interval(values, mean_of_known).value == pytest.approx(0.7)
    assert np.isnan(score_interval(values[1:2], mean_of_known).value)


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


def test_the_threshold_is_the_middle_one_of_those_that_do_well():
    curve = np.zeros(LEVELS)
    curve[50:150] = 0.6
    curve[60] = 0.6001
    assert choose_threshold(curve, 0.9, 20) == pytest.approx(100 / 254)
    curve[200] = 0.7
    assert choose_threshold(curve, 0.4, 20) == pytest.approx(200 / 254)


def test_the_peak_of_a_few_tiles_counts_less():
    curve = np.full(LEVELS, 0.58)
    curve[60] = 0.6
    assert choose_threshold(curve, 0.4, 1) == pytest.approx(128 / 254)
    assert choose_threshold(curve, 0.4, 8) == pytest.approx(60 / 254)


def test_without_any_road_the_prior_stays():
    counts = LevelCounts()
    counts.add(np.full((4, 4), 10, np.uint8), np.zeros((4, 4), np.uint8))
    assert choose_threshold(counts.iou_curve(), 0.35, 1) == 0.35
