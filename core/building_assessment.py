"""What a damage model says of buildings, from the raster of a run, whole or as far as it has come."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from .cards import Card
from .damage_raster import CodeReader
from .jobs import AssessDamage
from .raster.alignment import estimate_footprint_shift
from .raster.grid import Grid
from .raster.local_shift import ShiftField, localize
from .raster.shift import Shift, ground_axes, metres_to_pixels
from .vector.damage_layer import Assessment, ModelLevel, measure_areas
from .vector.footprint_input import Footprints, Shapes
from .vector.pooled_levels import MEAN, pool_levels
from .vector.pooling import pool_footprints
from .vector.scanlines import Floats


@dataclass(frozen=True)
class PlacedFootprints:
    """Footprints where their buildings stand in the image.

    Attributes:
        pixels: In pixels of the grid (column, row), shape (n,).
        moved_m: float64 (n,), how far each was moved to get there, NaN without geometry.
    """

    pixels: Shapes
    moved_m: Floats

    @classmethod
    def unmoved(cls, pixels: Shapes) -> PlacedFootprints:
        """Those that were outlined in the image itself."""
        return cls(pixels, np.zeros(len(pixels)))

    def chosen(self, which: NDArray[np.int64]) -> PlacedFootprints:
        """Those with these indices, in their order."""
        return PlacedFootprints(self.pixels[which], self.moved_m[which])


def describe_levels(card: Card) -> list[dict[str, Any]]:
    """The levels that a model tells apart, as `AssessDamage` answers them."""
    return [{key: level[key] for key in ("code", "name", "colour")} for level in card.classes]


def move_onto_image(
    job: AssessDamage, grid: Grid, pixels: Shapes, probability: Path
) -> tuple[PlacedFootprints, ShiftField]:
    """Move known footprints to where the buildings stand in the image; and say how far they lay from there.

    Each is moved as a whole. Their layer keeps them where they were: it is the image that is off as often as
    they are.

    Args:
        job: Whether they are aligned, and by how much the analyst moves them besides.
        grid: Of the raster.
        pixels: Footprints in pixels of the grid (column, row).
        probability: The raster of the run.
    """
    shifts = ShiftField(Shift())
    if job.align:
        with CodeReader(probability) as codes:
            shifts = localize(estimate_footprint_shift(pixels, codes.read_footprint, grid), grid)
    down, across = metres_to_pixels(grid, *job.nudge_m)
    centres = shapely.bounds(pixels).reshape(-1, 2, 2).mean(axis=1)
    steps = (across, down) - shifts.at(centres)
    points, owners = shapely.get_coordinates(pixels, return_index=True)
    moved: Shapes = shapely.set_coordinates(pixels.copy(), points + steps[owners])
    moved_m = np.linalg.norm(steps @ ground_axes(grid).T, axis=1)
    return PlacedFootprints(moved, np.where(shapely.is_empty(moved), np.nan, moved_m)), shifts


def assess_buildings(
    card: Card, grid: Grid, footprints: Footprints, placed: PlacedFootprints, probability: Path
) -> Generator[float, None, Assessment]:
    """What a model says of each building.

    Args:
        card: Of the model.
        grid: Of the raster.
        footprints: The buildings, as their layer keeps them.
        placed: Where they stand in the image.
        probability: The raster of the run.

    Yields:
        The share that is done.
    """
    with CodeReader(probability) as codes:
        features = yield from pool_footprints(codes.read_levels, len(card.classes), grid, placed.pixels)
    levels = tuple(ModelLevel(int(c["code"]), str(c["name"])) for c in card.classes)
    p = pool_levels(features, card.calibration.get("pooling", MEAN))
    return Assessment(levels, p, features.seen, measure_areas(footprints.shapes, grid), placed.moved_m)
