"""Sampling and estimates of the review: properties, and the intervals' coverage in simulated towns."""

from __future__ import annotations

import random

import pytest

from aftermap.plugin.damage.statistics import (
    LEAST_FOR_ESTIMATE,
    Reviewed,
    Stratum,
    allocate,
    draw_sample,
    estimate_levels,
    predict_part,
    reviewed_in_order,
)

# How often the model names a level (outer) where the truth is another (inner).
CONFUSION = {1: {1: 0.95, 2: 0.04, 4: 0.01}, 2: {1: 0.3, 2: 0.6, 4: 0.1}, 4: {2: 0.2, 4: 0.8}}
NAMED = {1: 1500, 2: 300, 4: 120}


def town(chance):
    """Id → level that the model named, true level, area."""
    rows = []
    for named, count in NAMED.items():
        truths = chance.choices([*CONFUSION[named]], [*CONFUSION[named].values()], k=count)
        rows += [(named, true) for true in truths]
    return {id_: (*row, chance.lognormvariate(4.5, 0.6)) for id_, row in enumerate(rows)}


def strata_of(buildings):
    return {
        named: Stratum(
            sum(n == named for n, _, _ in buildings.values()),
            sum(area for n, _, area in buildings.values() if n == named),
        )
        for named in {n for n, _, _ in buildings.values()}
    }


def estimate(buildings, ids):
    return estimate_levels(strata_of(buildings), [Reviewed(*buildings[id_]) for id_ in ids])


def predict(buildings, part, ids):
    """The estimate of a part of the buildings, from a sample of all."""
    there = {id_: buildings[id_] for id_ in part}
    reviewed = [Reviewed(*there[id_]) for id_ in ids if id_ in there]
    return predict_part(strata_of(there), reviewed, [Reviewed(*buildings[id_]) for id_ in ids])


def test_each_stratum_gives_some_and_all_together_the_total():
    drawn = allocate({1: 90_000, 2: 500, 3: 20, 4: 4})
    assert sum(drawn.values()) == 100
    assert drawn[4] == 4, "all of a stratum that is smaller than the least"
    assert drawn[1] > drawn[2] >= drawn[3] >= 15


def test_small_towns_are_reviewed_whole():
    assert allocate({1: 30, 4: 5}) == {1: 30, 4: 5}
    assert allocate({}) == {}


@pytest.mark.parametrize("total", [1, 3, 7, 40, 150])
def test_sample_has_the_size_that_was_asked_for(total):
    assert sum(allocate({1: 900, 2: 80, 3: 50, 4: 7}, total).values()) == total


def test_larger_sample_contains_the_smaller_one():
    strata = {id_: 1 + id_ % 4 for id_ in range(1000)}
    assert set(draw_sample(strata, 60)) < set(draw_sample(strata, 140))


def test_sample_depends_on_nothing_but_the_buildings():
    strata = {id_: 1 + id_ % 3 for id_ in range(400)}
    backwards = dict(reversed(strata.items()))
    assert draw_sample(strata) == draw_sample(backwards)
    assert draw_sample(strata) != draw_sample(strata, seed=2)
    assert len(set(draw_sample(strata))) == 100


def test_any_beginning_of_the_sample_is_spread_over_the_strata():
    strata = {id_: 4 if id_ < 40 else 1 for id_ in range(2000)}
    first = draw_sample(strata)[:20]
    assert 1 < sum(strata[id_] == 4 for id_ in first) < 19


def test_what_was_reviewed_besides_the_sample_does_not_count():
    strata = {id_: 1 + id_ % 2 for id_ in range(500)}
    sample = draw_sample(strata)[:30]
    others = set(range(500)) - set(draw_sample(strata, 200))
    assert set(reviewed_in_order(strata, {*sample, *others})) == set(sample)


def test_estimates_add_up_to_all_buildings():
    buildings = town(random.Random(1))
    result = estimate(buildings, draw_sample({id_: row[0] for id_, row in buildings.items()}))
    assert sum(e.count.value for e in result.values()) == pytest.approx(len(buildings))
    total_area = sum(area for *_, area in buildings.values())
    assert sum(e.area_m2.value for e in result.values()) == pytest.approx(total_area)


def test_census_is_exact():
    buildings = town(random.Random(2))
    result = estimate(buildings, buildings)
    for level, answer in result.items():
        count = sum(true == level for _, true, _ in buildings.values())
        assert (answer.count.low, answer.count.value, answer.count.high) == pytest.approx((count,) * 3)


