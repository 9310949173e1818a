"""Findings in words: each fires where it should, and holds its tongue where it should not."""

from __future__ import annotations

import dataclasses
import math

import pytest

from aftermap.core.training.diagnosis import (
    TrainingPlan,
    diagnose_plan,
    diagnose_round,
    diagnose_run,
    expected_shift,
    find_best_round,
    find_early_end,
    find_few_tiles,
    find_few_validation_tiles,
    find_lost_negatives,
    find_never_acting,
    find_no_class,
    find_overfitting,
    find_prior_shift,
    find_shifted_threshold,
    find_underfitting,
    find_worse_than_constant,
)
from aftermap.core.training.schedules import SCHEDULES, build_schedule

PLAN = TrainingPlan(
    schedule=build_schedule("cosine", 500),
    steps=500,
    steps_per_epoch=100,
    train_tiles=200,
    all_tiles=200,
    negative_tiles=30,
    all_negative_tiles=30,
    validation_tiles=40,
    min_share=0.0,
    share=0.08,
    sampled_share=0.09,
)


def test_a_sound_plan_gives_no_findings():
    assert diagnose_plan(PLAN) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"schedule": build_schedule("step", 500, 100, 30)}, "never_acts"),
        ({"schedule": build_schedule("step", 500, 100, 30, "batch")}, "early_end"),
        ({"validation_tiles": 1}, "few_validation_tiles"),
        ({"train_tiles": 12, "min_share": 0.2}, "few_tiles"),
        ({"negative_tiles": 0, "min_share": 0.2}, "lost_negatives"),
        ({"positive_weight": 3.4}, "prior_shift"),
        ({"share": 0.0, "sampled_share": 0.0}, "no_class"),
    ],
)
def test_a_plan_with_one_fault_gives_that_finding(changes, name: str):
    (finding,) = diagnose_plan(dataclasses.replace(PLAN, **changes))
    assert finding.name == name
    assert finding.sentence.endswith(".")


def test_tiles_without_the_class_are_no_fault_but_none_with_it_is():
    assert find_no_class(0.001) is None
    assert find_no_class(0.0) is not None


def test_a_schedule_that_never_acts_is_told_with_its_period_and_the_runs_length():
    finding = find_never_acting(build_schedule("step", 500, 100, 30), 500, 100)
    assert finding is not None
    assert "3000 steps (30 epochs)" in finding.sentence
    assert "500 steps (5 epochs)" in finding.sentence
    assert find_never_acting(build_schedule("step", 500, 100, 2), 500, 100) is None
    for name in set(SCHEDULES) - {"step"}:
        assert find_never_acting(build_schedule(name, 500), 500, 100) is None


@pytest.mark.parametrize(("every", "gone"), [(30, 60), (60, 120)])
def test_a_schedule_stepped_per_batch_is_told_with_the_step_at_which_it_is_over(every: int, gone: int):
    finding = find_early_end(build_schedule("step", 500, 100, every, "batch"), 500, 100)
    assert finding is not None
    assert f"From step {gone} of 500" in finding.sentence
    assert ("within the first epoch" in finding.sentence) == (gone < 100)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_that_suit_the_run_are_not_called_over(name: str):
    for steps in (20, 500):
        assert find_early_end(build_schedule(name, steps, steps / 5, 2), steps, steps / 5) is None


def test_few_validation_tiles():
    assert "1 tile is left" in find_few_validation_tiles(1).sentence
    assert find_few_validation_tiles(8) is None


def test_a_least_share_that_leaves_enough_is_no_fault():
    assert find_few_tiles(100, 300, 0.05) is None
    assert find_few_tiles(12, 12, 0.0) is None  # few, but not because of the least share
    assert "leaves 40 of 900" in find_few_tiles(40, 900, 0.2).sentence


def test_lost_negatives_are_told_where_there_were_some():
    assert "(400)" in find_lost_negatives(0, 400, 0.2).sentence
    assert find_lost_negatives(3, 400, 0.001) is None
    assert find_lost_negatives(0, 0, 0.2) is None


def test_the_expected_shift_is_that_of_a_network_which_fits_perfectly():
    # Two kinds of pixels; the best logit under weighted cross-entropy and another prior has a closed form.
    share, sampled, weight, likelihood_ratio = 0.1, 0.3, 2.0, 4.0
    true_odds = share / (1 - share) * likelihood_ratio
    fitted_odds = weight * sampled / (1 - sampled) * likelihood_ratio
    assert expected_shift(share, sampled, weight) == pytest.approx(math.log(fitted_odds / true_odds))
    assert expected_shift(0.1, 0.1, 3.0) == pytest.approx(math.log(3))


