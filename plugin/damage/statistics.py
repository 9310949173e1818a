"""What a reviewed sample says about all buildings: stratified sampling, and estimates with intervals.

Standard library only, without QGIS. The strata are the levels that the model named: within each, buildings
are drawn at random, so that the sample corrects the model's counts whatever the model confuses.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

SAMPLE_SIZE = 100
LEAST_PER_STRATUM = 15
LEAST_FOR_ESTIMATE = 3  # reviewed buildings of a stratum; fewer say next to nothing
SEED = 1
Z_95 = 1.959964  # quantile of the normal distribution for two-sided 95 %


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def plus(self, known: float) -> Interval:
        """The interval of a sum with what is known for certain."""
        return Interval(self.value + known, self.low + known, self.high + known)


@dataclass(frozen=True)
class Stratum:
    """All buildings of which the model named one level: how many, and their area in square metres."""

    count: int
    area_m2: float


@dataclass(frozen=True)
class Reviewed:
    """A building of the sample: the level that the model named, the analyst's, and its area."""

    stratum: int
    level: int
    area_m2: float


@dataclass(frozen=True)
class Estimate:
    """How many buildings are of a level, and their area in square metres."""

    count: Interval
    area_m2: Interval

    def plus(self, count: int, area_m2: float) -> Estimate:
        """The estimate together with buildings of which the level is certain."""
        return Estimate(self.count.plus(count), self.area_m2.plus(area_m2))


