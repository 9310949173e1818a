"""What a damage model says of buildings, from the raster of a run, whole or as far as it has come."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from .cards import Card
from .damage_raster import CodeReader
from .jobs import AssessDamage
from .raster.alignment import estimate_footprint_shift
from .raster.grid import Grid
from .raster.shift import Shift, metres_to_pixels
from .vector.damage_layer import Assessment, ModelLevel, measure_areas
from .vector.footprint_input import Footprints, Shapes
from .vector.pooled_levels import MEAN, pool_levels
from .vector.pooling import pool_footprints


def describe_levels(card: Card) -> list[dict[str, Any]]:
    """The levels that a model tells apart, as `AssessDamage` answers them."""
    return [{key: level[key] for key in ("code", "name", "colour")} for level in card.classes]


def move_onto_image(job: AssessDamage, grid: Grid, pixels: Shapes, probability: Path) -> tuple[Shapes, Shift]:
    """Move known footprints to where the buildings stand in the image; and say how far they lay from there.

    Their layer keeps them where they were: it is the image that is off as often as they are.

    Args:
        job: Whether they are aligned, and by how much the analyst moves them besides.
        grid: Of the raster.
        pixels: Footprints in pixels of the grid (column, row).
        probability: The raster of the run.
    """
    shift = Shift()
    if job.align:
        with CodeReader(probability) as codes:
            shift = estimate_footprint_shift(pixels, codes.read_footprint, grid)
    rows, cols = shift.offset_px
    down, across = metres_to_pixels(grid, *job.nudge_m)
    step = np.array((across - cols, down - rows))
    moved: Shapes = shapely.transform(pixels, lambda points: points + step)
    return moved, shift


def assess_buildings(
    card: Card, grid: Grid, footprints: Footprints, pixels: Shapes, probability: Path
) -> Generator[float, None, Assessment]:
    """What a model says of each building.

    Args:
        card: Of the model.
        grid: Of the raster.
        footprints: The buildings, as their layer keeps them.
        pixels: Where they stand in the image, in pixels of the grid.
        probability: The raster of the run.

    Yields:
        The share that is done.
    """
    with CodeReader(probability) as codes:
        features = yield from pool_footprints(codes.read_levels, len(card.classes), grid, pixels)
    levels = tuple(ModelLevel(int(c["code"]), str(c["name"])) for c in card.classes)
    p = pool_levels(features, card.calibration.get("pooling", MEAN))
    return Assessment(levels, p, features.seen, measure_areas(footprints.shapes, grid))
