"""A mask of an image that is found block by block, on pixels coarser than those on which it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .grid import Grid
from .source import RasterSource

Bools = NDArray[np.bool_]

FindMask = Callable[[NDArray[np.float32], Bools], Bools]
"""float32 (bands, h, w) in 0 to 1, and bool (h, w), where it is valid, to bool (h, w)."""

_BLOCKS_KEPT = 64


class BlockMask:
    """A mask that windows agree on, whatever their size: its blocks always lie in the same places.

    Memory: `_BLOCKS_KEPT` blocks of the mask and one of the image, whatever its size.

    Args:
        source: The image.
        grid: On which the mask is asked for.
        look: On which it is found; of the same source.
        block_px: Side of a block, in pixels of the look.
        margin_px: How much further around it the image is read.
        find: Finds it in a block with its margin.
    """

    def __init__(
        self,
        source: RasterSource,
        grid: Grid,
        look: Grid,
        block_px: int,
        margin_px: int,
        find: FindMask,
    ) -> None:
        self._source, self._grid, self._look = source, grid, look
        self._side, self._margin, self._find = block_px, margin_px, find
        self._block = lru_cache(_BLOCKS_KEPT)(self._find_block)

    def read(self, row: int, col: int, height: int, width: int) -> Bools:
        """The mask in a window of the grid: bool (height, width)."""
        side = self._side
        rows = self._onto_look(np.arange(row, row + height), 1, self._look.height)
        cols = self._onto_look(np.arange(col, col + width), 0, self._look.width)
        found = np.zeros((height, width), dtype=bool)
        for i in range(rows[0] // side, rows[-1] // side + 1):
            for j in range(cols[0] // side, cols[-1] // side + 1):
                block = self._block(i, j)
                if not block.any():
                    continue
                own_rows, own_cols = np.flatnonzero(rows // side == i), np.flatnonzero(cols // side == j)
                part = block[np.ix_(rows[own_rows] - i * side, cols[own_cols] - j * side)]
                found[own_rows[0] : own_rows[-1] + 1, own_cols[0] : own_cols[-1] + 1] = part
        return found

    def _onto_look(self, pixels: NDArray[np.int64], axis: int, size: int) -> NDArray[np.int64]:
        factor = self._grid.source_px[axis] / self._look.source_px[axis]
        places: NDArray[np.int64] = np.clip(np.floor((pixels + 0.5) * factor).astype(np.int64), 0, size - 1)
        return places

    def _find_block(self, i: int, j: int) -> Bools:
        block, margin = self._side, self._margin
        side = block + 2 * margin
        image, valid = self._source.read(self._look, i * block - margin, j * block - margin, side, side)
        return self._find(image, valid)[margin : margin + block, margin : margin + block]
