"""The raster of a damage run: the probability of a building, then those of the levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from .raster.probability import NODATA, decode_probabilities
from .vector.windows import Window


class CodeReader:
    """Windows of the raster of a run: the footprint head first, then the levels.

    Args:
        path: Of the raster.
    """

    def __init__(self, path: Path) -> None:
        self._dataset = rasterio.open(path)
        self._levels = list(range(2, self._dataset.count + 1))

    def __enter__(self) -> CodeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._dataset.close()

    def read_building(self, window: Window) -> NDArray[np.uint8]:
        """Codes of the footprint head, uint8 (height, width), of a window inside the raster."""
        found: NDArray[np.uint8] = self._dataset.read(
            1, window=RasterWindow(window.col, window.row, window.width, window.height)
        )
        return found

    def read_levels(self, window: Window) -> NDArray[np.uint8]:
        """Codes of the levels, uint8 (levels, height, width), of a window inside the raster."""
        found: NDArray[np.uint8] = self._dataset.read(
            self._levels, window=RasterWindow(window.col, window.row, window.width, window.height)
        )
        return found

    def read_footprint(
        self, row: int, col: int, height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probability of a building, (1, height, width), and where it is known; what lies outside is not."""
        codes = np.full((height, width), NODATA, np.uint8)
        top, left = max(row, 0), max(col, 0)
        bottom = min(row + height, self._dataset.height)
        right = min(col + width, self._dataset.width)
        if bottom > top and right > left:
            inside = Window(top, left, bottom - top, right - left)
            codes[top - row : bottom - row, left - col : right - col] = self.read_building(inside)
        values, valid = decode_probabilities(codes)
        return values[None], valid
