"""The index of a folder: what its tiles hold, read once and kept.

Filtering tiles in the data loader reads every mask at every start; the index reads each file once, and again
only when it changed: when its size, its date, or the date of its entry in the file system is another one.
What is kept is how often each value is in a mask, not what the values mean, so that another class needs no
reading.

Of an image only the head and the corners are read, unless these say that pixels of it may be invalid
(nodata, transparency, a white or black collar): labels over such pixels do not count. Of masks over 1024 px a
side every second (third …) row and column is read, from overviews where the file has some; the shares are
then estimates, good to about a thousandth.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import AftermapError, DatasetError, OutputError
from ..raster.georeference import UNREFERENCED
from ..raster.grid import Grid
from ..raster.source import RasterSource
from .folders import check_size, open_labelled
from .footprints import Bounds, Footprint, bounds_of, find_footprint
from .layouts import LabelledTile
from .masks import (
    MaskCoding,
    choose_coding,
    count_class,
    count_values,
    find_common_values,
    find_unknown_value,
    is_noisy,
    label_pixels,
    list_values,
    parse_mask_value,
    read_pixels,
)

_FORMAT = 2
_EXACT_PX = 1024  # a side up to which every pixel of a mask is counted
_SAVE_EVERY_S = 10.0


@dataclass(frozen=True)
class TileRecord:
    """What the index knows of a tile.

    Attributes:
        stem: Its name.
        width: In pixels.
        height: In pixels.
        valid_px: Pixels that are neither nodata nor unlabelled.
        class_px: Pixels of the class among them.
        building_px: Building pixels among them; none where no building mask stands beside that of the class.
        gsd_m: Its ground resolution in metres; none where its file does not tell.
        footprint: Its corners in degrees; none where it is not georeferenced.
        coding: How its mask is coded.
        problem: Why it cannot be used; empty if it can.
    """

    stem: str
    width: int = 0
    height: int = 0
    valid_px: int = 0
    class_px: int = 0
    building_px: int | None = None
    gsd_m: float | None = None
    footprint: Footprint | None = None
    coding: MaskCoding = field(default_factory=MaskCoding)
    problem: str = ""

    @property
    def bounds(self) -> Bounds | None:
        """West, south, east, north in degrees; none where it is not georeferenced."""
        return bounds_of(self.footprint)

    @property
    def class_share(self) -> float:
        """Share of the class among the valid pixels, 0 to 1."""
        return self.class_px / self.valid_px if self.valid_px else 0.0

    @property
    def building_share(self) -> float | None:
        """Share of the building pixels among the valid ones, 0 to 1; none without a building mask."""
        if self.building_px is None:
            return None
        return self.building_px / self.valid_px if self.valid_px else 0.0


@dataclass(frozen=True)
class IndexProgress:
    """How many tiles are indexed."""

    done: int
    total: int


@dataclass(frozen=True)
class _Reading:
    """What was read of a tile, as it is kept.

    Attributes:
        stem: Its name.
        fingerprint: Sizes and dates of its files; another one means that it is read again.
        values: Value of the mask to its number of valid pixels, as of `masks.count_values`.
        is_lasting: Whether `problem` is one of the files' content, and not of the moment.

    The others as in `TileRecord`.
    """

    stem: str
    fingerprint: str
    width: int = 0
    height: int = 0
    gsd_m: float | None = None
    footprint: Footprint | None = None
    values: Mapping[str, int] = field(default_factory=dict)
    building_px: int | None = None
    problem: str = ""
    is_lasting: bool = True


def index_tiles(
    tiles: Sequence[LabelledTile],
    cache: Path,
    gsd_m: float = 1.0,
    mask_value: str = "",
    known_coding: MaskCoding | None = None,
) -> Iterator[IndexProgress | list[TileRecord]]:
    """Index tiles; yields progress, and at last the records in the order of `tiles`.

    Closing the generator before its end keeps what has been read.

    Args:
        tiles: All the tiles of a folder; those that cannot be read are records with a `problem`.
        cache: Folder that keeps the index between runs.
        gsd_m: Ground resolution of tiles that state none (shares do not depend on it).
        mask_value: What in a mask is the class: a code or a colour; empty: it is found out.
        known_coding: What is the class if `mask_value` does not say it; none: it is found out.

    Raises:
        DatasetError: The folder disappeared meanwhile, no mask holds `mask_value`, or there are several
            classes and none was named.
        JobError: `mask_value` is no code and no colour.
        OutputError: The cache cannot be written.
    """
    if mask_value:
        parse_mask_value(mask_value)  # before minutes of reading
    readings = yield from _read_all(tiles, cache, gsd_m)
    histograms = [r.values for r in readings if not r.problem]
    where = str(tiles[0].mask.parent) if tiles else ""
    coding = known_coding or MaskCoding()
    if histograms and (mask_value or not known_coding):
        coding = choose_coding(histograms, mask_value, where)
    noisy = any(is_noisy(h) for h in histograms)
    common = find_common_values(histograms)
    unusual: set[str] = set()
    if not mask_value and not known_coding:  # what a user or a layout says is not questioned
        names = set().union(*histograms)
        unusual = {name for name in names if find_unknown_value({name: 1}, coding, common, noisy)}
    records = []
    for tile, reading in zip(tiles, readings, strict=True):
        problem = reading.problem
        is_usual = unusual.isdisjoint(reading.values)  # which is seen at once, of ten thousand
        if not is_usual and find_unknown_value(reading.values, coding, common, noisy):
            problem = (
                f"The mask {tile.mask} holds {list_values(reading.values)}, unlike the others, where "
                f"{coding}: mend or remove it, or say which value is the class."
            )
        records.append(_record(reading, tile, coding, problem))
    yield records


def _read_all(
    tiles: Sequence[LabelledTile], cache: Path, gsd_m: float
) -> Generator[IndexProgress, None, list[_Reading]]:
    """Read what is not known yet.

    Yields:
        Progress, for each tile that had to be read.

    Returns:
        The readings, in the order of `tiles`.
    """
    path = cache / f"index-{_key(tiles)}.json"
    known = _load(path)
    readings: list[_Reading] = []
    jobs: list[_Reading | Future[_Reading]] = []
    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    is_new = False
    try:
        for tile in tiles:
            fingerprint = _fingerprint(tile)
            old = known.get(tile.stem)
            if old is not None and old.fingerprint == fingerprint:
                jobs.append(old)
            else:
                jobs.append(pool.submit(_read, tile, fingerprint, gsd_m))
        is_new = len(known) != len(tiles) or any(isinstance(job, Future) for job in jobs)
        if is_new:
            _save(path, _kept(tiles, jobs, known))  # a cache that cannot be written is better known before
        saved_at = time.monotonic()
        for i, job in enumerate(jobs):
            readings.append(job.result() if isinstance(job, Future) else job)
            if isinstance(job, Future):
                yield IndexProgress(i + 1, len(tiles))
                if time.monotonic() - saved_at > _SAVE_EVERY_S:
                    _save(path, _kept(tiles, jobs, known))
                    saved_at = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)
        if is_new:
            _save(path, _kept(tiles, jobs, known))
    return readings


def _kept(
    tiles: Sequence[LabelledTile],
    jobs: Sequence[_Reading | Future[_Reading]],
    known: Mapping[str, _Reading],
) -> list[_Reading]:
    """What is known so far: what has been read, and what was known before of the others."""
    kept = []
    for tile, job in zip_longest(tiles, jobs):
        reading = job if isinstance(job, _Reading) else known.get(tile.stem)
        if isinstance(job, Future) and job.done() and not job.cancelled() and job.exception() is None:
            # a problem of the moment says nothing about the file
            reading = job.result() if job.result().is_lasting else reading
        if reading is not None:
            kept.append(reading)
    return kept


def _read(tile: LabelledTile, fingerprint: str, gsd_m: float) -> _Reading:
    """Read a tile.

    Raises:
        DatasetError: Its folder is gone.
    """
    try:
        with open_labelled(tile, gsd_m) as source:
            size = (source.height, source.width)
            step = -(-max(size) // _EXACT_PX)
            pixels = read_pixels(tile.mask, step)
            check_size(tile.mask, pixels.size, size)
            valid = _find_valid(source, pixels.bands.shape[1], pixels.bands.shape[2])
            scale = size[0] * size[1] / pixels.bands[0].size
            building_px = None
            if tile.building_mask is not None:
                buildings = read_pixels(tile.building_mask, step)
                check_size(tile.building_mask, buildings.size, size)
                is_building = label_pixels(buildings, MaskCoding()) == 1
                for seen in (valid, None if pixels.unlabelled is None else ~pixels.unlabelled):
                    is_building = is_building if seen is None else is_building & seen
                building_px = round(int(is_building.sum()) * scale)
            values = count_values(pixels, valid)
            return _Reading(
                tile.stem,
                fingerprint,
                source.width,
                source.height,
                _measure_gsd(source),
                find_footprint(source.crs, source.transform, source.width, source.height),
                {name: round(number * scale) for name, number in values.items()},
                building_px,
            )
    except AftermapError as error:
        is_lasting = all(map(_is_readable, _files(tile)))
        return _Reading(tile.stem, fingerprint, problem=_say_why(tile, error), is_lasting=is_lasting)


def _say_why(tile: LabelledTile, error: AftermapError) -> str:
    """The sentence for a tile that cannot be read.

    Raises:
        DatasetError: It is its folder that cannot.
    """
    for path in _files(tile):
        if not path.parent.is_dir():
            raise DatasetError(
                f"The folder {path.parent} disappeared while it was being read: connect its drive again, or "
                "choose another folder. What was read so far is kept."
            ) from error
        if not path.exists():
            return f"{path} disappeared while its folder was being read: put it back, or scan again."
        if not _is_readable(path):
            return f"{path} cannot be read (permission denied): allow it, or remove the file."
    return str(error)


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _find_valid(source: RasterSource, rows: int, columns: int) -> NDArray[np.bool_] | None:
    """Which pixels are valid: bool (rows, columns), a size that may be less than the image's; none: all."""
    if not source.may_have_gaps:
        return None
    reduced = (source.width / columns, source.height / rows)
    grid = Grid(columns, rows, source.transform, source.crs, 1.0, reduced)
    valid = source.read(grid, 0, 0, rows, columns)[1]
    return None if valid.all() else valid