def test_a_prior_shift_is_told_with_its_number():
    finding = find_prior_shift(0.1, 0.1, 3.0)
    assert "+1.1" in finding.sentence
    assert "0.75" in finding.sentence  # odds of 3 : 1
    assert "weight of 3.0" in finding.sentence
    assert "drawing" not in finding.sentence
    assert "drawing 30.0% of the class where the tiles hold 10.0%" in find_prior_shift(0.1, 0.3).sentence
    assert find_prior_shift(0.1, 0.12) is None
    assert find_prior_shift(0.0, 0.1) is None


def test_worse_than_a_constant_guess():
    finding = find_worse_than_constant(0.8, 0.1)
    assert "(0.325)" in finding.sentence
    assert "(0.693)" in finding.sentence
    assert "(0.693)" not in find_worse_than_constant(0.5, 0.1).sentence
    assert find_worse_than_constant(0.2, 0.1) is None


def test_underfitting():
    assert find_underfitting(0.31, 0.1) is not None
    assert find_underfitting(0.15, 0.1) is None


@pytest.mark.parametrize(
    ("training", "validation", "is_found"),
    [
        ([0.5, 0.4, 0.3, 0.2, 0.1], [0.5, 0.4, 0.45, 0.5, 0.6], True),
        ([0.5, 0.4, 0.3, 0.2, 0.1], [0.5, 0.4, 0.38, 0.37, 0.37], False),  # still better
        ([0.5, 0.4, 0.3, 0.2, 0.1], [0.5, 0.4, 0.38, 0.37, 0.6], False),  # one bad round
        ([0.5, 0.4, 0.5, 0.6, 0.7], [0.5, 0.4, 0.5, 0.6, 0.7], False),  # both rise: that is another fault
        ([0.5, 0.4], [0.4, 0.5], False),
        ([0.5, 0.4, 0.3, 0.2, 0.1], [0.4, None, None, None, 0.5], False),
    ],
)
def test_overfitting_is_a_validation_loss_that_rises_while_the_training_loss_falls(
    training, validation, is_found: bool
):
    assert (find_overfitting(training, validation) is not None) == is_found


def test_the_best_round():
    assert find_best_round([(0, 0.5), (10, 0.4), (20, 0.45)]).name == "start_is_best"
    assert find_best_round([(0, 0.1), (10, 0.4), (20, 0.45)]).name == "last_is_best"
    assert find_best_round([(0, 0.1), (10, 0.45), (20, 0.451)]) is None  # it has settled
    assert find_best_round([(0, 0.1), (10, 0.45), (20, 0.4)]) is None
    assert find_best_round([(10, 0.45)]) is None


def test_what_the_calibrated_threshold_is_worth():
    sentence = find_shifted_threshold(0.27, 0.52, 0.41).sentence
    assert all(number in sentence for number in ("0.27", "0.520", "0.410"))
    assert find_shifted_threshold(0.48, 0.52, 0.519) is None


def history(bce: float, iou: list[float], losses: list[float]) -> tuple[list, list]:
    steps = [
        {"step": s, "loss": 1 / s, "bce": bce, "class_share": 0.1} for s in range(10, 100 * len(iou) + 1, 10)
    ]
    rounds = [
        {"step": 100 * i, "iou": i_, "loss": loss}
        for i, (i_, loss) in enumerate(zip(iou, losses, strict=True), start=1)
    ]
    return steps, rounds


def test_a_run_that_goes_well_gives_no_findings():
    steps, rounds = history(0.15, [0.3, 0.4, 0.45, 0.451], [0.3, 0.2, 0.15, 0.15])
    assert diagnose_round(steps, rounds) == diagnose_run(steps, rounds) == []
    assert diagnose_round([], []) == diagnose_run([], []) == []


def test_findings_of_a_run_come_from_its_last_rounds():
    steps, rounds = history(0.8, [0.3, 0.4, 0.42, 0.3], [0.3, 0.2, 0.3, 0.4])
    assert [f.name for f in diagnose_round(steps, rounds)] == ["worse_than_constant", "overfitting"]
    assert diagnose_round(steps, rounds[:1]) == []  # the first round begins with nothing
    steps, rounds = history(0.32, [0.1, 0.12, 0.14, 0.18], [0.3, 0.3, 0.3, 0.3])
    assert [f.name for f in diagnose_run(steps, rounds)] == ["underfitting", "last_is_best"]
