"""Rasters whose one band holds numbers of colours."""

from __future__ import annotations

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

PALETTE_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def read_palette(dataset: rasterio.DatasetReader) -> NDArray[np.uint8] | None:
    """The colours (RGBA) of the first band's values, uint8 (256, 4); None if it has no palette."""
    if dataset.colorinterp[0] is not ColorInterp.palette or dataset.dtypes[0] != "uint8":
        return None
    table = np.zeros((256, 4), dtype=np.uint8)
    for value, colour in dataset.colormap(1).items():
        table[value] = colour
    return table


def expand_palette(
    values: NDArray[np.uint8], palette: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Colours uint8 (3, height, width) of the values (height, width), and where they are not transparent."""
    colours = palette[values]
    return np.moveaxis(colours[..., :3], -1, 0), colours[..., 3] > 0
