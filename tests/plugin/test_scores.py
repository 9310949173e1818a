"""The numbers among what a damage model is judged by."""

from __future__ import annotations

import math

import pytest

from aftermap.plugin.scores import as_number, damage_scores, is_damage_result


@pytest.mark.parametrize(
    ("value", "number"),
    [(0.5, 0.5), (3, 3), (None, None), (math.nan, None), ({"a": 1}, None), ([1, 2, 3], None), (True, None)],
)
def test_only_numbers_are_numbers(value, number):
    assert as_number(value) == number


def test_scores_are_found_where_they_are_and_left_out_where_nothing_could_be_judged():
    values = {
        "building_iou": 0.6,
        "macro_f1": None,
        "positive_f1": [0.9, 0.8, 0.95],
        "auc": [None, None, None],
        "auc_within_tiles": [],
        "xview2_by_building": {"score": 0.7, "damage_f1": 0.6},
        "f1": {"destroyed": 0.5},
        "buildings": 12,
    }
    assert is_damage_result(values)
    assert damage_scores(values) == {
        "BUILDING_IOU": 0.6,
        "DESTROYED_F1": 0.9,
        "XVIEW2": 0.7,
        "BUILDINGS": 12,
    }


def test_scores_of_tiles_are_none_of_damage():
    assert damage_scores({"iou": 0.5, "building_iou": 0.4}) == {}
