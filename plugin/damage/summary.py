"""How many buildings are of each level, and their area: of a whole layer, and by district.

Standard library only, without QGIS.
"""

from __future__ import annotations

import csv
import heapq
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...core.damage_fields import UNKNOWN, Level
from .statistics import Estimate, Reviewed, Stratum, estimate_levels, reviewed_in_order

ELSEWHERE = "elsewhere"
FIRST = 25  # buildings to look at first
CORRECTED = ("corrected", "corrected_low", "corrected_high")


class Building(NamedTuple):
    """A building of a damage layer.

    Attributes:
        id: The feature's id.
        level: Level that the layer shows, the analyst's where there is one.
        model_level: Level that the model named.
        area_m2: Area of the footprint.
        is_reviewed: Whether an analyst has looked at it.
        triage: Probability of destruction times area; 0 where unknown.
    """

    id: int
    level: int
    model_level: int
    area_m2: float
    is_reviewed: bool
    triage: float


@dataclass(frozen=True)
class Row:
    """The buildings of one level.

    Attributes:
        level: The level.
        count: How many the layer shows.
        area_m2: Their area.
        estimate: How many there are by the reviewed sample; none as long as that is too small.
    """

    level: Level
    count: int
    area_m2: float
    estimate: Estimate | None


@dataclass(frozen=True)
class Summary:
    """The counts of a layer.

    Attributes:
        rows: One for each level, unknown as the last.
        reviewed: How many buildings were reviewed.
        sampled: How many of these are the random sample that the estimates rest on.
        districts: Name of a district to its rows; there are no estimates of a district.
        first: The buildings to look at first, the most urgent one first.
    """

    rows: tuple[Row, ...]
    reviewed: int
    sampled: int
    districts: Mapping[str, tuple[Row, ...]]
    first: tuple[Building, ...]

    @property
    def count(self) -> int:
        """Number of all buildings."""
        return sum(row.count for row in self.rows)

    @property
    def has_estimates(self) -> bool:
        """Whether the reviewed sample corrects the counts."""
        return any(row.estimate for row in self.rows)

    @property
    def basis(self) -> str:
        """What the counts rest on, for files: not translated."""
        if not self.reviewed:
            return "model count, unreviewed"
        return f"model count, {self.reviewed} of {self.count} reviewed"


def summarize(
    buildings: Sequence[Building],
    levels: Sequence[Level],
    districts: Mapping[int, str] | None = None,
    names: Iterable[str] = (),
) -> Summary:
    """Count buildings by level.

    Args:
        buildings: All buildings of a layer.
        levels: The levels that the layer tells apart; others that occur are counted as unknown.
        districts: Id of a building to the district that it lies in.
        names: Districts that are listed, with buildings or without.
    """
    shown = [level.code for level in levels]
    sample = _sample(buildings)
    estimates = _estimates(buildings, sample)
    whole = {code: [0, 0.0] for code in shown}
    parts = {name: {code: [0, 0.0] for code in shown} for name in names} if districts is not None else {}
    for building in buildings:
        code = building.level if building.level in whole else UNKNOWN
        tallies = [whole]
        if districts is not None:
            part = districts.get(building.id, "")
            tallies.append(parts.setdefault(part, {code: [0, 0.0] for code in shown}))
        for tally in tallies:
            tally[code][0] += 1
            tally[code][1] += building.area_m2
    return Summary(
        rows=tuple(Row(level, *whole[level.code], estimates.get(level.code)) for level in levels),
        reviewed=sum(building.is_reviewed for building in buildings),
        sampled=len(sample),
        districts={
            name: tuple(Row(level, *part[level.code], None) for level in levels)
            for name, part in parts.items()
        },
        first=_most_urgent(buildings),
    )


def strata_of(buildings: Iterable[Building]) -> dict[int, int]:
    """Id of each building that the model has named a level for, to that level; the others cannot be seen."""
    return {building.id: building.model_level for building in buildings if building.model_level != UNKNOWN}


def to_csv(summary: Summary) -> str:
    """The counts as a table for other programs, in the form of the worker's.

    A line for each level and one for all; with districts, the same for each. The head of the counts says what
    they rest on; estimates come with their 95 % intervals.
    """
    heads = ["damage", "level", f"buildings ({summary.basis})", "area_m2"]
    if summary.has_estimates:
        heads += [f"{name}_{what}" for what in ("buildings", "area_m2") for name in CORRECTED]
    lines = [_cells(row, summary.has_estimates) for row in summary.rows]
    lines.append(_total(summary.rows, len(heads)))
    if summary.districts:
        heads, lines = ["district", *heads], [["", *line] for line in lines]
        for name, rows in summary.districts.items():
            found = [*(_cells(row, summary.has_estimates) for row in rows), _total(rows, len(heads) - 1)]
            lines += [[name or ELSEWHERE, *line] for line in found]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *lines])
    return text.getvalue()


def _cells(row: Row, has_estimates: bool) -> list[object]:
    corrected: list[object] = [""] * (2 * len(CORRECTED) if has_estimates else 0)
    if row.estimate:
        corrected = [
            f"{value:.0f}"
            for interval in (row.estimate.count, row.estimate.area_m2)
            for value in (interval.value, interval.low, interval.high)
        ]
    return [row.level.code, row.level.name, row.count, f"{row.area_m2:.1f}", *corrected]


def _total(rows: Sequence[Row], length: int) -> list[object]:
    total = ["", "total", sum(row.count for row in rows), f"{sum(row.area_m2 for row in rows):.1f}"]
    return [*total, *[""] * (length - len(total))]


def _most_urgent(buildings: Sequence[Building]) -> tuple[Building, ...]:
    urgent = (building for building in buildings if building.triage > 0 and not building.is_reviewed)
    return tuple(heapq.nlargest(FIRST, urgent, key=lambda building: building.triage))


def _sample(buildings: Sequence[Building]) -> list[int]:
    reviewed = {building.id for building in buildings if building.is_reviewed}
    return reviewed_in_order(strata_of(buildings), reviewed) if reviewed else []


def _estimates(buildings: Sequence[Building], sample: Iterable[int]) -> dict[int, Estimate]:
    """Estimates by level; buildings of which nothing was seen stay unknown."""
    sampled = set(sample)
    if not sampled:
        return {}
    totals: dict[int, list[float]] = {}
    for building in buildings:
        total = totals.setdefault(building.model_level, [0, 0.0])
        total[0] += 1
        total[1] += building.area_m2
    unseen = totals.pop(UNKNOWN, [0, 0.0])
    estimates = estimate_levels(
        {level: Stratum(int(count), area) for level, (count, area) in totals.items()},
        [Reviewed(b.model_level, b.level, b.area_m2) for b in buildings if b.id in sampled],
    )
    if UNKNOWN in estimates:
        estimates[UNKNOWN] = estimates[UNKNOWN].plus(int(unseen[0]), unseen[1])
    return estimates