def allocate(
    sizes: Mapping[int, int], total: int = SAMPLE_SIZE, least: int = LEAST_PER_STRATUM
) -> dict[int, int]:
    """How many buildings to draw from each stratum.

    In proportion to the square root of the stratum's size (power allocation: Bankier, The American
    Statistician 42, 1988), which is between equal shares, good for the rare levels, and proportional ones,
    good for the total. A larger `total` only adds to each.

    Args:
        sizes: Stratum to number of its buildings.
        total: Size of the sample; where there are fewer buildings, all are drawn.
        least: From each stratum at least so many, or all of it.
    """
    least = min(least, total // max(len(sizes), 1))
    drawn = {stratum: min(size, least) for stratum, size in sizes.items()}
    for _ in range(min(total, sum(sizes.values())) - sum(drawn.values())):
        unexhausted = (s for s in sizes if drawn[s] < sizes[s])
        drawn[max(unexhausted, key=lambda s: (math.sqrt(sizes[s]) / (drawn[s] + 1), s))] += 1
    return drawn


def draw_sample(strata: Mapping[int, int], total: int = SAMPLE_SIZE, seed: int = SEED) -> list[int]:
    """Ids of the sample, in the order of the review.

    Strata take turns, so that a review that ends early is a stratified sample too. The same ids give the same
    sample, whatever their order: a review goes on where it stopped.

    Args:
        strata: Id of a building to its stratum.
        total: Size of the sample.
        seed: Of the chance.
    """
    members = _shuffled(strata, seed)
    drawn = allocate({stratum: len(ids) for stratum, ids in members.items()}, total)
    turns = [
        ((rank + 0.5) / drawn[stratum], stratum, id_)
        for stratum, ids in members.items()
        for rank, id_ in enumerate(ids[: drawn[stratum]])
    ]
    return [id_ for _, _, id_ in sorted(turns)]


def reviewed_in_order(strata: Mapping[int, int], reviewed: set[int], seed: int = SEED) -> list[int]:
    """Those reviewed buildings that are a random sample: in each stratum the first ones of its random order.

    What was reviewed besides, because it looked odd or lay near, would skew the estimate and is left out.
    """
    return [id_ for ids in _shuffled(strata, seed).values() for id_ in takewhile(reviewed.__contains__, ids)]


def estimate_levels(strata: Mapping[int, Stratum], sample: Iterable[Reviewed]) -> dict[int, Estimate]:
    """How many buildings are truly of each level, and their area, in all strata together.

    The stratified estimator (Cochran, Sampling Techniques, 1977, chapter 5; for maps: Olofsson et al., Remote
    Sensing of Environment 148, 2014). The interval of a stratum is Wilson's, for areas with Kish's effective
    sample size; they are combined by the recovery of variances (Zou and Donner, Statistics in Medicine 27,
    2008). Unlike the textbook's symmetric interval it is not of zero width where a small sample happens to
    agree throughout.

    Args:
        strata: All buildings by the level that the model named.
        sample: Those that were reviewed.

    Returns:
        Level to its estimate, for each level that is a stratum or occurs in the sample; empty as long as some
        stratum has too small a sample.
    """
    drawn: dict[int, list[Reviewed]] = {stratum: [] for stratum in strata}
    for building in sample:
        drawn[building.stratum].append(building)
    if not strata or any(
        len(drawn[s]) < min(LEAST_FOR_ESTIMATE, stratum.count) for s, stratum in strata.items()
    ):
        return {}
    levels = sorted({*strata, *(b.level for buildings in drawn.values() for b in buildings)})
    return {
        level: Estimate(
            _total(level, [(strata[s], strata[s].count, [(b.level, 1.0) for b in drawn[s]]) for s in strata]),
            _total(
                level,
                [(strata[s], strata[s].area_m2, [(b.level, b.area_m2) for b in drawn[s]]) for s in strata],
            ),
        )
        for level in levels
    }


def predict_part(
    part: Mapping[int, Stratum], reviewed: Sequence[Reviewed], sample: Sequence[Reviewed]
) -> dict[int, Estimate]:
    """How many buildings of a part of the area, such as a district, are truly of each level, and their area.

    A part has few reviewed buildings of its own. Of those the level is certain; the others are predicted from
    the sample of the whole area, as if the model confused levels alike everywhere (the synthetic estimator:
    Rao and Molina, Small Area Estimation, 2015, chapter 3). The interval of a stratum is Wilson's for so many
    further draws, for which the sizes of sample and part are combined harmonically; the smaller the part, the
    wider it is.

    Args:
        part: All buildings of the part by the level that the model named.
        reviewed: Those of them that were reviewed.
        sample: The random sample of the whole area.

    Returns:
        Level to its estimate, for each level that is a stratum or occurs among the reviewed; those of strata
        without a sample are left as the model says.
    """
    levels = sorted({*part, *(b.level for b in (*reviewed, *sample))})
    drawn: dict[int, list[Reviewed]] = {stratum: [] for stratum in part}
    known: dict[int, list[Reviewed]] = {stratum: [] for stratum in part}
    for building in sample:
        drawn.setdefault(building.stratum, []).append(building)
    for building in reviewed:
        known[building.stratum].append(building)
    return {
        level: Estimate(
            _predicted(level, [(s, part[s].count, part[s].count, known[s], drawn[s]) for s in part], _one),
            _predicted(level, [(s, part[s].count, part[s].area_m2, known[s], drawn[s]) for s in part], _area),
        )
        for level in levels
    }


def _one(_: Reviewed) -> float:
    return 1.0


def _area(building: Reviewed) -> float:
    return building.area_m2


def _predicted(
    level: int,
    parts: Iterable[tuple[int, int, float, Sequence[Reviewed], Sequence[Reviewed]]],
    weigh: Callable[[Reviewed], float],
) -> Interval:
    """The sum over strata of what is of a level: what was seen, and what the sample says of the rest.

    Args:
        level: The level.
        parts: Each stratum with its count and weight in the part, those reviewed there, and the sample.
        weigh: What a building counts for.
    """
    value = seen = below = above = 0.0
    for stratum, count, weight, known, drawn in parts:
        seen += sum(weigh(b) for b in known if b.level == level)
        rest = max(weight - sum(map(weigh, known)), 0.0)
        weights = [(b.level, weigh(b)) for b in drawn]
        if not sum(w for _, w in weights):
            value += rest * (stratum == level)
        elif count > len(known):
            share, low, high = _wilson(level, weights, 1.0 + _effective(weights) / (count - len(known)))
            value += rest * share
            below += (rest * (share - low)) ** 2
            above += (rest * (high - share)) ** 2
    value += seen
    return Interval(value, max(value - math.sqrt(below), seen), value + math.sqrt(above))


def _total(level: int, parts: Iterable[tuple[Stratum, float, list[tuple[int, float]]]]) -> Interval:
    """The sum over strata of what is of a level, where buildings count by their weight.

    Args:
        level: The level.
        parts: Each stratum, its total weight, and level and weight of its reviewed buildings.
    """
    value = below = above = known = known_other = whole = 0.0
    for stratum, weight, reviewed in parts:
        share, low, high = _share(level, stratum.count, reviewed)
        value += weight * share
        below += (weight * (share - low)) ** 2
        above += (weight * (high - share)) ** 2
        known += sum(w for named, w in reviewed if named == level)
        known_other += sum(w for named, w in reviewed if named != level)
        whole += weight
    # What was seen is certain: no fewer than those, and no more than the others leave.
    low = max(value - math.sqrt(below), min(known, value))
    high = min(value + math.sqrt(above), max(whole - known_other, value))
    return Interval(value, low, high)


def _share(level: int, size: int, reviewed: list[tuple[int, float]]) -> tuple[float, float, float]:
    """Share of a level in a stratum, by weight, with Wilson's interval for a finite population."""
    if not sum(w for _, w in reviewed):
        return 0.0, 0.0, 0.0 if size == 0 else 1.0
    if len(reviewed) >= size:
        share = sum(w for named, w in reviewed if named == level) / sum(w for _, w in reviewed)
        return share, share, share
    return _wilson(level, reviewed, (size - len(reviewed)) / (size - 1))


def _wilson(level: int, reviewed: list[tuple[int, float]], width: float) -> tuple[float, float, float]:
    """Share of a level by weight, with Wilson's interval for a variance of `width` times the binomial's."""
    share = sum(w for named, w in reviewed if named == level) / sum(w for _, w in reviewed)
    effective = _effective(reviewed) / width
    centre = (share + Z_95**2 / (2 * effective)) / (1 + Z_95**2 / effective)
    spread = math.sqrt(share * (1 - share) / effective + Z_95**2 / (4 * effective**2))
    half = Z_95 * spread / (1 + Z_95**2 / effective)
    return share, max(centre - half, 0.0), min(centre + half, 1.0)


def _effective(reviewed: list[tuple[int, float]]) -> float:
    """Kish's effective sample size."""
    return sum(w for _, w in reviewed) ** 2 / sum(w * w for _, w in reviewed)


def _shuffled(strata: Mapping[int, int], seed: int) -> dict[int, list[int]]:
    """Ids of each stratum in an order that depends on the seed and each id alone."""
    members: dict[int, list[int]] = {}
    for id_, stratum in strata.items():
        members.setdefault(stratum, []).append(id_)
    for ids in members.values():
        ids.sort(key=lambda id_: hashlib.blake2b(f"{seed}/{id_}".encode(), digest_size=8).digest())
    return dict(sorted(members.items()))
