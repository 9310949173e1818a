"""Look at folders of labelled pairs: how many there are, what is broken, how many buildings of each level."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from .damage_fields import LEVELS, UNKNOWN, level_of
from .datasets.damage_survey import PairRecord, PairSurvey, count_buildings, files_of, survey_pairs
from .datasets.damage_tiles import DEFAULT_GSD_M
from .datasets.index import IndexProgress
from .datasets.masks import IGNORE
from .errors import JobError
from .jobs import Event, Result, ScanTiles, Warning
from .progress import Span
from .runs import cache_folder, digest
from .scan_tiles import MOST_PROBLEMS, part_of, value_range, write_json

_BUILDING = "building"
_UNCLASSIFIED = {"code": IGNORE, "name": "un-classified", "colour": level_of(UNKNOWN).colour}


def scan_damage(job: ScanTiles) -> Generator[Event, None, None]:
    """Survey the folders; `ScanTiles` lists what the result holds.

    Raises:
        DatasetError: A folder cannot be used.
        JobError: No folder was given.
        OutputError: The cache cannot be written.
    """
    if not job.folders:
        raise JobError("No folder of labelled pairs was given: name at least one.")
    surveys = []
    for number, name in enumerate(job.folders):
        span = part_of(Span(0.0, 1.0), number, len(job.folders))
        surveys.append((yield from follow_survey(Path(name), job.cache, span)))
    concerns = [sentence for survey in surveys for sentence in find_concerns(survey)]
    yield from (Warning(sentence) for sentence in concerns)
    key = digest({"folders": job.folders, "task": job.task})[:16]
    path = cache_folder(job.cache) / "indexes" / f"tiles-{key}.json"
    write_json(path, [describe_pair(survey, record) for survey in surveys for record in survey.records])
    yield Result({"tiles": str(path)}, _summarise(surveys, concerns))


def follow_survey(folder: Path, cache: str, span: Span) -> Generator[Event, None, PairSurvey]:
    """Survey a folder, and say how far it is.

    Raises:
        DatasetError: The folder cannot be used.
        OutputError: The cache cannot be written.
    """
    yield span.at(0.0, f"Looking at {folder.name}")
    for news in survey_pairs(folder, cache_folder(cache) / "indexes"):
        if isinstance(news, IndexProgress):
            share = news.done / news.total
            yield span.at(share, f"Reading {folder.name}: pair {news.done} of {news.total}")
        else:
            survey = news
    return survey


def describe_pair(survey: PairSurvey, record: PairRecord) -> dict[str, Any]:
    """A pair as `ScanTiles` promises its tiles, in JSON values."""
    image, *labels = files_of(survey.content.pairs[record.name])
    return {
        "folder": str(survey.content.folder),
        "stem": record.name,
        "image": str(image),
        "mask": str(labels[0]) if labels else "",
        "width": record.width,
        "height": record.height,
        "gsd_m": record.gsd_m or None,
        "shares": {_BUILDING: record.building_px / record.known_px} if record.known_px else {},
        "levels": {str(code): count for code, count in record.buildings.items()},
        "bounds": record.bounds,
        "problem": record.problem,
    }


def find_concerns(survey: PairSurvey) -> list[str]:
    """Sentences about a folder as a whole that a training should know."""
    folder, usable = survey.content.folder, survey.usable
    found = []
    counts = count_buildings(usable)
    known = {code: count for code, count in counts.items() if code != IGNORE}
    if len(known) == 1:
        (code,) = known
        found.append(
            f"All buildings of {folder} are of one level ({level_of(code).name}): damage cannot be learned "
            "from them alone. Add pairs that show both damaged and undamaged buildings."
        )
    if not known:
        found.append(f"No pair of {folder} shows a building whose level is known: there is nothing to learn.")
    unplaced = sum(record.bounds is None and not record.is_chip for record in usable)
    if unplaced:
        found.append(
            f"The labels of {unplaced} of {len(usable)} pairs of {folder} have no coordinates: a pixel of "
            f"theirs is taken for {DEFAULT_GSD_M:g} m wide."
        )
    if not any(record.has_pre for record in usable):
        found.append(
            f"No pair of {folder} has an image from before: damage is judged by the one after alone."
        )
    if len(usable) == 1:
        found.append(
            f"{folder} holds a single usable pair, which cannot be split into training and validation: add "
            "pairs, or name a folder of validation pairs."
        )
    return found


def _summarise(surveys: Sequence[PairSurvey], concerns: Sequence[str]) -> dict[str, Any]:
    problems = [*concerns, *(sentence for survey in surveys for sentence in survey.problems)]
    usable = [record for survey in surveys for record in survey.usable]
    known_px = sum(record.known_px for record in usable)
    share = sum(record.building_px for record in usable) / max(known_px, 1)
    return {
        "folders": [
            {
                "folder": str(survey.content.folder),
                "layout": survey.content.layout,
                "tiles": len(survey.records),
                "usable": len(survey.usable),
                "unmatched": len(survey.content.unmatched),
            }
            for survey in surveys
        ],
        "tiles": sum(len(survey.records) for survey in surveys),
        "usable": len(usable),
        "size_px": value_range(side for record in usable for side in (record.width, record.height)),
        "gsd_m": value_range(record.gsd_m for record in usable),
        "classes": [{"name": _BUILDING, "code": 1, "share": share}],
        "levels": describe_levels(usable),
        "events": sorted({record.event for record in usable}),
        "coding": "; ".join(dict.fromkeys(survey.content.layout for survey in surveys)),
        "problems": problems[:MOST_PROBLEMS],
        "problem_count": len(problems),
    }


def describe_levels(records: Sequence[PairRecord]) -> list[dict[str, Any]]:
    """The levels of damage, each with the number of its buildings; those that are un-classified at last."""
    counts = count_buildings(records)
    found: list[dict[str, Any]] = [
        {"code": one.code, "name": one.name, "colour": one.colour, "buildings": counts[one.code]}
        for one in LEVELS
        if one.code != UNKNOWN
    ]
    if counts[IGNORE]:
        found.append({**_UNCLASSIFIED, "buildings": counts[IGNORE]})
    return found
