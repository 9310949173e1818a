"""Scores of damage against numbers worked out by hand, and against plain counting of pairs."""

import json
import math

import numpy as np
import pytest
import shapely
from affine import Affine

from aftermap.core.datasets.xbd import burn
from aftermap.core.evaluation.damage_scores import (
    ScoredBuildings,
    confusion_of,
    f1_interval,
    macro_f1,
    score_buildings,
)
from aftermap.core.evaluation.ranking import (
    area_quartiles,
    auc_interval,
    precision_at,
    recall_at,
    recall_interval,
    roc_auc,
)
from aftermap.core.evaluation.xview2 import xview2_counts, xview2_interval, xview2_scores
from aftermap.core.raster.grid import Grid
from aftermap.core.vector.pooled_levels import MEAN, pool_levels
from aftermap.core.vector.pooling import pool_footprints

NAMES = {1: "none", 2: "damaged", 3: "damaged", 4: "destroyed"}
NAN = math.nan


def codes(*rows: list) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_xview2_by_hand():
    true_damage = codes([1, 1, 4, 4], [0, 0, 2, 255])
    true_buildings = (true_damage > 0).astype(np.uint8)
    found = codes([1, 0, 1, 1], [1, 0, 1, 1]).astype(bool)
    damage = codes([1, 1, 4, 1], [4, 0, 2, 3])
    counts = xview2_counts(found, damage, true_buildings, true_damage)
    assert counts.tolist() == [
        [5, 1, 1],  # buildings: the un-classified one is one
        [
            1,
            1,
            1,
        ],  # no damage: the pixel that was not localised is missed; one of the destroyed is taken for it
        [1, 0, 0],
        [0, 0, 0],
        [1, 0, 1],  # outside of true buildings no damage is judged
    ]
    scores = xview2_scores(counts)
    f1 = [0.5, 1.0, 0.0, 2 / 3]
    assert scores.localisation_f1 == pytest.approx(10 / 12)
    assert scores.f1_by_level == pytest.approx(f1)
    assert scores.damage_f1 == pytest.approx(4 / sum(1 / (v + 1e-6) for v in f1))
    assert scores.damage_f1 < 1e-5  # one empty level is the end of it
    assert scores.score == pytest.approx(0.3 * 10 / 12 + 0.7 * scores.damage_f1)


def test_xview2_of_a_perfect_answer_sums_over_images():
    rng = np.random.default_rng(1)
    counts = []
    for level in (1, 2, 3, 4):  # no image has all levels
        truth = (rng.random((8, 8)) < 0.4).astype(np.uint8) * level
        counts.append(xview2_counts(truth > 0, truth, (truth > 0).astype(np.uint8), truth))
    scores = xview2_scores(np.sum(counts, axis=0))
    assert scores.score == pytest.approx(1.0, abs=1e-5)
    interval = xview2_interval(np.array(counts))
    assert interval.value == pytest.approx(scores.score)
    assert interval.low < 0.5  # a draw without one of the levels


def test_xview2_of_nothing_is_0():
    empty = np.zeros((4, 4), np.uint8)
    scores = xview2_scores(xview2_counts(empty > 0, empty, empty, empty))
    assert (scores.localisation_f1, scores.f1_by_level) == (0.0, (0.0,) * 4)
    assert scores.score < 1e-5


def test_pixels_whose_building_is_not_labelled_are_not_judged():
    counts = xview2_counts(codes([1, 1]).astype(bool), codes([1, 1]), codes([255, 1]), codes([255, 1]))
    assert counts[0].tolist() == [1, 0, 0]


def buildings(truth, told, score=None, tile=None, area=None) -> ScoredBuildings:
    count = len(truth)
    return ScoredBuildings(
        np.arange(count) if tile is None else np.array(tile),
        np.array(truth, np.uint8),
        np.array(told, np.uint8),
        np.linspace(0, 1, count) if score is None else np.array(score, float),
        np.full(count, 100.0) if area is None else np.array(area, float),
    )


def test_confusion_and_macro_f1_by_hand():
    given = buildings([1, 1, 1, 2, 3, 4, 4, 255], [1, 1, 4, 3, 3, 4, 0, 1])
    matrix = confusion_of(given, NAMES)
    assert matrix.names == ("unknown", "none", "damaged", "destroyed")
    assert matrix.counts.tolist() == [[0, 0, 0, 0], [0, 2, 0, 1], [0, 0, 2, 0], [1, 0, 0, 1]]
    # An answer of *unknown* misses a building, and levels under one name are one.
    assert macro_f1(matrix) == pytest.approx((4 / 5 + 1 + 1 / 2) / 3)


