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
from .statistics import Estimate, Reviewed, Stratum, estimate_levels, predict_part, reviewed_in_order

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
        districts: Name of a district to its rows; their estimates take the model to err alike everywhere.
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
    sample = _sample(buildings)
    estimates = _estimates(buildings, sample)
    parts: dict[str, list[Building]] = {name: [] for name in names} if districts is not None else {}
    if districts is not None:
        for building in buildings:
            parts.setdefault(districts.get(building.id, ""), []).append(building)
    return Summary(
        rows=_rows(buildings, levels, estimates),
        reviewed=sum(building.is_reviewed for building in buildings),
        sampled=len(sample),
        districts={
            name: _rows(part, levels, _predictions(part, sample) if estimates else {})
            for name, part in parts.items()
        },
        first=_most_urgent(buildings),
    )


def _rows(
    buildings: Iterable[Building], levels: Sequence[Level], estimates: Mapping[int, Estimate]
) -> tuple[Row, ...]:
    tally = {level.code: [0, 0.0] for level in levels}
    for building in buildings:
        code = building.level if building.level in tally else UNKNOWN
        tally[code][0] += 1
        tally[code][1] += building.area_m2
    return tuple(Row(level, *tally[level.code], estimates.get(level.code)) for level in levels)


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


def _sample(buildings: Sequence[Building]) -> list[Reviewed]:
    """The reviewed buildings that are a random sample."""
    reviewed = {building.id for building in buildings if building.is_reviewed}
    chosen = set(reviewed_in_order(strata_of(buildings), reviewed)) if reviewed else set()
    return [_as_reviewed(building) for building in buildings if building.id in chosen]


def _as_reviewed(building: Building) -> Reviewed:
    return Reviewed(building.model_level, building.level, building.area_m2)


def _estimates(buildings: Sequence[Building], sample: Sequence[Reviewed]) -> dict[int, Estimate]:
    """Estimates by level; buildings of which nothing was seen stay unknown."""
    if not sample:
        return {}
    strata, unseen = _stratify(buildings)
    return _with_unseen(estimate_levels(strata, sample), unseen)


def _predictions(part: Sequence[Building], sample: Sequence[Reviewed]) -> dict[int, Estimate]:
    """The same for a part of the buildings, from the sample of all."""
    strata, unseen = _stratify(part)
    reviewed = [_as_reviewed(b) for b in part if b.is_reviewed and b.model_level != UNKNOWN]
    return _with_unseen(predict_part(strata, reviewed, sample), unseen)


def _stratify(buildings: Iterable[Building]) -> tuple[dict[int, Stratum], Stratum]:
    """The strata, and the buildings of which nothing was seen."""
    totals: dict[int, list[float]] = {UNKNOWN: [0, 0.0]}
    for building in buildings:
        total = totals.setdefault(building.model_level, [0, 0.0])
        total[0] += 1
        total[1] += building.area_m2
    strata = {level: Stratum(int(count), area) for level, (count, area) in totals.items()}
    return strata, strata.pop(UNKNOWN)


def _with_unseen(estimates: dict[int, Estimate], unseen: Stratum) -> dict[int, Estimate]:
    if UNKNOWN in estimates:
        estimates[UNKNOWN] = estimates[UNKNOWN].plus(unseen.count, unseen.area_m2)
    return estimates
