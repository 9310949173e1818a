"""Schedules of the learning rate, and the range test."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from aftermap.core.errors import JobError
from aftermap.core.training.range_test import RangePoint, run_range_test, suggest_rate
from aftermap.core.training.schedules import (
    SCHEDULES,
    Plateau,
    build_schedule,
    cosine_with_warm_up,
    curve,
    first_below,
    first_change,
    warmup_stable_decay,
)


@pytest.mark.parametrize("steps", [5, 300, 4000])
def test_cosine_fits_any_length_of_run(steps: int):
    rates = [cosine_with_warm_up(s, steps) for s in range(steps)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.01)
    assert rates.index(max(rates)) <= max(1, steps // 10)


@pytest.mark.parametrize("steps", [20, 428, 4000])
def test_warmup_stable_decay_learns_at_the_peak_until_the_last_quarter(steps: int):
    rates = [warmup_stable_decay(s, steps) for s in range(steps)]
    assert rates[0] == pytest.approx(1 / (steps // 20), rel=0.1)
    assert rates[steps // 20 : steps * 3 // 4] == [1.0] * (steps * 3 // 4 - steps // 20)
    fall = rates[steps * 3 // 4 :]
    assert fall == sorted(fall, reverse=True)
    assert fall[len(fall) // 4 - 1] == pytest.approx(0.5, abs=0.06)  # 1 - sqrt(1 / 4)
    assert fall[-1] == 0.01


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 500])
def test_a_rate_is_positive_and_never_over_the_peak(name: str, steps: int):
    schedule = build_schedule(name, steps, 10, 3)
    assert all(0 < schedule.factor(s) <= 1 for s in range(min(steps, 300)))


@pytest.mark.parametrize("steps", [20, 137, 1000])
def test_one_cycle_is_that_of_pytorch(steps: int):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1.0, total_steps=steps)
    ours = build_schedule("one_cycle", steps)
    for step in range(steps):
        assert ours.factor(step) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6)
        optimiser.step()
        if step < steps - 1:
            theirs.step()


def test_the_unit_of_a_step_decides_whether_it_acts():
    by_epoch = build_schedule("step", 500, 100, 3, "epoch")
    assert [by_epoch.factor(s) for s in (0, 299, 300, 499)] == pytest.approx([1, 1, 0.1, 0.1])
    by_batch = build_schedule("step", 500, 100, 30, "batch")
    assert [by_batch.factor(s) for s in (29, 30, 60)] == pytest.approx([1, 0.1, 0.01])
    assert first_change(build_schedule("step", 500, 100, 30, "epoch"), 500) is None
    assert first_change(by_epoch, 500) == 300
    assert first_below(by_batch, 500) == 60
    assert first_below(by_epoch, 500) is None


def test_plateau_waits_falls_and_goes_on_from_its_state():
    plateau = Plateau(patience=2)
    for step, score in ((10, 0.5), (20, 0.6), (30, 0.6), (40, 0.55), (50, 0.6)):
        assert plateau.observe(step, score)
    assert [plateau.factor(s) for s in (49, 50, 60)] == pytest.approx([1, 0.1, 0.1])
    plateau.observe(50, 0.6)  # told twice
    resumed = Plateau(patience=2)
    resumed.restore(plateau.state())
    for schedule in (plateau, resumed):
        schedule.observe(60, 0.61)
    assert plateau.factor(99) == resumed.factor(99) == pytest.approx(0.1)
    assert not build_schedule("cosine", 10).observe(5, 0.1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_drawn_curve_spans_the_run_and_is_what_is_trained(name: str):
    schedule = build_schedule(name, 777, 77, 2)
    drawn = curve(schedule, 777, 50)
    assert drawn[0][0] == 0
    assert drawn[-1][0] == 776
    assert 45 <= len(drawn) <= 150
    assert all(factor == schedule.factor(step) for step, factor in drawn)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(drawn))


def test_a_jump_is_drawn_as_one():
    drawn = dict(curve(build_schedule("step", 1000, 100, 4), 1000, 7))
    assert drawn[399] == 1
    assert drawn[400] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong", [{"name": "linear"}, {"name": "step", "step_every": 0}, {"name": "step", "step_unit": "week"}]
)
def test_a_schedule_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(JobError):
        build_schedule(**{"steps": 10, **wrong})


def network_of_one_weight(diverges_from: float = math.inf):
    """Loss x² under gradient descent: it converges under a rate of 1, and is thrown out over it.

    Noise keeps it from the bottom, as batches do.
    """
    x = 1.0

    def take_step(rate: float) -> float:
        nonlocal x
        loss = x * x
        x = max(0.1, abs(x * (1 - 2 * rate))) if rate < diverges_from else math.nan
        return loss

    return take_step


def test_the_range_test_stops_where_training_breaks_and_suggests_a_rate_that_works():
    points = list(run_range_test(network_of_one_weight(), steps=200, highest=100.0))
    assert points[0].learning_rate == pytest.approx(1e-6)
    ratios = {round(b.learning_rate / a.learning_rate, 9) for a, b in itertools.pairwise(points)}
    assert len(ratios) == 1
    assert 1 < points[-1].learning_rate < 100
    assert points[-1].smoothed > 4 * min(p.smoothed for p in points)
    rate = suggest_rate(points)
    assert rate is not None
    assert 0.01 < rate < 0.5


def test_the_range_test_stops_at_what_is_no_number():
    points = list(run_range_test(network_of_one_weight(diverges_from=1e-3)))
    assert points[-1].learning_rate <= 2e-3
    assert all(math.isfinite(p.loss) for p in points)


def points_of(losses: Sequence[float]) -> list[RangePoint]:
    """Points over the six decades up to 1 whose losses need no smoothing."""
    rates = [10 ** (6 * i / (len(losses) - 1) - 6) for i in range(len(losses))]
    return [RangePoint(rate, loss, loss) for rate, loss in zip(rates, losses, strict=True)]


def test_where_the_loss_does_not_rise_again_the_middle_of_its_fall_is_suggested():
    losses = [1.0] * 30 + [1 - 0.05 * i for i in range(11)] + [0.5 - 0.001 * i for i in range(20)]
    assert suggest_rate(points_of(losses)) == pytest.approx(10 ** (6 * 35 / 60 - 6), rel=0.3)


def test_where_it_does_a_tenth_of_the_minimums_rate_is_not_exceeded():
    losses = [1.0] * 35 + [0.8] + [1.5 + i for i in range(25)]
    assert suggest_rate(points_of(losses)) == pytest.approx(10 ** (6 * 35 / 60 - 6) / 10)


def test_one_bad_batch_at_the_start_is_no_descent():
    losses = [3.0, 2.0, *[1.0] * 30, *[0.7] * 29]
    rate = suggest_rate(points_of(losses))
    assert rate is not None
    assert rate > 1e-5


def test_the_smoothed_loss_of_a_constant_is_the_constant():
    points = list(run_range_test(lambda rate: 0.7, steps=20))
    assert [p.smoothed for p in points] == pytest.approx([0.7] * 20)


@pytest.mark.parametrize("losses", [[], [1.0] * 20, [1 + 0.1 * i for i in range(20)]])
def test_where_nothing_was_learned_nothing_is_suggested(losses: list[float]):
    assert suggest_rate([RangePoint(10**-i, loss, loss) for i, loss in enumerate(losses)]) is None
