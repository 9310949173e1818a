"""The model grid: the source's grid, scaled per axis so that a pixel has the model's size on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from affine import Affine
from rasterio.crs import CRS

from ..errors import GroundResolutionError

if TYPE_CHECKING:
    from .source import RasterSource

# Source pixels per grid pixel that come this close to a whole number (or its reciprocal) are taken as
# that: UTM's scale factor of 0.9996 must not turn 0.5 m imagery into a blurred copy of itself. `Grid.gsd_m`
# states what the pixel then really measures.
_SNAP = 0.005


@dataclass(frozen=True)
class Grid:
    """Pixels on which a network works, and on which probabilities and vectors lie.

    Attributes:
        width: Columns.
        height: Rows.
        transform: From (column, row) of the grid to the coordinates of `crs`; may be rotated.
        crs: None where the raster has none.
        gsd_m: Side of a grid pixel in true ellipsoidal metres at the raster's centre; within 0.5 % of
            what was asked for.
        source_px: Source pixels per grid pixel (x, y).
    """

    width: int
    height: int
    transform: Affine
    crs: CRS | None
    gsd_m: float
    source_px: tuple[float, float]


def plan_grid(source: RasterSource, gsd_m: float) -> Grid:
    """Lay a grid of pixels of `gsd_m` metres over a raster, from the same origin and in its rotation.

    Raises:
        GroundResolutionError: The raster's ground resolution is not known, or `gsd_m` is not positive.
    """
    if not (math.isfinite(gsd_m) and gsd_m > 0):
        raise GroundResolutionError(f"A working resolution of {gsd_m} m makes no sense: give a positive one.")
    x_m, y_m = source.gsd_m
    across, down = _near_whole(gsd_m / x_m), _near_whole(gsd_m / y_m)
    return Grid(
        width=max(1, round(source.width / across)),
        height=max(1, round(source.height / down)),
        transform=source.transform * Affine.scale(across, down),
        crs=source.crs,
        gsd_m=math.sqrt(across * x_m * down * y_m),
        source_px=(across, down),
    )


def source_grid(source: RasterSource) -> Grid:
    """The raster's own pixels as a grid; `Grid.gsd_m` is the root of their area, where they are no squares.

    Raises:
        GroundResolutionError: The raster's ground resolution is not known.
    """
    x_m, y_m = source.gsd_m
    return Grid(source.width, source.height, source.transform, source.crs, math.sqrt(x_m * y_m), (1.0, 1.0))


def _near_whole(ratio: float) -> float:
    """The nearest whole number, or reciprocal of one, if `ratio` comes close; else `ratio`."""
    whole = float(round(ratio)) if ratio >= 1.0 else 1.0 / round(1.0 / ratio)
    return whole if abs(ratio / whole - 1.0) <= _SNAP else ratio
