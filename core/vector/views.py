"""A window of a probability raster with its surroundings, as the vectorising sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from ..raster.gdal import bounded_gdal
from ..raster.probability import decode_probabilities
from .centrelines import CONTEXT_M
from .road_mask import road_mask
from .windows import Window


@dataclass(frozen=True)
class Settings:
    """What makes roads of probabilities.

    Attributes:
        threshold: Probability from which a pixel is road.
        threshold_low: Hysteresis, as in `road_mask`; none: none.
        min_area_m2: Roads smaller than this are dropped.
        simplify_m: How far outlines may move.
        block_m: Side of the blocks at which networks are cut; 0: never.
        gsd_m: Side of a pixel.
    """

    threshold: float
    threshold_low: float | None
    min_area_m2: float
    simplify_m: float
    block_m: float
    gsd_m: float

    @property
    def cut_px(self) -> int:
        """Side of a block in pixels; 0: no blocks."""
        return max(round(self.block_m / self.gsd_m), 1) if self.block_m else 0

    @property
    def tolerance_px(self) -> float:
        """How far outlines may move, in pixels."""
        return self.simplify_m / self.gsd_m


@dataclass(frozen=True)
class View:
    """One window, and what lies around it by `CONTEXT_M`, mirrored at the raster's border.

    Attributes:
        window: The window.
        origin: Row and column in the grid of the arrays' first pixel.
        values: uint8, encoded probabilities.
        mask: bool, the roads.
    """

    window: Window
    origin: tuple[int, int]
    values: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    def part(self, cell: Window) -> tuple[slice, slice]:
        """Where a part of the window lies in the arrays."""
        row, col = cell.row - self.origin[0], cell.col - self.origin[1]
        return slice(row, row + cell.height), slice(col, col + cell.width)

    @property
    def probability(self) -> NDArray[np.float32]:
        """float32, 0 to 1, 0 where there is none."""
        return decode_probabilities(self.values)[0]


def read_view(dataset: DatasetReader, window: Window, settings: Settings) -> View:
    """Read a window with its surroundings and find its roads."""
    context = math.ceil(CONTEXT_M / settings.gsd_m)
    top, left = window.row - context, window.col - context
    bottom, right = window.row + window.height + context, window.col + window.width + context
    rows, cols = (max(top, 0), min(bottom, dataset.height)), (max(left, 0), min(right, dataset.width))
    with bounded_gdal():
        values = dataset.read(1, window=RasterWindow.from_slices(rows, cols))
    outside = ((rows[0] - top, bottom - rows[1]), (cols[0] - left, right - cols[1]))
    values = np.pad(values, outside, mode="symmetric")
    mask = road_mask(
        values, settings.threshold, settings.threshold_low, settings.min_area_m2 / settings.gsd_m**2
    )
    return View(window, (top, left), values, mask)
