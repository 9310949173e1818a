"""The pipeline from a raster to its probabilities: a reader thread, the network, a writer thread.

The main thread runs the network and nothing else, so that the device which runs it never waits while
the next windows are read and the last ones are blended and written; the network itself uses all cores,
and reading and writing release the interpreter's lock for most of their time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..raster.grid import Grid
from ..raster.probability import NODATA, encode_probabilities
from ..raster.region import Region
from ..raster.source import TileSource
from ..raster.tiling import Tile, TilePlan
from .blending import Blender
from .channel import Channel, ChannelClosedError
from .journal import ROWS_NAME, RowJournal

_WAITING = 2  # tiles that wait for the network, or to be written; a batch where that is more
_CUDA_BATCH = 8  # a CPU gains nothing from batches


class TileNetwork(Protocol):
    """What the pipeline needs of a network; `networks.segmenter.Segmenter` is one."""

    @property
    def device(self) -> str:
        """What a real tile ran on."""

    @property
    def precision(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""

    @property
    def fill(self) -> NDArray[np.float32]:
        """float32 (bands,), what invalid pixels are filled with."""

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (n, heads, h, w) of float32 tiles (n, bands, h, w), all in 0 to 1."""


@dataclass(frozen=True)
class TileProgress:
    """How far a prediction is.

    Attributes:
        tiles_done: Tiles that went through the network or were found to be empty, also in earlier runs.
        tiles_total: Tiles of the plan.
        megapixels: What went through the network in this call.
        rows_done: Rows of the grid, from the top, that are on the disk for good, also from earlier runs;
            they may be read from `rows_file` while the run goes on.
    """

    tiles_done: int
    tiles_total: int
    megapixels: float
    rows_done: int


@dataclass(frozen=True)
class _Window:
    """A tile as read: image (bands, h, w) with invalid pixels filled, and which pixels are wanted."""

    tile: Tile
    image: NDArray[np.float32]
    wanted: NDArray[np.bool_]


@dataclass(frozen=True)
class _Map:
    """A tile as the network saw it: probabilities (heads, h, w)."""

    tile: Tile
    probabilities: NDArray[np.float32]
    wanted: NDArray[np.bool_]


def predict_raster(
    source: TileSource,
    grid: Grid,
    region: Region,
    plan: TilePlan,
    segmenter: TileNetwork,
    work: Path,
    *,
    heads: Sequence[int] = (0,),
    job_key: str = "",
    batch_size: int | None = None,
) -> Iterator[TileProgress]:
    """Predict the probabilities of a raster, tile by tile, into a file in `work`.

    The result is ``rows_file(work)``: raw uint8, ``grid.height`` rows of ``grid.width`` for each head, line
    after line interleaved (the first row of all heads, then the second), encoded as
    `probability.encode_probabilities` says; 255 where the raster is invalid or outside of the region.
    `probability.write_cog` makes a raster of it. The same call after a kill or a close continues from
    the last row of tiles that was finished, and gives the same bytes; with another job, device,
    precision, grid or plan it starts anew.

    Closing the generator stops the threads, after the window that is being read and the tile that is
    being written.

    Memory: a few tiles, and for each head one row of tiles in uint8, and a strip of float32 as wide as the
    grid and as high as the overlap.

    Args:
        source: Read from a thread while this runs.
        grid: Of the source.
        region: What is wanted.
        plan: Of the grid and region.
        segmenter: Called from the caller's thread.
        work: Folder for unfinished work; made if missing.
        heads: Which of the network's probabilities, in the order of the result.
        job_key: Tells one job from another; part of the journal.
        batch_size: Tiles of one call; none: 8 on CUDA, else 1.

    Yields:
        Progress after each batch, and at the end when all is on the disk.

    Raises:
        RasterError: The source is damaged.
        OutputError: The work cannot be written.
        ModelError: The network answers with what is no number.
    """
    if batch_size is None:
        batch_size = _CUDA_BATCH if segmenter.device.startswith("cuda") else 1
    identity = _identity(source, grid, region, plan, segmenter, heads, job_key, batch_size)
    with closing(RowJournal(work, identity)) as journal:
        finished = journal.tile_rows_done
        tiles_done, total, megapixels = sum(plan.tiles_per_row[:finished]), len(plan), 0.0
        yield TileProgress(tiles_done, total, megapixels, plan.rows_done(finished))
        if finished == plan.lattice_rows:
            return
        # The row before the first unfinished one is predicted again, for the strip that both share.
        rows = range(max(0, finished - 1), plan.lattice_rows)
        tiles = (tile for row in rows for tile in plan.tiles_of(row))
        windows: Channel[_Window] = Channel(max(_WAITING, batch_size))
        maps: Channel[_Map] = Channel(max(_WAITING, batch_size))
        reader = _Stage(partial(_read, source, grid, region, tiles, segmenter.fill, windows), windows.finish)
        writer = _Stage(partial(_write, plan, len(heads), maps, journal), maps.close)
        reader.start()
        writer.start()
        try:
            with suppress(ChannelClosedError):  # the writer has given up; it says why below
                for batch in _batches(windows, batch_size):
                    wanted = [window for window in batch if window.wanted.any()]
                    if wanted:
                        megapixels += sum(window.wanted.size for window in wanted) / 1e6
                        for window, probabilities in zip(wanted, _run(segmenter, wanted, heads), strict=True):
                            maps.put(_Map(window.tile, probabilities, window.wanted))
                    tiles_done += sum(window.tile.lattice_row >= finished for window in batch)
                    yield TileProgress(tiles_done, total, megapixels, plan.rows_done(journal.tile_rows_done))
                reader.check()
                maps.finish()
            writer.join()
            writer.check()
        finally:
            windows.close()
            maps.close()
            reader.join()
            writer.join()
        yield TileProgress(total, total, megapixels, grid.height)


