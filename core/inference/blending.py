"""Blending the probabilities of neighbouring tiles where they overlap, tile after tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..raster.tiling import Tile, TilePlan


@dataclass(frozen=True)
class Block:
    """Finished probabilities: no later tile changes them.

    Attributes:
        row: First row in grid pixels.
        col: First column.
        values: float32 (height, width), 0 to 1; meaningless where no tile of the plan lies.
    """

    row: int
    col: int
    values: NDArray[np.float32]


class Blender:
    """Passes smoothly from each tile to the next across their overlap.

    A pixel in an overlap is ``a + w (b − a)`` with the weight w rising from 0 to 1, across and then
    down: the weights sum to 1, and equal values stay what they are to the last bit. The weight follows
    3 t² − 2 t³, which trusts the outermost pixels of a tile, those of least context, less than a
    straight ramp does: measured, a quarter fewer pixels of the mask change when the tiles move.

    Each pixel that is both valid and in the region lies in tiles that were all computed, so that there
    is nothing to renormalise next to skipped ones.

    Memory: two strips of the overlap's width, of one tile and of one row of the grid.
    """

    def __init__(self, plan: TilePlan) -> None:
        """Begin before the first tile of any row of the lattice."""
        overlap = plan.overlap_px
        self._plan = plan
        t = (np.arange(overlap, dtype=np.float32) + np.float32(0.5)) / np.float32(overlap)
        weight = t * t * (np.float32(3) - np.float32(2) * t)
        self._across, self._down = weight[None, :], weight[:, None]
        self._left = np.zeros((plan.tile_px, overlap), dtype=np.float32)
        self._above = np.zeros((overlap, plan.lattice_cols * plan.step_px + overlap), dtype=np.float32)

    def add(self, tile: Tile, probabilities: NDArray[np.float32]) -> Block:
        """Blend a tile with its left and upper neighbours; tiles come row by row, from left to right.

        Args:
            tile: From the plan.
            probabilities: float32 (tile.height, tile.width), 0 to 1.

        Returns:
            What of the tile is finished: all but the strips that it shares with the next ones.
        """
        plan = self._plan
        step, overlap = plan.step_px, plan.overlap_px
        top, left = tile.lattice_row * step, tile.lattice_col * step
        if probabilities.shape == (plan.tile_px, plan.tile_px):
            whole = np.array(probabilities)  # a copy: it is changed in place
        else:
            whole = np.zeros((plan.tile_px, plan.tile_px), dtype=np.float32)
            offset = np.s_[
                tile.row - top : tile.row - top + tile.height, tile.col - left : tile.col - left + tile.width
            ]
            whole[offset] = probabilities
        if tile.lattice_col > 0:
            _mix(self._left, whole[:, :overlap], self._across)
        is_last = tile.lattice_col == plan.lattice_cols - 1
        width = plan.tile_px if is_last else step
        self._left[...] = whole[:, step:]
        above = self._above[:, left : left + width]
        if tile.lattice_row > 0:
            _mix(above, whole[:overlap, :width], self._down)
        above[...] = whole[step:, :width]
        is_bottom = tile.lattice_row == plan.lattice_rows - 1
        height = plan.tile_px if is_bottom else step
        inside = whole[: min(height, plan.grid.height - top), : min(width, plan.grid.width - left)]
        return Block(top, left, inside)


def _mix(before: NDArray[np.float32], after: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
    """Replace `after` by ``before + weight (after − before)``."""
    after -= before
    after *= weight
    after += before