def test_a_level_that_is_neither_there_nor_told_is_not_averaged():
    matrix = confusion_of(buildings([1, 4], [1, 4]), NAMES)
    assert macro_f1(matrix) == 1.0
    assert macro_f1(confusion_of(buildings([1, 1], [1, 4]), NAMES)) == pytest.approx((2 / 3 + 0) / 2)
    assert math.isnan(macro_f1(confusion_of(buildings([], []), NAMES)))


def pairs_auc(scores, truth, strata=None) -> float:
    won, pairs = 0.0, 0
    for i in np.flatnonzero(truth):
        for j in np.flatnonzero(~truth):
            if strata is None or strata[i] == strata[j]:
                won += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
                pairs += 1
    return won / pairs


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_the_share_of_pairs_and_ties_count_half(seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, 6, 60) / 5, rng.random(60) < 0.3
    strata = rng.choice(["a", "b", "c"], 60)
    assert roc_auc(scores, truth) == pytest.approx(pairs_auc(scores, truth))
    assert roc_auc(scores, truth, strata) == pytest.approx(pairs_auc(scores, truth, strata))
    assert roc_auc(np.zeros(60), truth) == 0.5
    assert roc_auc(-scores, truth) == pytest.approx(1 - roc_auc(scores, truth))


def test_auc_without_pairs_is_unknown():
    assert math.isnan(roc_auc(np.array([0.1, 0.2]), np.array([True, True])))
    assert math.isnan(roc_auc(np.zeros(0), np.zeros(0, bool)))
    assert math.isnan(roc_auc(np.array([0.1, 0.2]), np.array([True, False]), np.array([1, 2])))


def test_within_strata_a_cue_that_is_the_stratum_is_worth_nothing():
    rng = np.random.default_rng(5)
    size = rng.integers(0, 4, 800)
    truth = rng.random(800) < 0.1 + 0.25 * (size == 3)
    assert roc_auc(size.astype(float), truth) > 0.6
    assert roc_auc(size.astype(float), truth, size) == 0.5


def test_intervals_draw_tiles_not_buildings():
    rng = np.random.default_rng(6)
    truth = rng.random(400) < 0.5
    scores = truth + rng.normal(0, 1.0, 400)
    by_tile = auc_interval(scores, truth, np.arange(400) % 4)
    by_building = auc_interval(scores, truth, np.arange(400))
    assert by_building.low < by_building.value < by_building.high
    assert by_building.value == by_tile.value == pytest.approx(pairs_auc(scores, truth))
    # Copies of one building are one building.
    copies = np.repeat(np.arange(40), 10)
    many = auc_interval(scores[copies], truth[copies], copies)
    few = auc_interval(scores[:40], truth[:40], np.arange(40))
    assert (many.low, many.high) == pytest.approx((few.low, few.high))
    alone = auc_interval(scores, truth, np.zeros(400))
    assert alone.value == by_tile.value
    assert math.isnan(alone.low)


def test_recall_at_one_per_cent_of_false_alarms_by_hand():
    negative, positive = np.arange(200) / 200, np.array([0.999, 0.992, 0.987, 0.3])
    scores, truth = np.append(negative, positive), np.append(np.zeros(200, bool), np.ones(4, bool))
    # Two of 200 may be false alarms, those of 0.995 and 0.990: what lies over 0.985 is found.
    assert recall_at(scores, truth) == 0.75
    assert recall_at(scores, truth, false_alarms=0.0) == 0.25
    assert recall_at(scores, truth, false_alarms=1.0) == 1.0
    # Equal scores are passed together, so none of these can be found.
    assert recall_at(np.ones(204), truth) == 0.0
    assert math.isnan(recall_at(negative, np.zeros(200, bool)))
    interval = recall_interval(scores, truth, np.arange(204) % 30)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_precision_at_one_per_cent_of_damaged_buildings():
    assert precision_at(1.0) == pytest.approx(0.01 / (0.01 + 0.0099))
    assert precision_at(0.5) == pytest.approx(0.005 / (0.005 + 0.0099))
    assert precision_at(0.0) == 0.0


