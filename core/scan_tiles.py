"""Look at folders of labelled tiles: what is there, what is broken, how often the class is seen."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import JobError, OutputError
from .jobs import CopyTiles, Event, Result, ScanTiles, Warning
from .progress import Span
from .runs import cache_folder, digest
from .tasks import find_tile_task

if TYPE_CHECKING:
    from .datasets.index import TileRecord
    from .datasets.layouts import LabelledTile
    from .datasets.survey import Survey

MOST_PROBLEMS = 100
"""So many sentences about single files a scan tells at most."""

_STEPS = 200  # of progress, at most, in a folder


def scan_tiles(job: ScanTiles) -> Generator[Event, None, None]:
    """Index the folders; `ScanTiles` lists what the result holds.

    Raises:
        DatasetError: A folder cannot be used.
        JobError: A parameter makes no sense.
        OutputError: The cache cannot be written.
    """
    if job.task == "damage":
        from .scan_damage import scan_damage

        yield from scan_damage(job)
        return
    surveys = yield from survey_folders(job, Span(0.0, 1.0))
    concerns = [sentence for survey in surveys for sentence in survey.concerns]
    yield from (Warning(sentence) for sentence in concerns)
    asked = {"folders": job.folders, "task": job.task, "mask_value": job.mask_value}
    path = cache_folder(job.cache) / "indexes" / f"tiles-{digest(asked)[:16]}.json"
    class_name = find_tile_task(job.task).class_name
    tiles = [
        describe_tile(survey.content.folder, tile, record, class_name)
        for survey in surveys
        for tile, record in zip(survey.content.tiles, survey.records, strict=True)
    ]
    write_json(path, tiles)
    yield Result({"tiles": str(path)}, _summarise(surveys, concerns, class_name))


def survey_folders(job: ScanTiles | CopyTiles, span: Span) -> Generator[Event, None, list[Survey]]:
    """Survey the folders of a job, one after the other.

    Raises:
        DatasetError: A folder cannot be used.
        JobError: A parameter makes no sense.
        OutputError: The cache cannot be written.
    """
    if not job.folders:
        raise JobError("No folder of labelled tiles was given: name at least one.")
    from .datasets.index import IndexProgress
    from .datasets.survey import survey_folder

    cache = cache_folder(job.cache) / "indexes"
    surveys: list[Survey] = []
    for number, name in enumerate(job.folders):
        folder = Path(name)
        part = part_of(span, number, len(job.folders))
        yield part.at(0.0, f"Looking at {folder.name}")
        said = 0
        for news in survey_folder(folder, cache, task=job.task, mask_value=job.mask_value):
            if not isinstance(news, IndexProgress):
                surveys.append(news)
            elif news.done - said >= news.total / _STEPS:
                said = news.done
                yield part.at(
                    news.done / news.total, f"Reading {folder.name}: tile {news.done} of {news.total}"
                )
    return surveys


def part_of(span: Span, number: int, count: int) -> Span:
    """The part of a span that the folder with this number, of so many, takes."""
    start, stop = (span.start + (span.stop - span.start) * n / count for n in (number, number + 1))
    return Span(start, stop)


def describe_tile(folder: Path, tile: LabelledTile, record: TileRecord, class_name: str) -> dict[str, Any]:
    """A tile as `ScanTiles` promises it, in JSON values; the class of the task comes first."""
    shares = {}
    if not record.problem:
        shares[class_name] = record.class_share
        if record.building_share is not None:
            shares["building"] = record.building_share
    return {
        "folder": str(folder),
        "stem": tile.stem,
        "image": str(tile.image),
        "mask": str(tile.mask),
        "width": record.width,
        "height": record.height,
        "gsd_m": record.gsd_m,
        "shares": shares,
        "bounds": record.bounds,
        "problem": record.problem,
    }


def write_json(path: Path, body: Any) -> None:
    """Write JSON whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    staged = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}): make room, or choose another folder."
        ) from error


def _summarise(surveys: Sequence[Survey], concerns: Sequence[str], class_name: str) -> dict[str, Any]:
    problems = [*concerns, *(sentence for survey in surveys for sentence in survey.problems)]
    usable = [record for survey in surveys for _, record in survey.usable]
    return {
        "folders": [_describe_folder(survey) for survey in surveys],
        "tiles": sum(len(survey.records) for survey in surveys),
        "usable": len(usable),
        "size_px": value_range(side for r in usable for side in (r.width, r.height)),
        "gsd_m": value_range(r.gsd_m for r in usable if r.gsd_m is not None),
        "classes": _describe_classes(usable, class_name),
        "coding": "; ".join(dict.fromkeys(str(survey.coding) for survey in surveys)),
        "problems": problems[:MOST_PROBLEMS],
        "problem_count": len(problems),
    }


def _describe_folder(survey: Survey) -> dict[str, Any]:
    return {
        "folder": str(survey.content.folder),
        "layout": survey.content.layout,
        "tiles": len(survey.records),
        "usable": len(survey.usable),
        "unmatched": len(survey.content.unmatched),
    }


def _describe_classes(records: Sequence[TileRecord], class_name: str) -> list[dict[str, Any]]:
    """The classes with their shares of the pixels, 0 to 1."""
    known = [r for r in records if r.building_px is not None]
    class_px, building_px = sum(r.class_px for r in records), sum(r.building_px or 0 for r in known)
    classes = [{"name": class_name, "code": 1, "share": class_px / sum(r.valid_px for r in records)}]
    if known:
        classes.append({"name": "building", "code": 2, "share": building_px / sum(r.valid_px for r in known)})
    return classes


def value_range(values: Iterable[float]) -> list[float] | None:
    """The least and the greatest; none where there are no values."""
    found = list(values)
    return [min(found), max(found)] if found else None
