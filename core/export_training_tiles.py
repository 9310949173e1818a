"""Cut a raster and a layer of digitised roads or buildings into a folder of labelled tiles."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import DatasetError, JobError
from .jobs import Event, ExportTrainingTiles, Progress, Result, Warning
from .progress import Stopwatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .datasets.tile_folder import NewTileFolder
    from .raster.grid import Grid
    from .raster.region import Region
    from .raster.source import RasterSource

_TILE_PX = (64, 8192)
_SLIVER_PX = 32  # tiles at the right and lower edge that are narrower teach nothing


@dataclass
class _Tally:
    """What has become of the tiles."""

    written: int = 0
    empty: int = 0
    below: int = 0
    class_px: int = 0
    labelled_px: int = 0

    @property
    def class_share(self) -> float:
        return self.class_px / self.labelled_px if self.labelled_px else 0.0


def export_training_tiles(job: ExportTrainingTiles) -> Generator[Event, None, None]:
    """Write the tiles; `ExportTrainingTiles` lists what the result holds.

    A tile at the right or lower edge of the raster may be smaller than the others. Values that are no bytes
    are stretched as in a run on the whole raster.

    Raises:
        RasterError: The raster cannot be read.
        VectorError: The digitised layer or the area cannot be used.
        DatasetError: No tile is worth writing.
        JobError: A parameter makes no sense, or the folder holds tiles already.
        OutputError: The folder cannot be written.
    """
    _check(job)
    from .datasets.digitised import read_digitised  # these load GDAL
    from .datasets.tile_folder import NewTileFolder
    from .raster.grid import source_grid
    from .raster.region import plan_region
    from .raster.source import open_source

    with (
        NewTileFolder(Path(job.folder), job.image_format) as target,
        open_source(
            job.raster, bands=job.bands, band_count=len(job.bands) or 3, gsd_m=job.gsd_m, crs=job.crs
        ) as source,
    ):
        yield from (Warning(notice) for notice in source.notices)
        grid = source_grid(source)
        yield Progress(0.0, f"Reading {Path(job.labels).name}")
        labels, notices = read_digitised(
            job.labels, job.labels_layer, grid, width_field=job.width_field, width_m=job.width_m
        )
        yield from (Warning(notice) for notice in notices)
        area = plan_region(grid, aoi=job.area, aoi_layer=job.area_layer)
        tally = _Tally()
        yield from _cut(job, source, grid, labels, area, target, tally)
        if not tally.written:
            raise DatasetError(_why_none(job, tally))
        target.finish()
    if not tally.class_px:
        yield Warning("All tiles are background: no digitised feature lies on the pixels that were written.")
    yield Result(
        {"folder": job.folder},
        {
            "tiles": tally.written,
            "class_share": tally.class_share,
            "skipped": tally.empty,
            "below_min_share": tally.below,
        },
    )


def _check(job: ExportTrainingTiles) -> None:
    least, most = _TILE_PX
    if not least <= job.tile_px <= most:
        raise JobError(f"Tiles of {job.tile_px} px do not work: choose from {least} to {most}.")
    if not job.width_m > 0 or not 0 <= job.min_share <= 1:
        raise JobError("The width of lines must be positive, and the least class share from 0 to 1.")
    if len(job.bands) not in (0, 1, 3) and job.image_format != "tif":
        raise JobError(
            f"{len(job.bands)} bands do not go into {job.image_format}: choose tif, or one or three bands."
        )


def _cut(
    job: ExportTrainingTiles,
    source: RasterSource,
    grid: Grid,
    labels: Region,
    area: Region,
    target: NewTileFolder,
    tally: _Tally,
) -> Iterator[Progress]:
    from affine import Affine

    from .datasets.masks import IGNORE
    from .datasets.tile_folder import Place
    from .raster.georeference import UNREFERENCED

    name = re.sub(r"[^\w-]+", "_", Path(job.raster).stem) or "tile"
    windows = list(_plan_windows(grid, job.tile_px))
    clock = Stopwatch()
    for done, (row, column, height, width) in enumerate(windows, start=1):
        left = clock.time_left(done - 1, len(windows))
        yield Progress(
            (done - 1) / len(windows),
            f"Cutting: tile {done} of {len(windows)}" + (f", {left}" if left else ""),
        )
        if not area.touches(row, column, height, width):
            tally.empty += 1
            continue
        image, valid = source.read(grid, row, column, height, width)
        codes: NDArray[np.uint8] = labels.mask(row, column, height, width).astype(np.uint8)
        codes[~(valid & area.mask(row, column, height, width))] = IGNORE
        labelled_px, class_px = int((codes != IGNORE).sum()), int((codes == 1).sum())
        if not labelled_px:
            tally.empty += 1
            continue
        if class_px < job.min_share * labelled_px:
            tally.below += 1
            continue
        transform = grid.transform * Affine.translation(column, row)
        place = None if grid.transform == UNREFERENCED else Place(transform, grid.crs)
        stem = f"{name}_r{row // job.tile_px:03d}_c{column // job.tile_px:03d}"
        pixels = (image[:1] if source.is_grey else image) * 255 + 0.5
        target.add(stem, pixels.astype(np.uint8), valid, codes, place)
        tally.written += 1
        tally.class_px += class_px
        tally.labelled_px += labelled_px


def _plan_windows(grid: Grid, tile_px: int) -> Iterator[tuple[int, int, int, int]]:
    """Row, column, height and width of the tiles, without slivers."""
    for row in range(0, grid.height, tile_px):
        for column in range(0, grid.width, tile_px):
            height, width = min(tile_px, grid.height - row), min(tile_px, grid.width - column)
            if min(height, width) >= min(_SLIVER_PX, grid.height, grid.width):
                yield row, column, height, width


def _why_none(job: ExportTrainingTiles, tally: _Tally) -> str:
    if tally.below:
        return (
            f"None of the {tally.below + tally.empty} tiles of {job.raster} has {job.min_share:.0%} of the "
            "class or more: lower the least share, or check the digitised layer."
        )
    where = f"inside {job.area}" if job.area else "anywhere"
    return f"{job.raster} has no valid pixel {where}: check its nodata value and the area."
