"""Where an image shows cloud instead of ground: bright, grey, smooth, and larger than a roof."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .block_mask import BlockMask, Bools
from .grid import Grid, plan_grid
from .source import RasterSource

BRIGHT = 0.8
"""Least value of all bands, from 0 to 1, in cloud."""

_LOOK_M = 4.0  # pixels on which clouds are looked for
_GREY, _SMOOTH = 0.12, 0.05  # of values from 0 to 1: most spread of bands, most deviation
_SMALLEST_M2 = 20_000.0  # white halls are smaller, all but a few
_RIM_M = 12.0  # thin edges that hide what is below, too
_BLOCK, _MARGIN = 64, 36  # pixels of the look


class CloudFinder:
    """Finds opaque cloud in an image, block by block; thin cloud and haze are not found.

    Memory: a few blocks of the image at `_LOOK_M`, whatever its size.

    Args:
        source: The image.
        grid: On which it is asked for.
    """

    def __init__(self, source: RasterSource, grid: Grid) -> None:
        self._look = plan_grid(source, max(_LOOK_M, grid.gsd_m))
        self._mask = BlockMask(source, grid, self._look, _BLOCK, _MARGIN, self._find)

    def mask(self, row: int, col: int, height: int, width: int) -> Bools:
        """Where a window of the grid shows cloud: bool (height, width)."""
        return self._mask.read(row, col, height, width)

    def _find(self, image: NDArray[np.float32], valid: Bools) -> Bools:
        bright = np.where(valid, image.min(axis=0), 0)
        # Of what is there: cloud is as smooth beside the edge of the image as within.
        seen = np.maximum(ndimage.uniform_filter(valid.astype(np.float32), 5), 1e-6)
        mean = ndimage.uniform_filter(bright, 5) / seen
        deviation = np.sqrt(np.maximum(ndimage.uniform_filter(bright**2, 5) / seen - mean**2, 0))
        is_cloud = valid & (bright >= BRIGHT) & (np.ptp(image, axis=0) <= _GREY) & (deviation <= _SMOOTH)
        marks, count = ndimage.label(ndimage.binary_opening(is_cloud, np.ones((3, 3))))
        if not count:
            return np.zeros_like(valid)
        sizes = np.bincount(marks.ravel())
        is_large = sizes * self._look.gsd_m**2 >= _SMALLEST_M2
        is_large[0] = False
        grown: Bools = ndimage.binary_dilation(
            is_large[marks], iterations=math.ceil(_RIM_M / self._look.gsd_m)
        )
        return grown