def test_quartiles_split_by_size():
    area = np.random.default_rng(7).permutation(np.arange(100.0))
    quartile = area_quartiles(area)
    assert np.bincount(quartile).tolist() == [25] * 4
    assert area[quartile == 0].max() < area[quartile == 1].min()
    assert area_quartiles(np.zeros(0)).tolist() == []


def test_f1_of_a_level_against_the_rest():
    told, truth = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 1], bool)
    interval = f1_interval(told, truth, np.array(["a", "a", "b", "b", "c"]))
    assert interval.value == pytest.approx(4 / 6)
    assert interval.low <= interval.value <= interval.high


def test_all_scores_are_json_and_agree_with_each_other():
    rng = np.random.default_rng(8)
    truth = rng.choice([1, 1, 1, 2, 4, 255], 300)
    damaged = np.where(truth == 4, 1.0, 0.0) + rng.normal(0, 0.3, 300)
    told = np.where(damaged > 0.5, 4, 1)
    told[:5], damaged[:5] = 0, NAN
    given = buildings(truth, told, damaged, tile=np.arange(300) % 10, area=rng.uniform(20, 400, 300))
    found = score_buildings(given, NAMES)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["buildings"] == (truth != 255).sum()
    assert found["unknown"] == (truth[:5] != 255).sum()
    assert found["counts"] == {
        "none": (truth == 1).sum(), "damaged": (truth == 2).sum(), "destroyed": (truth == 4).sum(),
    }  # fmt: skip
    assert found["f1"]["damaged"] == 0.0
    assert found["positive_f1"][0] == found["f1"]["destroyed"]
    judged = (truth != 255) & np.isfinite(damaged)
    assert found["auc"][0] == pytest.approx(pairs_auc(damaged[judged], truth[judged] == 4), abs=1e-4)
    assert found["auc"][1] < found["auc"][0] < found["auc"][2]
    assert 0.5 <= found["auc_of_area"][0] < 0.65
    assert len(found["auc_by_area_quartile"]) == 4
    wider = score_buildings(given, NAMES, positive=(2, 3, 4))
    assert wider["auc"][0] < found["auc"][0]


def test_one_kind_of_building_has_no_ranking():
    found = score_buildings(buildings([1, 1], [1, 1]), NAMES)
    assert "auc" not in found
    assert found["macro_f1"] == 1.0
    assert found["positive_f1"] == [None, None, None]
    nothing = score_buildings(buildings([], []), NAMES)
    assert (nothing["buildings"], nothing["macro_f1"]) == (0, None)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_buildings_that_answer_as_a_whole_score_what_their_labels_say(noise):
    rng = np.random.default_rng(9)
    outlines = [
        shapely.box(x, y, x + w, y + h)
        for x in range(4, 190, 24)
        for y in range(4, 190, 24)
        for w, h in [rng.uniform(6, 18, 2)]
    ]
    levels = rng.integers(1, 5, len(outlines))
    truth = burn(outlines, levels.tolist(), 200, 200)
    logits = np.stack([3.0 * (truth == level) for level in (1, 2, 3, 4)])
    logits += noise * rng.gumbel(size=logits.shape) * 2
    p = np.exp(8.0 * logits if noise == 0 else logits)
    codes = np.rint(p / p.sum(axis=0) * 254).astype(np.uint8)

    grid = Grid(200, 200, Affine.identity(), None, 0.5, (1.0, 1.0))
    steps = pool_footprints(
        lambda w: codes[:, w.row : w.row + w.height, w.col : w.col + w.width],
        4, grid, np.array(outlines, object), block_px=64,
    )  # fmt: skip
    while True:
        try:
            next(steps)
        except StopIteration as end:
            told = pool_levels(end.value, MEAN).argmax(axis=1) + 1
            break
    found = (truth > 0).astype(np.uint8)
    by_building = burn(outlines, told.tolist(), 200, 200)
    by_pixel = (codes.argmax(axis=0) + 1).astype(np.uint8)
    score = {
        name: xview2_scores(xview2_counts(found > 0, damage, found, truth)).score
        for name, damage in (("buildings", by_building), ("pixels", by_pixel))
    }
    assert score["buildings"] == pytest.approx(1.0, abs=1e-5)
    assert (score["pixels"] < 0.9) == (noise > 0)
