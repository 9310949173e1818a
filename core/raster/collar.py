"""The collar of imagery that states no nodata: wedges and margins of pure white or pure black."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_SIDE_PX = 32  # a square of pure white or black of this side is no roof and no shadow
_FRINGE_PX = 16  # two blocks of JPEG: as far as its ringing reaches from the imagery into the collar
_FRINGE_LEVELS = 8  # and how far the ringing is from pure

COLLAR_SHADES = (0, 255)
CORNER_PX = 8
"""A shade is looked for only where a square of this side in a corner of the raster is pure."""

COLLAR_MARGIN_PX = 2 * _SIDE_PX + _FRINGE_PX
"""Pixels around a window that decide about collar inside it."""


def find_collar(
    image: NDArray[np.uint8],
    shades: Sequence[int] = COLLAR_SHADES,
    edges: tuple[bool, bool, bool, bool] = (True, True, True, True),
) -> NDArray[np.bool_]:
    """Find pixels that are no imagery although the file does not say so.

    Orthophotos cut from a rotated flight strip, and scenes warped to north, often come with wedges of
    pure white (255 in all bands) or pure black (0) and no nodata value. Collar is what a square of 32
    pixels that is pure throughout can reach (a morphological opening; outside of the raster everything
    counts as pure, so that a narrow strip along its edge is found too), and within 16 pixels of that
    what is pure to 8 levels: JPEG rings where imagery meets the collar. Saturated roofs and deep
    shadows are smaller than the square, and noisier. Saturated sand and still water are not, so a shade
    should be looked for only if it fills a corner of the raster, as wedges and margins do (without that
    rule 11 of 63 tiles of a desert city had such areas; with it none, and no wedge was lost).

    Args:
        image: (bands, height, width); for a window inside the raster read with `COLLAR_MARGIN_PX` more
            pixels around it, the result is the same in any window.
        shades: 0 or 255, or both.
        edges: Whether the array's (top, bottom, left, right) edge is the raster's.

    Returns:
        bool (height, width), True is collar.
    """
    collar = np.zeros(image.shape[1:], dtype=bool)
    for shade in shades:
        # how far the band that is farthest from the shade is from it
        away = image.max(axis=0) if shade == 0 else shade - image.min(axis=0)
        pure, nearly = away == 0, away <= _FRINGE_LEVELS
        if pure.any():
            seeds = _open(pure, edges)
            if seeds.any():
                near = ndimage.maximum_filter(seeds.view(np.uint8), size=2 * _FRINGE_PX + 1, mode="constant")
                collar |= near.view(bool) & nearly
    return collar


def _open(pure: NDArray[np.bool_], edges: tuple[bool, bool, bool, bool]) -> NDArray[np.bool_]:
    """Pixels that some square of `_SIDE_PX`, pure throughout, covers."""
    top, bottom, left, right = (_SIDE_PX if at_edge else 0 for at_edge in edges)
    padded = np.pad(pure, ((top, bottom), (left, right)), constant_values=True).view(np.uint8)
    whole = ndimage.minimum_filter(padded, size=_SIDE_PX, mode="constant", cval=0, origin=0)
    if not whole.any():
        return np.zeros_like(pure)
    # the square is even: the dilation looks the other way by one pixel
    opened = ndimage.maximum_filter(whole, size=_SIDE_PX, mode="constant", cval=0, origin=-1)
    return np.asarray(opened[top : top + pure.shape[0], left : left + pure.shape[1]].view(bool))
