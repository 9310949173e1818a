"""Where the pixels of one raster lie on the grid of another."""

from __future__ import annotations

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from ..errors import RasterError
from .georeference import UNREFERENCED
from .grid import Grid
from .source import RasterSource

_NODES = 65  # points along each axis by which the overlap is looked for

Positions = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Columns and rows, of one shape; 0 is the edge of the first pixel, not its centre."""


class Placement:
    """Positions in a raster for positions on the grid of another raster, and back.

    Attributes:
        grid: The grid.
        raster: The raster.
        transform: From (column, row) of the raster to the coordinates of its CRS.
        bounds_px: (top, left, bottom, right) of a box on the grid that holds all of their overlap.
        notices: Sentences about what was assumed.
    """

    def __init__(self, raster: RasterSource, grid: Grid, base: RasterSource) -> None:
        """Lay a raster over a grid.

        Two rasters of which neither says where it lies are taken to show the same area. Rasters that are
        placed but have no CRS are taken to share one.

        Args:
            raster: The raster.
            grid: The grid.
            base: The raster whose grid it is.

        Raises:
            RasterError: They cannot be laid over each other, or do not overlap.
        """
        self.raster, self.grid = raster, grid
        self.transform, self.notices = _place(raster, base)
        self._there = self._back = None
        is_placed = raster.transform != UNREFERENCED
        if is_placed and base.crs is not None and raster.crs is not None and base.crs != raster.crs:
            ours, theirs = (pyproj.CRS.from_wkt(crs.to_wkt()) for crs in (base.crs, raster.crs))
            self._there = pyproj.Transformer.from_crs(ours, theirs, always_xy=True)
            self._back = pyproj.Transformer.from_crs(theirs, ours, always_xy=True)
        bounds = self._find_overlap()
        if bounds is None:
            raise RasterError(
                f"{raster.path} and {base.path} do not overlap: choose images of the same place, and check "
                "the CRS of both."
            )
        self.bounds_px = bounds

    def to_raster(self, columns: NDArray[np.float64], rows: NDArray[np.float64]) -> Positions:
        """Columns and rows in the raster; infinite where the projection has no answer."""
        return _map(columns, rows, self.grid.transform, self._there, self.transform)

    def to_grid(self, columns: NDArray[np.float64], rows: NDArray[np.float64]) -> Positions:
        """Columns and rows on the grid; infinite where the projection has no answer."""
        return _map(columns, rows, self.transform, self._back, self.grid.transform)

    def covers(self, columns: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether positions on the grid lie within the raster."""
        x, y = self.to_raster(columns, rows)
        return np.asarray((x >= 0.0) & (x < self.raster.width) & (y >= 0.0) & (y < self.raster.height))

    def coverage(self, bounds_px: tuple[int, int, int, int]) -> float:
        """Share of a box on the grid, (top, left, bottom, right), that the raster covers; 0 to 1."""
        top, left, bottom, right = bounds_px
        steps = (np.arange(_NODES) + 0.5) / _NODES
        places = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
        return float(self.covers(*places).mean())

    def _find_overlap(self) -> tuple[int, int, int, int] | None:
        steps = np.linspace(0.0, 1.0, _NODES)
        columns, rows = self.to_grid(*np.meshgrid(steps * self.raster.width, steps * self.raster.height))
        known = np.isfinite(columns) & np.isfinite(rows)
        if not known.any():
            return None
        left, right = _span(columns[known], self.grid.width)
        top, bottom = _span(rows[known], self.grid.height)
        if top >= bottom or left >= right:
            return None
        # the box of a rotated raster may overlap where the raster does not
        columns, rows = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
        return (top, left, bottom, right) if self.covers(columns, rows).any() else None


def _place(raster: RasterSource, base: RasterSource) -> tuple[Affine, tuple[str, ...]]:
    """The transform of a raster, in the coordinates of its CRS or of `base`.

    Raises:
        RasterError: One says where it lies and the other does not, or they cannot show the same area.
    """
    is_placed = raster.transform != UNREFERENCED
    if is_placed != (base.transform != UNREFERENCED):
        placed, lost = (raster, base) if is_placed else (base, raster)
        raise RasterError(
            f"{lost.path} does not say where it lies and {placed.path} does: georeference it first."
        )
    if is_placed:
        if (raster.crs is None) != (base.crs is None):
            stated, lost = (raster, base) if base.crs is None else (base, raster)
            raise RasterError(f"{lost.path} has no CRS and {stated.path} has one: assign it its CRS.")
        return raster.transform, ()
    sizes = f"{raster.width} x {raster.height} and {base.width} x {base.height} pixels"
    nowhere = f"Neither {raster.path} nor {base.path} says where it lies"
    if not _have_same_proportions(raster, base):
        raise RasterError(
            f"{nowhere}, and their proportions differ ({sizes}), so they cannot show the same area: "
            "georeference both, or cut them to the same area."
        )
    said = f"{nowhere}: they are taken to show the same area."
    if (raster.width, raster.height) != (base.width, base.height):
        said = (
            f"{nowhere}, and their sizes differ ({sizes}): they are taken to show the same area, and the "
            "former is scaled to the latter. If they do not, georeference both."
        )
    scale = Affine.scale(base.width / raster.width, base.height / raster.height)
    return base.transform * scale, (said,)


def _have_same_proportions(raster: RasterSource, base: RasterSource) -> bool:
    """Whether one factor makes the size of one raster that of the other, but for a pixel of the smaller."""
    longest = max(raster.width, raster.height, base.width, base.height)
    return bool(abs(raster.width * base.height - base.width * raster.height) <= longest)


def _map(
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
    start: Affine,
    change: pyproj.Transformer | None,
    end: Affine,
) -> Positions:
    if change is None:
        return _apply(~end * start, columns, rows)
    x, y = change.transform(*_apply(start, columns, rows))
    return _apply(~end, x, y)


def _apply(transform: Affine, x: NDArray[np.float64], y: NDArray[np.float64]) -> Positions:
    with np.errstate(invalid="ignore"):  # infinite where a projection has no answer
        return (
            transform.a * x + transform.b * y + transform.c,
            transform.d * x + transform.e * y + transform.f,
        )


def _span(values: NDArray[np.float64], size: int) -> tuple[int, int]:
    """First and one past the last pixel of an axis that values reach."""
    return max(0, int(np.floor(values.min()))), min(size, int(np.ceil(values.max())))