def rows_file(work: Path) -> Path:
    """Where `predict_raster` puts its rows, for `probability.write_cog` and `probability.write_vrt`."""
    return work / ROWS_NAME


class _Stage(Thread):
    """A thread of the pipeline; what it raises is kept for the main thread."""

    def __init__(self, work: Callable[[], None], at_end: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._at_end = at_end
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except ChannelClosedError:
            pass  # the others have given up
        except BaseException as error:  # a thread's boundary: `check` raises it where it can be caught
            self._error = error
        finally:
            self._at_end()

    def check(self) -> None:
        """Raise what ended the thread, if it was an error."""
        if self._error is not None:
            raise self._error


def _read(
    source: TileSource,
    grid: Grid,
    region: Region,
    tiles: Iterable[Tile],
    fill: NDArray[np.float32],
    windows: Channel[_Window],
) -> None:
    """Read tiles into a channel."""
    for tile in tiles:
        area = (tile.row, tile.col, tile.height, tile.width)
        image, valid = source.read(grid, *area)
        if not valid.all():
            image[:, ~valid] = np.asarray(fill, dtype=np.float32)[:, None]
        windows.put(_Window(tile, image, valid & region.mask(*area)))


def _batches(windows: Iterable[_Window], size: int) -> Iterator[list[_Window]]:
    """Group neighbours in a row of tiles: at most `size` that are computed, all of one shape.

    The groups of a row are the same wherever a run begins, since sums may depend on the batch.
    """
    batch: list[_Window] = []
    for window in windows:
        if batch and (
            len(batch) == size
            or window.tile.lattice_row != batch[0].tile.lattice_row
            or window.image.shape != batch[0].image.shape
        ):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _run(segmenter: TileNetwork, batch: Sequence[_Window], heads: Sequence[int]) -> NDArray[np.float32]:
    """Probabilities (n, heads, h, w) of a batch.

    Raises:
        ModelError: They are no numbers.
    """
    probabilities = segmenter(np.stack([window.image for window in batch]))[:, list(heads)]
    if not np.isfinite(probabilities.sum(dtype=np.float64)):
        tile = batch[0].tile
        raise ModelError(
            f"The network answers with values that are no numbers (NaN) near row {tile.row}, column "
            f"{tile.col}: run it on the CPU, or get the model again."
        )
    return probabilities


def _write(plan: TilePlan, heads: int, maps: Iterable[_Map], journal: RowJournal) -> None:
    """Blend, encode and write the rows of tiles that are not finished yet."""
    blenders = [Blender(plan) for _ in range(heads)]
    current = journal.tile_rows_done
    buffer = np.empty((plan.tile_px, heads, plan.grid.width), dtype=np.uint8)  # no row of tiles finishes more
    rows = _empty_rows(plan, current, buffer)
    for item in maps:
        blocks = [b.add(item.tile, p) for b, p in zip(blenders, item.probabilities, strict=True)]
        if item.tile.lattice_row < current:
            continue  # only the strip that it shares with the next row was needed
        while current < item.tile.lattice_row:
            journal.append(rows.data)
            current += 1
            rows = _empty_rows(plan, current, buffer)
        block = blocks[0]
        height, width = block.values.shape
        wanted = np.zeros((height, width), dtype=bool)
        top, left = item.tile.row - block.row, item.tile.col - block.col
        inside = wanted[top : top + item.tile.height, left : left + item.tile.width]
        inside[...] = item.wanted[: inside.shape[0], : inside.shape[1]]
        for head, one in enumerate(blocks):
            rows[:, head, block.col : block.col + width] = encode_probabilities(one.values, wanted)
    while current < plan.lattice_rows:
        journal.append(rows.data)
        current += 1
        rows = _empty_rows(plan, current, buffer)


def _empty_rows(plan: TilePlan, lattice_row: int, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The rows that a row of tiles finishes: uint8 (rows, heads, grid.width), all nodata, in the buffer."""
    rows = buffer[: plan.rows_done(lattice_row + 1) - plan.rows_done(lattice_row)]
    rows.fill(NODATA)
    return rows


def _identity(
    source: TileSource,
    grid: Grid,
    region: Region,
    plan: TilePlan,
    segmenter: TileNetwork,
    heads: Sequence[int],
    job_key: str,
    batch_size: int,
) -> dict[str, Any]:
    """All that determines the bytes of the result, as JSON values."""
    return {
        "job": job_key,
        "source": _fingerprint(source),
        "device": segmenter.device,
        "precision": segmenter.precision,
        "heads": list(heads),
        "batch_size": batch_size,
        "tiles": [plan.tile_px, plan.overlap_px, plan.margin_px, plan.stride_px],
        "grid": [grid.width, grid.height, *grid.transform.to_gdal(), *grid.source_px],
        "crs": grid.crs.to_wkt() if grid.crs is not None else "",
        "region": region.fingerprint(),
    }


def _fingerprint(source: TileSource) -> list[Any]:
    """What changes when the raster is replaced, as far as that can be seen without reading it."""
    stated: list[Any] = [source.path, list(source.bands), source.width, source.height, source.dtype]
    path = Path(source.path)
    if path.is_file():
        stat = path.stat()
        stated += [stat.st_size, stat.st_mtime_ns]
    return stated