def _measure_gsd(source: RasterSource) -> float | None:
    """What the file itself tells."""
    if not _is_placed(source):
        return None
    x_m, y_m = source.gsd_m
    return math.sqrt(x_m * y_m)


def _is_placed(source: RasterSource) -> bool:
    return source.crs is not None and source.transform != UNREFERENCED


def _record(reading: _Reading, tile: LabelledTile, coding: MaskCoding, problem: str) -> TileRecord:
    """What a reading means with a coding."""
    class_px, valid_px = count_class(reading.values, coding)
    if not problem and not valid_px:
        problem = f"{tile.image} has no pixel that is both valid and labelled: remove it with its mask."
    return TileRecord(
        reading.stem,
        reading.width,
        reading.height,
        valid_px,
        class_px,
        reading.building_px,
        reading.gsd_m,
        None if reading.footprint is None else tuple(reading.footprint),
        coding,
        problem,
    )


def _files(tile: LabelledTile) -> list[Path]:
    return [p for p in (tile.image, tile.mask, tile.building_mask) if p is not None]


def _fingerprint(tile: LabelledTile) -> str:
    """Sizes and dates of a tile's files; empty, which fits nothing that is kept, where one is gone."""
    try:
        stats = [p.stat() for p in _files(tile)]
    except OSError:
        return ""
    # The last date, of the entry itself, tells a file that was put in another's place with its dates.
    return ";".join(f"{s.st_size}:{s.st_mtime_ns}:{s.st_ctime_ns}" for s in stats)


def _key(tiles: Sequence[LabelledTile]) -> str:
    """Of the folders: those of one tile are those of all."""
    folders = sorted({str(path.parent.resolve()) for tile in tiles[:1] for path in (tile.image, tile.mask)})
    return hashlib.sha256("\n".join(folders).encode()).hexdigest()[:16]


def _load(path: Path) -> dict[str, _Reading]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["format"] != _FORMAT:
            return {}
        return {row[0]: _Reading(*row) for row in body["readings"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}  # none yet, or another version's: it is computed anew


def _save(path: Path, readings: Sequence[_Reading]) -> None:
    """Keep readings as rows: ten thousand of them are written and read in a fraction of a second."""
    names = [f.name for f in fields(_Reading)]
    body = {"format": _FORMAT, "readings": [[getattr(r, name) for name in names] for r in readings]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(f".{os.getpid()}.tmp")
        staged.write_text(json.dumps(body), encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        raise OutputError(
            f"The index of the tiles cannot be kept in {path.parent} ({error.strerror or error}): make room "
            "there, or choose another cache folder."
        ) from error
