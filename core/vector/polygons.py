"""Polygons along the pixel edges of a mask, exact to the pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from .components import Bools, Components, Ints, find_components
from .paths import order_paths


@dataclass(frozen=True)
class Outlines:
    """What `polygonize_mask` finds.

    Attributes:
        polygons: One polygon a component, shape (n,), in pixel coordinates: x to the right, y down,
            (0, 0) the upper-left corner of the array's first pixel.
        components: The pixels of each: component i is `polygons[i]`.
    """

    polygons: NDArray[np.object_]
    components: Components


def polygonize_mask(mask: NDArray[np.bool_]) -> Outlines:
    """Outline each 4-connected component of a mask along its pixel edges; holes are kept.

    No area is won or lost: rasterising the polygons gives the mask again. Every polygon is valid: where
    a component touches itself at a pixel's corner, the outline is split there into rings that meet in
    that point; where two components do, they stay two polygons.

    Each lattice point at which an outline turns is one vertex. Along a row of lattice points the
    vertices pair up into horizontal edges, along a column into vertical ones, so that following them in
    turn walks the rings; nothing loops over pixels, and beyond the search for runs nothing is dense.

    Args:
        mask: bool (height, width).
    """
    components = find_components(mask)
    if components.count == 0:
        return Outlines(np.zeros(0, object), components)
    vertex, label, begins, rank = _find_vertices(components)
    y, x = np.divmod(vertex, mask.shape[1] + 1)
    across = np.arange(len(vertex))
    down = np.argsort((x * (mask.shape[0] + 1) + y) * 2 + rank)
    order, starts = order_paths(
        len(vertex),
        np.concatenate([across[0::2], down[0::2]]),
        np.concatenate([across[1::2], down[1::2]]),
    )

    # A ring starts at its highest and there leftmost vertex: the run below begins there where the ring is
    # the outside, and ends there where it is a hole.
    head = order[starts[:-1]]
    owner, is_hole = label[head], ~begins[head]
    ring = np.repeat(np.arange(len(head)), np.diff(starts))
    rings = shapely.linearrings(np.column_stack([x[order], y[order]]).astype(float), indices=ring)
    sort = np.lexsort((head, is_hole, owner))
    return Outlines(shapely.polygons(rings[sort], indices=owner[sort]), components)


def _find_vertices(components: Components) -> tuple[Ints, Ints, Bools, Ints]:
    """Find the lattice points at which an outline turns, from the vertical unit edges at the ends of runs.

    An outline turns where a vertical edge does not go on as the same side of a road; it turns twice where
    two pixels meet at the point only.

    Returns:
        Lattice point of each vertex, in ascending order; component of its run, the one below where there
        are two; whether that run begins there; and 1 for the lower of two vertices in a point, seen along
        its column. Along its row the first is the left one. Which of them goes up is decided by what is
        connected.
    """
    edge = np.column_stack([components.begins, components.ends]).ravel()
    vertex = np.concatenate([edge + components.shape[1] + 1, edge])
    order = np.argsort(vertex, kind="stable")  # edges from above come before those that go down
    vertex = vertex[order]
    run, side = np.divmod(order % len(edge), 2)
    label, begins = components.label[run], side == 0

    above = np.flatnonzero(vertex[1:] == vertex[:-1])
    goes_on = begins[above] == begins[above + 1]
    turns = np.ones(len(vertex), bool)
    turns[above[goes_on]] = turns[above[goes_on] + 1] = False
    above = above[~goes_on]
    is_lower = begins[above] ^ (label[above] == label[above + 1])
    rank = np.zeros(len(vertex), np.int64)
    rank[above], rank[above + 1] = is_lower, ~is_lower
    return vertex[turns], label[turns], begins[turns], rank[turns]


def unite_polygons(polygons: NDArray[np.object_], group: Ints, count: int) -> NDArray[np.object_]:
    """Unite the pieces of polygons that were cut along pixel edges.

    Args:
        polygons: The pieces, shape (n,).
        group: Which polygon each belongs to, 0 to `count` - 1, shape (n,); none is without pieces.
        count: Number of polygons.

    Returns:
        Polygons, shape (count,).
    """
    united = np.empty(count, object)
    united[group] = polygons
    order = np.argsort(group, kind="stable")
    begins = np.searchsorted(group[order], np.arange(count + 1))
    for joined in np.flatnonzero(np.diff(begins) > 1):
        members = order[begins[joined] : begins[joined + 1]]
        # Seams leave vertices on straight edges; a normal polygon begins at a corner.
        union = shapely.normalize(shapely.union_all(polygons[members]))
        united[joined] = shapely.simplify(union, 0.0)
    return united
