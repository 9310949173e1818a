"""What a folder of labelled pairs holds, pair by pair: read once, kept, and read again where it changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from rasterio.crs import CRS

from ..errors import AftermapError, DatasetError, OutputError
from .damage_tiles import ChipFiles, DamageTile, PairFiles, PairFolder, list_pairs, read_pair
from .footprints import Bounds, bounds_of, find_footprint
from .index import IndexProgress
from .masks import IGNORE
from .xbd import fit_georeference, read_buildings

_FORMAT = "aftermap-pairs/1"


@dataclass(frozen=True)
class PairRecord:
    """What is known of a labelled pair.

    Attributes:
        name: As lists name it.
        event: Of which it is.
        width: In pixels.
        height: In pixels.
        gsd_m: Side of a pixel on the ground; a guess where `bounds` is none.
        building_px: Pixels of buildings.
        known_px: Pixels of which the labels say whether they are building.
        buildings: How many there are of each code of `xbd.Damage`, and of `IGNORE`.
        has_pre: Whether there is an image from before.
        is_chip: Whether it shows one building.
        bounds: West, south, east, north in degrees; none where its labels do not tell.
        problem: Why it cannot be used; empty if it can.
    """

    name: str
    event: str
    width: int = 0
    height: int = 0
    gsd_m: float = 0.0
    building_px: int = 0
    known_px: int = 0
    buildings: dict[int, int] = field(default_factory=dict)
    has_pre: bool = False
    is_chip: bool = False
    bounds: Bounds | None = None
    problem: str = ""


@dataclass(frozen=True)
class PairSurvey:
    """A folder of labelled pairs.

    Attributes:
        content: Its files.
        records: What is known of each of them, in their order.
    """

    content: PairFolder
    records: tuple[PairRecord, ...]

    @cached_property
    def usable(self) -> list[PairRecord]:
        """Those without a problem."""
        return [record for record in self.records if not record.problem]

    @property
    def problems(self) -> list[str]:
        """A sentence for each pair that cannot be used, and each file that belongs to none."""
        return [
            *(record.problem for record in self.records if record.problem),
            *(
                f"{self.content.folder / name} lacks its partner or its labels: add them, or remove the file."
                for name in self.content.unmatched
            ),
        ]


def survey_pairs(folder: Path, cache: Path) -> Iterator[IndexProgress | PairSurvey]:
    """Look at a folder; yields progress for each pair that has to be read, and at last the survey.

    Closing the generator before its end keeps what has been read.

    Args:
        folder: Which, as of `read_damage_folder`.
        cache: Folder that keeps what is known between runs.

    Raises:
        DatasetError: There is no folder, it holds no labelled pairs, or none that can be used.
        OutputError: The cache cannot be written.
    """
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}: choose the folder that holds the labelled pairs.")
    content = list_pairs(folder)
    path = cache / f"pairs-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
    known = _load(path)
    prints = {name: _fingerprint(files) for name, files in content.pairs.items()}
    jobs: dict[str, PairRecord | Future[PairRecord]] = {}
    records: list[PairRecord] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for name, files in content.pairs.items():
                old = known.get(name)
                is_known = old is not None and old[0] == prints[name]
                jobs[name] = old[1] if old and is_known else pool.submit(_read, name, files)
            for done, job in enumerate(jobs.values(), start=1):
                if isinstance(job, Future):
                    records.append(job.result())
                    yield IndexProgress(done, len(jobs))
                else:
                    records.append(job)
        finally:
            pool.shutdown(cancel_futures=True)
            kept = {r.name: (prints[r.name], r) for r in records if not r.problem}
            if kept != known:
                _save(path, {**known, **kept} if len(records) < len(jobs) else kept)
    survey = PairSurvey(content, tuple(records))
    if not survey.usable:
        raise DatasetError(f"{folder} holds no pair that can be used ({len(records)}). {records[0].problem}")
    yield survey


def count_buildings(records: Iterable[PairRecord]) -> Counter[int]:
    """How many buildings some pairs show, by code of `xbd.Damage`, and `IGNORE`."""
    total: Counter[int] = Counter()
    for record in records:
        total.update(record.buildings)
    return total


def files_of(files: PairFiles) -> list[Path]:
    """Images and labels of a pair: the image after is the first, what says its damage the second."""
    if isinstance(files, ChipFiles):
        return [files.image, files.mask]
    told = files.labels[1] or files.targets[1]
    others = (files.pre, *files.labels, *files.targets)
    return [files.post, *([told] if told else []), *(p for p in others if p is not None and p != told)]


def image_paths(folder: Path) -> dict[str, str]:
    """The image after of each pair of a folder, by the stem of its `DamageTile`.

    Raises:
        DatasetError: The folder holds no labelled pairs.
    """
    return {files.stem: str(files_of(files)[0]) for files in list_pairs(folder).pairs.values()}


def _read(name: str, files: PairFiles) -> PairRecord:
    try:
        tile = read_pair(files)
        return PairRecord(
            name,
            files.event,
            width=tile.building.shape[1],
            height=tile.building.shape[0],
            gsd_m=tile.gsd_m,
            building_px=int((tile.building == 1).sum()),
            known_px=int((tile.building != IGNORE).sum()),
            buildings=dict(sorted(Counter(b.damage for b in tile.buildings).items())),
            has_pre=tile.pre is not None,
            is_chip=tile.is_chip,
            bounds=_find_bounds(files, tile),
        )
    except AftermapError as error:
        return PairRecord(name, files.event, problem=str(error))


def _find_bounds(files: PairFiles, tile: DamageTile) -> Bounds | None:
    """Where a scene lies, by the coordinates of its buildings."""
    if isinstance(files, ChipFiles) or files.labels[1] is None:
        return None
    outlined = read_buildings(files.labels[1])
    if not any(building.degrees is not None for building in outlined):
        return None
    height, width = tile.building.shape
    footprint = find_footprint(CRS.from_epsg(4326), fit_georeference(outlined)[0], width, height)
    return bounds_of(footprint)


def _fingerprint(files: PairFiles) -> str:
    """Sizes and dates of a pair's files; empty, which fits nothing that is kept, where one is gone."""
    try:
        stats = [path.stat() for path in files_of(files)]
    except OSError:
        return ""
    return ";".join(f"{s.st_size}:{s.st_mtime_ns}:{s.st_ctime_ns}" for s in stats)


def _load(path: Path) -> dict[str, tuple[str, PairRecord]]:
    """What is kept: fingerprint and record by name."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["format"] != _FORMAT:
            return {}
        return {row["name"]: (mark, _record(row)) for mark, row in body["pairs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # none yet, or another version's: it is read anew


def _record(row: dict[str, object]) -> PairRecord:
    """A record from JSON, which knows no tuples, and no numbers as keys."""
    record = PairRecord(**row)  # type: ignore[arg-type]  # as `asdict` wrote it; others raise a TypeError
    counts = {int(code): count for code, count in record.buildings.items()}
    bounds = None if record.bounds is None else tuple(record.bounds)
    return PairRecord(**{**row, "buildings": counts, "bounds": bounds})  # type: ignore[arg-type]


def _save(path: Path, kept: dict[str, tuple[str, PairRecord]]) -> None:
    pairs = [(mark, asdict(record)) for mark, record in kept.values()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(f".{os.getpid()}.tmp")
        staged.write_text(json.dumps({"format": _FORMAT, "pairs": pairs}), encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        raise OutputError(
            f"What is known of the pairs cannot be kept in {path.parent} ({error.strerror or error}): make "
            "room there, or choose another cache folder."
        ) from error