def test_agreement_throughout_is_no_certainty():
    buildings = dict.fromkeys(range(1000), (1, 1, 100.0))
    answer = estimate(buildings, range(20))[1]
    assert answer.count.value == 1000
    assert 800 < answer.count.low < 900


def test_no_fewer_than_were_seen_and_no_more_than_the_others_leave():
    buildings = {id_: (1, 4 if id_ == 0 else 1, 100.0) for id_ in range(12)}
    answers = estimate(buildings, range(10))
    assert answers[4].count.low >= 1
    assert answers[4].count.high <= 3


def test_no_estimate_before_each_stratum_was_looked_at():
    buildings = town(random.Random(3))
    of_one = [id_ for id_, row in buildings.items() if row[0] == 1]
    assert estimate(buildings, of_one) == {}
    assert LEAST_FOR_ESTIMATE > 1


@pytest.mark.parametrize("quantity", ["count", "area_m2"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(quantity):
    chance = random.Random(4)
    buildings = town(chance)
    truth = {
        level: sum(1 if quantity == "count" else row[2] for row in buildings.values() if row[1] == level)
        for level in (1, 2, 4)
    }
    strata = {id_: row[0] for id_, row in buildings.items()}
    runs, held = 300, dict.fromkeys(truth, 0)
    for seed in range(runs):
        answers = estimate(buildings, draw_sample(strata, seed=seed))
        for level, true in truth.items():
            interval = getattr(answers[level], quantity)
            held[level] += interval.low <= true <= interval.high
    for level, times in held.items():
        assert times / runs >= 0.91, (level, times / runs)
    assert min(held.values()) / runs < 1, "intervals that always hold are too wide"


def test_parts_add_up_to_the_whole():
    buildings = town(random.Random(5))
    sample = draw_sample({id_: row[0] for id_, row in buildings.items()})
    halves = [predict(buildings, part, sample) for part in (range(800), range(800, 1920))]
    for level, whole in estimate(buildings, sample).items():
        for name in ("count", "area_m2"):
            parts = sum(getattr(half[level], name).value for half in halves)
            # Areas: the ratio of the sample is applied to what was not reviewed, and not to all.
            assert parts == pytest.approx(getattr(whole, name).value, rel=1e-9 if name == "count" else 0.1)


def test_a_part_that_was_reviewed_whole_is_certain():
    buildings = town(random.Random(6))
    part = range(1490, 1520)
    for level, answer in predict(buildings, part, range(1400, 1920)).items():
        count = sum(buildings[id_][1] == level for id_ in part)
        assert (answer.count.low, answer.count.value, answer.count.high) == pytest.approx((count,) * 3)


def test_the_smaller_the_part_the_wider_its_interval_for_its_size():
    buildings = town(random.Random(7))
    sample = draw_sample({id_: row[0] for id_, row in buildings.items()})
    unseen = [id_ for id_ in range(1500) if id_ not in sample]
    widths = []
    for size in (20, 200, 1000):
        count = predict(buildings, unseen[:size], sample)[1].count
        widths.append((count.high - count.low) / size)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1.2 * widths[2]


def test_a_level_of_which_nothing_was_reviewed_stays_as_the_model_says():
    answer = predict_part({2: Stratum(7, 900.0)}, [], [Reviewed(1, 1, 80.0)])
    assert (answer[2].count.value, answer[2].area_m2.value) == (7, 900.0)


@pytest.mark.parametrize("quantity", ["count", "area_m2"])
def test_intervals_of_parts_hold_the_truth_about_as_often_as_they_say(quantity):
    chance = random.Random(8)
    buildings = town(chance)
    ids = chance.sample(sorted(buildings), len(buildings))
    parts = [ids[i::8] for i in range(8)]
    strata = {id_: row[0] for id_, row in buildings.items()}
    held, runs = dict.fromkeys((1, 2, 4), 0), 60
    for seed in range(runs):
        sample = draw_sample(strata, seed=seed)
        for part in parts:
            for level, answer in predict(buildings, part, sample).items():
                rows = [buildings[id_] for id_ in part if buildings[id_][1] == level]
                true = sum(1 if quantity == "count" else area for *_, area in rows)
                interval = getattr(answer, quantity)
                held[level] += interval.low <= true <= interval.high
    for level, times in held.items():
        assert 0.9 <= times / runs / len(parts) < 1, level
