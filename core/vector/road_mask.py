"""Which pixels of a probability raster are road."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..raster.probability import LEVELS, NODATA

_EIGHT = np.ones((3, 3), bool)


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
    valid = values != NODATA
    mask: NDArray[np.bool_] = valid & (values >= _encoded(threshold))
    if threshold_low is not None and threshold_low < threshold and mask.any():
        labels, count = ndimage.label(valid & (values >= _encoded(threshold_low)), structure=_EIGHT)
        holds_road = np.zeros(count + 1, bool)
        holds_road[labels[mask]] = True
        mask = holds_road[labels]
    if min_area_px > 1 and mask.any():
        labels, count = ndimage.label(mask)
        is_kept = np.bincount(labels.ravel(), minlength=count + 1) >= min_area_px
        for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            is_kept[border] = True
        is_kept[0] = False
        mask = is_kept[labels]
    return mask


def _encoded(threshold: float) -> int:
    """The least encoded value of which at least half stands for probabilities from `threshold` on."""
    return math.ceil(threshold * LEVELS - 1e-6)
