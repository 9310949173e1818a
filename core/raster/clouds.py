"""Where an image shows cloud instead of ground: bright, grey, smooth, and larger than a roof."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Grid, plan_grid
from .source import RasterSource

Bools = NDArray[np.bool_]

_LOOK_M = 4.0  # pixels on which clouds are looked for
_BRIGHT, _GREY, _SMOOTH = (
    0.8,
    0.12,
    0.05,
)  # of values from 0 to 1: least, most spread of bands, most deviation
_SMALLEST_M2 = 20_000.0  # white halls are smaller, all but a few
_RIM_M = 12.0  # thin edges that hide what is below, too
_BLOCK, _MARGIN = 64, 36  # pixels of the look
_BLOCKS_KEPT = 64


class CloudFinder:
    """Finds opaque cloud in an image, block by block; thin cloud, haze and shadow are not found.

    Memory: a few blocks of the image at `_LOOK_M`, whatever its size.

    Args:
        source: The image.
        grid: On which it is asked for.
    """

    def __init__(self, source: RasterSource, grid: Grid) -> None:
        self._source, self._grid = source, grid
        self._look = plan_grid(source, max(_LOOK_M, grid.gsd_m))
        self._block = lru_cache(_BLOCKS_KEPT)(self._find)

    def mask(self, row: int, col: int, height: int, width: int) -> Bools:
        """Where a window of the grid shows cloud: bool (height, width)."""
        rows = self._onto_look(np.arange(row, row + height), 1, self._look.height)
        cols = self._onto_look(np.arange(col, col + width), 0, self._look.width)
        found = np.zeros((height, width), dtype=bool)
        for i in range(rows[0] // _BLOCK, rows[-1] // _BLOCK + 1):
            for j in range(cols[0] // _BLOCK, cols[-1] // _BLOCK + 1):
                block = self._block(i, j)
                if not block.any():
                    continue
                own_rows, own_cols = np.flatnonzero(rows // _BLOCK == i), np.flatnonzero(cols // _BLOCK == j)
                part = block[np.ix_(rows[own_rows] - i * _BLOCK, cols[own_cols] - j * _BLOCK)]
                found[own_rows[0] : own_rows[-1] + 1, own_cols[0] : own_cols[-1] + 1] = part
        return found

    def _onto_look(self, pixels: NDArray[np.int64], axis: int, size: int) -> NDArray[np.int64]:
        factor = self._grid.source_px[axis] / self._look.source_px[axis]
        places: NDArray[np.int64] = np.clip(np.floor((pixels + 0.5) * factor).astype(np.int64), 0, size - 1)
        return places

    def _find(self, i: int, j: int) -> Bools:
        side = _BLOCK + 2 * _MARGIN
        image, valid = self._source.read(self._look, i * _BLOCK - _MARGIN, j * _BLOCK - _MARGIN, side, side)
        bright = np.where(valid, image.min(axis=0), 0)
        # Of what is there: cloud is as smooth beside the edge of the image as within.
        seen = np.maximum(ndimage.uniform_filter(valid.astype(np.float32), 5), 1e-6)
        mean = ndimage.uniform_filter(bright, 5) / seen
        deviation = np.sqrt(np.maximum(ndimage.uniform_filter(bright**2, 5) / seen - mean**2, 0))
        is_cloud = valid & (bright >= _BRIGHT) & (np.ptp(image, axis=0) <= _GREY) & (deviation <= _SMOOTH)
        marks, count = ndimage.label(ndimage.binary_opening(is_cloud, np.ones((3, 3))))
        if not count:
            return np.zeros((_BLOCK, _BLOCK), dtype=bool)
        sizes = np.bincount(marks.ravel())
        is_large = sizes * self._look.gsd_m**2 >= _SMALLEST_M2
        is_large[0] = False
        grown = ndimage.binary_dilation(is_large[marks], iterations=math.ceil(_RIM_M / self._look.gsd_m))
        found: Bools = grown[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        return found
