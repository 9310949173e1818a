"""How the values of a raster become the 0 to 1 that a network sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

_PERCENTILES = (0.5, 99.5)
_SAMPLE_PX = 1024  # side of the sample, where it is one decimated read
_PATCHES = 24  # and where it is patches: so many a side,
_PATCH_PX = 48  # of so many pixels a side


@dataclass(frozen=True)
class Stretch:
    """Values are (value − low) × factor, both float32 (bands, 1, 1), limited to 0 to 1."""

    low: NDArray[np.float32]
    factor: NDArray[np.float32]
    is_within: bool = False  # no value lies outside of 0 to 1

    def apply(self, image: NDArray[np.float32]) -> None:
        """Bring an image (bands, height, width) to 0 to 1, in place."""
        if self.low.any():
            image -= self.low
        image *= self.factor
        if not self.is_within:
            np.clip(image, 0.0, 1.0, out=image)


def divide_by_255(bands: int) -> Stretch:
    """What uint8 gets."""
    low, factor = np.zeros((bands, 1, 1), np.float32), np.full((bands, 1, 1), 1 / 255, np.float32)
    return Stretch(low, factor, is_within=True)


def stretch_percentiles(sample: NDArray[np.generic]) -> Stretch:
    """What every other type gets: each band from its 0.5 to its 99.5 percentile.

    Args:
        sample: Valid values, (bands, n); n may be 0. A constant band becomes 0.
    """
    low, high = np.zeros(len(sample)), np.ones(len(sample))
    if sample.size:
        low, high = np.percentile(sample.astype(np.float64), _PERCENTILES, axis=1)
    span = np.where(high > low, high - low, np.inf)
    return Stretch(low.astype(np.float32)[:, None, None], (1.0 / span).astype(np.float32)[:, None, None])


def sample_windows(dataset: rasterio.DatasetReader) -> Iterator[tuple[Window, tuple[int, int]]]:
    """Windows, and the (rows, columns) to read each as, that are a sample of the raster.

    The same each time. One decimated read where it is cheap: a small raster, or one with overviews;
    else patches on a regular grid, since GDAL would decode all of a large raster for it.
    """
    height, width = dataset.height, dataset.width
    shape = (min(height, _SAMPLE_PX), min(width, _SAMPLE_PX))
    if height * width <= (4 * _SAMPLE_PX) ** 2 or dataset.overviews(1):
        yield Window(0, 0, width, height), shape
        return
    patch = (min(height, _PATCH_PX), min(width, _PATCH_PX))
    for row in np.linspace(0, height - patch[0], min(_PATCHES, height)).astype(int):
        for col in np.linspace(0, width - patch[1], min(_PATCHES, width)).astype(int):
            yield Window(int(col), int(row), patch[1], patch[0]), patch
