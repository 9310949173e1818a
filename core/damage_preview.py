"""Buildings with their damage while the network still runs: those whose pixels are predicted already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from .building_assessment import PlacedFootprints, assess_buildings, describe_levels, move_onto_image
from .damage_raster import CodeReader
from .jobs import AssessDamage, Partial
from .progress import finish
from .raster_steps import Scene, describe_rows
from .runs import WorkFolder
from .vector.buildings import BuildingTracer
from .vector.damage_layer import Origin, write_damage_layer
from .vector.footprint_input import Footprints, Shapes, onto_pixels
from .vector.pooling import RING_M
from .vector.scanlines import Floats

OUTPUT = "buildings"
INTERVAL_S = 3.0
"""A layer that grows more often is of no more use, and a run that ends sooner needs none."""

PAUSE = 9.0
"""So many times as long as a part took the next one waits: the network stands still a tenth of the time."""

WINDOW_ROWS = 256
"""Rows that are outlined together; half of them would cost half as much again."""

_LONGEST_S = 1.0  # of outlining for one part: a run that is cancelled waits for it
_MOST = 5_000  # known footprints in one part, for the same reason

_FOLDER = "partial"

Shown = Callable[[Shapes], NDArray[np.bool_]]
"""Which of some buildings, in grid pixels, a run tells of: bool (n,)."""


class _Finder(Protocol):
    """Says which buildings are complete in the rows so far, each of them once."""

    @property
    def is_done(self) -> bool:
        """Whether all have been told."""

    def take(self, rows_done: int, probability: Path) -> tuple[Footprints, PlacedFootprints]:
        """Those that are new, perhaps not yet all, and where they stand in the image."""


class DamagePreview:
    """Assesses the buildings of a run as far as its rows are done, just as the run does in the end.

    What it tells is provisional: known footprints are moved by what is known of their shift so far, and a
    building may have neighbours that are not outlined yet. Memory: the buildings of one part, and what
    `BuildingTracer` holds.

    Attributes:
        buildings: How many it has told of.
    """

    def __init__(
        self,
        job: AssessDamage,
        scene: Scene,
        bands: tuple[str, ...],
        footprints: Footprints | None,
        work: WorkFolder,
        origin: Origin,
        shown: Shown | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            job: What was asked for.
            scene: Where.
            bands: Name of each band of the run's rows.
            footprints: Known ones; none: they are outlined.
            work: Of the run: holds its rows, and gets the parts.
            origin: Of the run.
            shown: Which buildings it tells of; none: all.
        """
        self.buildings = 0
        self._shown = shown
        self._scene, self._bands, self._work, self._origin = scene, bands, work, origin
        self._finder: _Finder = (
            _OutlinedBuildings(job, scene) if footprints is None else _KnownBuildings(job, scene, footprints)
        )
        self._folder = work.path / _FOLDER
        self._parts = 0
        self._due_s: float | None = None

    def update(self, rows_done: int) -> Iterator[Partial]:
        """Tell what is new, if it is time for that and there is anything.

        Args:
            rows_done: Rows of the grid, from the top, whose probabilities are on the disk.

        Raises:
            OutputError: The part cannot be written.
        """
        now_s = time.monotonic()
        if self._due_s is None:
            self._due_s = now_s + INTERVAL_S
        if rows_done == 0 or now_s < self._due_s:
            return
        part = self._take(rows_done)
        end_s = time.monotonic()
        self._due_s = end_s + max(INTERVAL_S, PAUSE * (end_s - now_s))
        if part is not None:
            yield part

    def finish(self) -> Iterator[Partial]:
        """Tell all that is left, once all rows are on the disk.

        Raises:
            OutputError: A part cannot be written.
        """
        while not self._finder.is_done:
            part = self._take(self._scene.grid.height)
            if part is not None:
                yield part

    def _take(self, rows_done: int) -> Partial | None:
        """The next part, if there is anything new that is shown."""
        probability = describe_rows(self._work, self._scene.grid, self._bands, rows_done)
        found, placed = self._finder.take(rows_done, probability)
        if self._shown is not None:
            kept = np.flatnonzero(self._shown(placed.pixels))
            found, placed = found.chosen(kept), placed.chosen(kept)
        return self._write(found, placed, probability) if len(placed.pixels) else None

    def _write(self, found: Footprints, placed: PlacedFootprints, probability: Path) -> Partial:
        card, grid = self._scene.card, self._scene.grid
        assessment = finish(assess_buildings(card, grid, found, placed, probability))
        self._parts += 1
        self.buildings += len(placed.pixels)
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{OUTPUT}-{self._parts}.gpkg"
        write_damage_layer(path, grid.crs, found, assessment, self._origin)
        return Partial(OUTPUT, str(path), len(placed.pixels), {"levels": describe_levels(card)})


