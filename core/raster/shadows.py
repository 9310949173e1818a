"""Where an image shows deep shadow: so dark, and so even, that nothing can be made out in it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .alignment import spread_windows
from .block_mask import BlockMask, Bools
from .clouds import BRIGHT
from .grid import Grid, plan_grid
from .source import RasterSource

_LOOK_M = 1.0  # pixels on which shadow is looked for: a house in it is some of them wide
_DARK, _EVEN = 0.5, 0.5  # of what is usual in the image: most brightness, most deviation
_SMALLEST_M2 = 5_000.0  # black roofs and fresh asphalt look the same, but are smaller, all but a few
_DEVIATION_PX, _GAP_PX, _SPECK_PX = 5, 3, 5  # sides of what is measured, closed and opened
_BLOCK, _MARGIN = 256, 72  # pixels of the look
_LEAST_KNOWN = 10_000  # pixels that do


class ShadowFinder:
    """Finds deep shadow in an image, block by block: of clouds and hills.

    What is called dark and even follows from the image: less than half as bright and half as rich in contrast
    as is usual there. So neither a dark sensor nor night is shadow; and a house that can be made out in it is
    not, for its edges are contrast. Shadows of single buildings are left: what is black by itself looks the
    same. Deep water is found, too: nothing stands on it.

    Memory: a few blocks of the image at `_LOOK_M`, whatever its size.

    Args:
        source: The image.
        grid: On which it is asked for.
    """

    def __init__(self, source: RasterSource, grid: Grid) -> None:
        self._source = source
        self._look = plan_grid(source, max(_LOOK_M, grid.gsd_m))
        self._mask = BlockMask(source, grid, self._look, _BLOCK, _MARGIN, self._find)

    def mask(self, row: int, col: int, height: int, width: int) -> Bools:
        """Where a window of the grid shows deep shadow: bool (height, width)."""
        return self._mask.read(row, col, height, width)

    @cached_property
    def _usual(self) -> tuple[float, float]:
        """Medians of brightness and deviation, over windows of the whole image, without cloud.

        Zeros, which nothing stays below, where the image shows too little.
        """
        brightness, deviations = [], []
        for window in spread_windows((0, 0, self._look.height, self._look.width)):
            image, valid = self._source.read(self._look, window.row, window.col, window.side, window.side)
            bright, deviation, known = _measure(image, valid)
            known &= image.min(axis=0) < BRIGHT
            brightness.append(bright[known])
            deviations.append(deviation[known])
        if sum(map(len, brightness)) < _LEAST_KNOWN:
            return 0.0, 0.0
        return float(np.median(np.concatenate(brightness))), float(np.median(np.concatenate(deviations)))

    def _find(self, image: NDArray[np.float32], valid: Bools) -> Bools:
        bright, deviation, known = _measure(image, valid)
        usual_brightness, usual_deviation = self._usual
        is_dark = known & (bright < _DARK * usual_brightness) & (deviation < _EVEN * usual_deviation)
        closed = ndimage.binary_closing(is_dark, np.ones((_GAP_PX, _GAP_PX))) & known
        marks, count = ndimage.label(ndimage.binary_opening(closed, np.ones((_SPECK_PX, _SPECK_PX))))
        if not count:
            return np.zeros_like(valid)
        sizes = np.bincount(marks.ravel())
        is_large = sizes * self._look.gsd_m**2 >= _SMALLEST_M2
        is_large[0] = False
        found: Bools = is_large[marks]
        return found


def _measure(
    image: NDArray[np.float32], valid: Bools
) -> tuple[NDArray[np.float32], NDArray[np.float32], Bools]:
    """Brightness (highest band) and deviation (of the mean of bands) of pixels, and where both are known."""
    grey = image.mean(axis=0)
    mean = ndimage.uniform_filter(grey, _DEVIATION_PX)
    variance = ndimage.uniform_filter(grey**2, _DEVIATION_PX) - mean**2
    known: Bools = ndimage.minimum_filter(valid, size=_DEVIATION_PX)
    return image.max(axis=0), np.sqrt(np.maximum(variance, 0.0)), known
