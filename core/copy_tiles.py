"""Write the selected tiles of folders as a folder of their own, small enough to travel."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DatasetError, JobError
from .jobs import CopyTiles, Event, Result, Warning
from .progress import Span, Stopwatch
from .scan_tiles import survey_folders

if TYPE_CHECKING:
    from .datasets.layouts import LabelledTile
    from .datasets.tile_folder import NewTileFolder

_SCAN, _COPY = Span(0.0, 0.2), Span(0.2, 1.0)


def copy_tiles(job: CopyTiles) -> Generator[Event, None, None]:
    """Copy tiles; `CopyTiles` lists what the result holds.

    Raises:
        DatasetError: A folder cannot be used, or no tile holds enough of the class.
        RasterError: An image cannot be read to its end.
        JobError: A parameter makes no sense, or the folder holds tiles already.
        OutputError: The folder cannot be written.
    """
    if not 0 <= job.min_share <= 1:
        raise JobError(f"A least class share of {job.min_share} makes no sense: give one from 0 to 1.")
    from .datasets.tile_folder import NewTileFolder  # loads GDAL

    with NewTileFolder(Path(job.folder), job.image_format) as target:
        surveys = yield from survey_folders(job, _SCAN)
        yield from (Warning(sentence) for survey in surveys for sentence in survey.problems)
        tiles = [
            (f"{survey.content.folder.resolve().name}_{tile.stem}" if len(surveys) > 1 else tile.stem, tile)
            for survey in surveys
            for tile, record in survey.usable
            if record.class_share >= job.min_share
        ]
        if not tiles:
            raise DatasetError(
                f"No tile has {job.min_share:.0%} of the class or more: lower the least share."
            )
        _check_names([stem for stem, _ in tiles])
        clock, before = Stopwatch(), 0
        for done, (stem, tile) in enumerate(tiles, start=1):
            _copy(target, stem, tile)
            before += sum(path.stat().st_size for path in _files(tile))
            message = f"Writing: tile {done} of {len(tiles)}"
            left = clock.time_left(done, len(tiles))
            yield _COPY.at(done / len(tiles), f"{message}, {left}" if left else message)
        after = target.finish()
    yield Result({"folder": job.folder}, {"tiles": len(tiles), "bytes_before": before, "bytes_after": after})


def _copy(target: NewTileFolder, stem: str, tile: LabelledTile) -> None:
    from .datasets.folders import open_labelled, read_tile
    from .datasets.tile_folder import Place

    with open_labelled(tile, 1.0) as source:
        bands = 1 if source.is_grey else 3
        place = None if source.crs is None else Place(source.transform, source.crs)
    arrays = read_tile(tile, 1.0, bands)
    target.add_copy(stem, tile.image, arrays.image, arrays.labels, place)
    if tile.occlusion_mask is not None:
        target.add_file("occlusion_masks", stem, tile.occlusion_mask)


def _files(tile: LabelledTile) -> list[Path]:
    return [p for p in (tile.image, tile.mask, tile.building_mask, tile.occlusion_mask) if p is not None]


def _check_names(stems: list[str]) -> None:
    twice = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if twice:
        raise JobError(f"Two folders have the same name and a tile {twice[0]!r} each: copy them one by one.")
