"""Reading one raster on the grid of another: other resolution, extent, CRS and rotation."""

from __future__ import annotations

import math

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Grid
from .placement import Placement, Positions

_NODE_PX = 32  # a projection is evaluated at every so many pixels, and linear between these
_STEPS_PER_PX = 1024.0  # positions are rounded to these, so that windows which overlap agree to the bit
_NEARLY_ONE = 1.005  # pixels that differ less in size are not averaged: that would only blur


class WarpedSource:
    """A raster as it looks on another raster's grid; reading from one thread at a time is safe.

    The raster's own reading is used (bands, radiometry, validity, averaging of finer pixels), and its
    pixels are then interpolated linearly. No more than a window is in memory.

    Attributes:
        placement: Of the raster on the grid.
        offset_px: (rows, columns) in pixels of the grid: what belongs to a place of the grid is read that
            far from it.
    """

    def __init__(self, placement: Placement, offset_px: tuple[float, float] = (0.0, 0.0)) -> None:
        self.placement, self.offset_px = placement, offset_px
        self._own_grid = _grid_of_like_pixels(placement)

    def read(
        self, row: int, col: int, height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a window of the grid; windows that overlap agree on the pixels that they share.

        Args:
            row: First row of the window in grid pixels; may be negative.
            col: First column, likewise.
            height: Rows; the window may stick out of the grid and of the raster on any side.
            width: Columns.

        Returns:
            float32 (bands, height, width) in 0 to 1, invalid pixels 0; and bool (height, width), True
            where at least half of what a pixel is made of is valid.

        Raises:
            RasterError: The file is damaged.
        """
        raster, own = self.placement.raster, self._own_grid
        columns, rows = self._positions(row, col, height, width)
        # half a pixel beyond the outermost centres the outermost pixels still show something
        inside = (
            (columns >= -0.5) & (columns <= own.width - 0.5) & (rows >= -0.5) & (rows <= own.height - 0.5)
        )
        image = np.zeros((len(raster.bands), height, width), dtype=np.float32)
        if not inside.any():
            return image, inside
        columns, rows = np.clip(columns, 0, own.width - 1), np.clip(rows, 0, own.height - 1)
        left, top = math.floor(columns[inside].min()), math.floor(rows[inside].min())
        right, bottom = math.floor(columns[inside].max()) + 2, math.floor(rows[inside].max()) + 2
        pixels, valid = raster.read(own, top, left, bottom - top, right - left)
        positions = np.stack([rows - top, columns - left])
        for band, layer in zip(image, pixels, strict=True):
            ndimage.map_coordinates(layer, positions, output=band, order=1, mode="nearest")
        if not valid.all():
            share = ndimage.map_coordinates(valid.astype(np.float32), positions, order=1, mode="nearest")
            np.divide(image, share, out=image, where=share > 0)
            inside &= share >= 0.5
        image *= inside
        return image, inside

    def _positions(self, row: int, col: int, height: int, width: int) -> Positions:
        """Columns and rows in the raster's own grid of the centres of pixels; 0 is a pixel's centre there."""
        first_row, first_col = row // _NODE_PX, col // _NODE_PX
        node_rows = np.arange(first_row, (row + height) // _NODE_PX + 2) * _NODE_PX
        node_cols = np.arange(first_col, (col + width) // _NODE_PX + 2) * _NODE_PX
        x, y = np.meshgrid(node_cols + 0.5 + self.offset_px[1], node_rows + 0.5 + self.offset_px[0])
        x, y = self.placement.to_raster(x, y)
        across, down = self._own_grid.source_px
        along_rows = (np.arange(row, row + height) - node_rows[0]) / _NODE_PX
        along_cols = (np.arange(col, col + width) - node_cols[0]) / _NODE_PX
        columns = _interpolate(x / across - 0.5, along_rows, along_cols)
        rows = _interpolate(y / down - 0.5, along_rows, along_cols)
        return columns, rows


def _grid_of_like_pixels(placement: Placement) -> Grid:
    """The raster's own grid, in pixels that are as large as those of the grid it is placed on, or larger."""
    raster, grid = placement.raster, placement.grid
    top, left, bottom, right = placement.bounds_px
    middle_x, middle_y = (left + right) / 2.0, (top + bottom) / 2.0
    x, y = placement.to_raster(
        middle_x + np.array([-0.5, 0.5, 0.0, 0.0]), middle_y + np.array([0.0, 0.0, -0.5, 0.5])
    )
    sizes = (math.hypot(x[1] - x[0], x[3] - x[2]), math.hypot(y[1] - y[0], y[3] - y[2]))
    across, down = (size if size > _NEARLY_ONE else 1.0 for size in sizes)
    return Grid(
        width=max(1, round(raster.width / across)),
        height=max(1, round(raster.height / down)),
        transform=placement.transform * Affine.scale(across, down),
        crs=raster.crs,
        gsd_m=grid.gsd_m,
        source_px=(across, down),
    )


def _interpolate(
    nodes: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bilinear interpolation at rows × columns, in units of nodes; what is not finite becomes −1 000 000."""
    nodes = np.where(np.isfinite(nodes), nodes, -1e6)
    r, c = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, across = rows - r, columns - c
    lines = nodes[r] * (1.0 - down)[:, None] + nodes[r + 1] * down[:, None]
    values = lines[:, c] * (1.0 - across) + lines[:, c + 1] * across
    return np.asarray(np.rint(values * _STEPS_PER_PX) / _STEPS_PER_PX)
