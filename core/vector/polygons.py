"""Polygons along the pixel edges of a mask, exact to the pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from .paths import order_paths

# Which of the four pixels round a lattice point are set: upper left 1, upper right 2, lower left 4,
# lower right 8. One or three: the outline turns there. Two that meet at the point only: twice.
_FALLING, _RISING = 9, 6
_TURNS = np.array([bin(code).count("1") % 2 for code in range(16)], np.uint8)
_TURNS[[_FALLING, _RISING]] = 2


@dataclass(frozen=True)
class Outlines:
    """What `polygonize_mask` finds.

    Attributes:
        polygons: One polygon a component, shape (n,), in pixel coordinates: x to the right, y down,
            (0, 0) the upper-left corner of the array's first pixel.
        labels: int32 array of the mask's shape: component i + 1 is `polygons[i]`, 0 is none.
    """

    polygons: NDArray[np.object_]
    labels: NDArray[np.int32]


def polygonize_mask(mask: NDArray[np.bool_]) -> Outlines:
    """Outline each 4-connected component of a mask along its pixel edges; holes are kept.

    No area is won or lost: rasterising the polygons gives the mask again. Every polygon is valid: where
    a component touches itself at a pixel's corner, the outline is split there into rings that meet in
    that point; where two components do, they stay two polygons.

    Each lattice point at which an outline turns is one vertex. Along a row of lattice points the
    vertices pair up into horizontal edges, along a column into vertical ones, so that following them in
    turn walks the rings; nothing loops over pixels.

    Args:
        mask: bool (height, width).
    """
    labels, count = ndimage.label(mask)
    labels = labels.astype(np.int32, copy=False)
    if count == 0:
        return Outlines(np.zeros(0, object), labels)
    height = mask.shape[0]
    pad = np.pad(labels, 1)
    inside = (pad > 0).view(np.uint8)
    codes = inside[:-1, :-1] | inside[:-1, 1:] << 1 | inside[1:, :-1] << 2 | inside[1:, 1:] << 3
    y, x = np.nonzero(_TURNS[codes])
    repeats = _TURNS[codes[y, x]]
    second = np.zeros(int(repeats.sum()), np.int64)
    second[np.cumsum(repeats)[repeats == 2] - 1] = 1
    y, x = np.repeat(y, repeats), np.repeat(x, repeats)
    code = codes[y, x]

    # Where two pixels meet at the point only, its first vertex ends the edge from the left and its
    # second begins the edge to the right. Which of them goes up is decided by what is connected.
    is_self_contact = np.where(
        code == _FALLING, pad[y, x] == pad[y + 1, x + 1], pad[y, x + 1] == pad[y + 1, x]
    )
    is_flipped = (code == _RISING) ^ (is_self_contact & (_TURNS[code] == 2))
    down = np.argsort((x * (height + 1) + y) * 2 + (second ^ is_flipped))
    across = np.arange(len(x))
    order, starts = order_paths(
        len(x),
        np.concatenate([across[0::2], down[0::2]]),
        np.concatenate([across[1::2], down[1::2]]),
    )

    # A ring starts at its highest and there leftmost vertex: the pixel to the lower right is the
    # component's own where the ring is the outside, the one to the upper right where it is a hole.
    head = order[starts[:-1]]
    is_outside = code[head] & 8 > 0
    owner = np.where(is_outside, pad[y[head] + 1, x[head] + 1], pad[y[head], x[head] + 1])
    ring = np.repeat(np.arange(len(head)), np.diff(starts))
    rings = shapely.linearrings(np.column_stack([x[order], y[order]]).astype(float), indices=ring)
    sort = np.lexsort((head, ~is_outside, owner))
    return Outlines(shapely.polygons(rings[sort], indices=owner[sort] - 1), labels)