class _OutlinedBuildings:
    """Those that the network sees."""

    def __init__(self, job: AssessDamage, scene: Scene) -> None:
        self._grid = scene.grid
        self._tracer = BuildingTracer(
            scene.grid,
            threshold=scene.card.threshold,
            min_area_m2=job.min_area_m2,
            regularize=True,
            window_rows=WINDOW_ROWS,
        )
        self._count = 0

    @property
    def is_done(self) -> bool:
        return self._tracer.is_done

    def take(self, rows_done: int, probability: Path) -> tuple[Footprints, PlacedFootprints]:
        polygons = [np.zeros(0, object)]
        stop_s = time.monotonic() + _LONGEST_S
        with CodeReader(probability) as codes:
            while not self.is_done and self._tracer.rows_needed <= rows_done and time.monotonic() < stop_s:
                polygons.append(self._tracer.trace_next(codes.read_building).polygons)
        shapes: Shapes = np.concatenate(polygons)
        ids = np.arange(self._count + 1, self._count + 1 + len(shapes)).astype(str).astype(object)
        self._count += len(shapes)
        return Footprints(shapes, ids), PlacedFootprints.unmoved(onto_pixels(shapes, self._grid.transform))


class _KnownBuildings:
    """Those of a layer that lie where the run looks, from the top down; of the others it will see nothing."""

    def __init__(self, job: AssessDamage, scene: Scene, footprints: Footprints) -> None:
        self._job, self._grid = job, scene.grid
        pixels = onto_pixels(footprints.shapes, scene.grid.transform)
        top, left, bottom, right = scene.region.bounds_px
        west, north, east, south = shapely.bounds(pixels).T  # NaN without geometry
        inside = np.flatnonzero((west < right) & (east > left) & (north < bottom) & (south > top))
        self._footprints, self._pixels = footprints.chosen(inside), pixels[inside]
        self._is_given = np.zeros(len(self._pixels), bool)
        self._ring_px = RING_M / scene.grid.gsd_m

    @property
    def is_done(self) -> bool:
        return bool(self._is_given.all())

    def take(self, rows_done: int, probability: Path) -> tuple[Footprints, PlacedFootprints]:
        nothing = np.zeros(0, np.int64)
        is_done = self._are_complete(self._pixels, rows_done)
        if not (is_done & ~self._is_given).any():
            return self._footprints.chosen(nothing), PlacedFootprints.unmoved(self._pixels[nothing])
        done = np.flatnonzero(is_done)
        moved, _ = move_onto_image(self._job, self._grid, self._pixels[done], probability)
        lowest = self._lowest(moved.pixels)
        new = np.flatnonzero(~self._is_given[done] & self._are_complete(moved.pixels, rows_done))
        new = np.sort(new[np.argsort(lowest[new], kind="stable")[:_MOST]])
        self._is_given[done[new]] = True
        return self._footprints.chosen(done[new]), moved.chosen(new)

    def _are_complete(self, pixels: Shapes, rows_done: int) -> NDArray[np.bool_]:
        """Whether the run will see no more of each footprint: some reach beyond the last row."""
        if rows_done >= self._grid.height:
            return np.ones(len(pixels), dtype=bool)
        complete: NDArray[np.bool_] = self._lowest(pixels) <= rows_done
        return complete

    def _lowest(self, pixels: Shapes) -> Floats:
        """The row down to which each footprint and its ring reach."""
        rows: Floats = shapely.bounds(pixels)[:, 3] + self._ring_px
        return rows
