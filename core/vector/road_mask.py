"""Which pixels of a probability raster are road."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..raster.probability import threshold_mask
from .components import find_components


def road_mask(
    values: NDArray[np.uint8], threshold: float, threshold_low: float | None = None, min_area_px: float = 0.0
) -> NDArray[np.bool_]:
    """Threshold encoded probabilities, with hysteresis, and drop small components.

    A component that reaches the array's border is kept whatever its size: what lies beyond is not known.

    Args:
        values: uint8 (height, width), round(p x 254), 255 is nodata and never road.
        threshold: Probability from which a pixel is road, 0 to 1.
        threshold_low: Pixels from here on are road, too, where their 8-connected component holds one
            over `threshold`; none: no hysteresis.
        min_area_px: 4-connected components of fewer pixels are dropped.

    Returns:
        bool (height, width).
    """
    mask = threshold_mask(values, threshold)
    if threshold_low is not None and threshold_low < threshold and mask.any():
        weak = threshold_mask(values, threshold_low)
        components = find_components(weak, diagonal=True)
        holds_road = np.zeros(components.count, bool)
        # Whatever is over the threshold lies in one run of what is over the lower one.
        strong = find_components(mask).begins
        holds_road[components.label[np.searchsorted(components.begins, strong, side="right") - 1]] = True
        mask = weak
        np.put(mask, components.pixels(~holds_road[components.label]), False)
    if min_area_px > 1 and mask.any():
        components = find_components(mask)
        is_dropped = (components.sizes_px() < min_area_px) & ~components.touch_border()
        np.put(mask, components.pixels(is_dropped[components.label]), False)
    return mask
