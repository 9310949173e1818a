"""Smooth road edges out of pixel stairs, without losing area, holes or validity."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Polygons = NDArray[np.object_]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# From here on a tolerance allows the half pixel by which smoothing moves an edge.
SMOOTHING_PX = 0.5
_ATTEMPTS = 4


def simplify_polygons(
    polygons: Polygons,
    tolerance_px: float,
    cut_px: int,
    bounds_px: tuple[int, int],
    *,
    keeps_apart: bool = True,
) -> Polygons:
    """Simplify polygons that follow pixel edges; each stays valid, keeps its holes and overlaps no other.

    Stairs are smoothed first, where the tolerance allows it: each step of one pixel between two longer
    edges gives way to the line through the midpoints. What that takes from an edge's one end it adds at
    the other, so area is kept, which plain Douglas-Peucker or Visvalingam on stairs do not. Then
    Douglas-Peucker. Vertices on the lines at which networks are cut stay where they are, so that both
    sides match, whichever is made first. A polygon that would be damaged gets half the tolerance, a
    quarter, and in the end its pixel edges.

    Args:
        polygons: Valid polygons with whole-numbered coordinates, shape (n,).
        tolerance_px: How far an outline may move; 0 returns the polygons as they are.
        cut_px: Distance of the lines, counted from 0, at which vertices stay; 0: no lines.
        bounds_px: Width and height of the raster: its border is such a line too.
        keeps_apart: Whether polygons that come to overlap count as damaged. Without, each is simplified
            by itself, whatever else is given.

    Returns:
        Polygons, shape (n,).
    """
    if tolerance_px <= 0 or len(polygons) == 0:
        return polygons
    # However they came to be, the same polygons begin at the same vertex and are simplified alike.
    polygons = shapely.normalize(polygons)
    result = polygons.copy()
    todo = np.arange(len(polygons))
    for attempt in range(_ATTEMPTS - 1):
        result[todo] = _simplified(polygons[todo], tolerance_px / 2**attempt, cut_px, bounds_px)
        todo = _damaged(result, todo, keeps_apart)
        if len(todo) == 0:
            return result
    result[todo] = polygons[todo]
    if not keeps_apart:
        return result
    # Pixel edges can still cross a neighbour that was smoothed: then that one goes back as well.
    while len(todo := _overlapping(result)):
        result[todo] = polygons[todo]
        if shapely.equals_exact(result, polygons).all():
            break
    return result


def _damaged(polygons: Polygons, changed: NDArray[np.int64], keeps_apart: bool) -> NDArray[np.int64]:
    invalid: NDArray[np.int64] = changed[~shapely.is_valid(polygons[changed])]
    if not keeps_apart:
        return invalid
    sound = polygons.copy()
    sound[invalid] = None
    return np.union1d(invalid, _overlapping(sound))


def _overlapping(polygons: Polygons) -> NDArray[np.int64]:
    """Indices of the polygons whose inside meets another's."""
    pairs = shapely.STRtree(polygons).query(polygons)
    one, other = pairs[:, pairs[0] < pairs[1]]
    size = shapely.get_num_coordinates(polygons)
    one, other = np.where(size[one] >= size[other], (one, other), (other, one))
    shapely.prepare(polygons[one])  # an index of the larger one, which many are compared with
    near = shapely.intersects(polygons[one], polygons[other])
    one, other = one[near], other[near]
    meet = shapely.relate_pattern(polygons[one], polygons[other], "T********")
    return np.unique(np.concatenate([one[meet], other[meet]]))


def _simplified(polygons: Polygons, tolerance_px: float, cut_px: int, bounds_px: tuple[int, int]) -> Polygons:
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    vertices, ring = shapely.get_coordinates(rings, return_index=True)
    is_last = np.append(ring[1:] != ring[:-1], True)
    vertices, ring = vertices[~is_last], ring[~is_last]
    vertices, ring, is_fixed = _begin_at_lines(vertices, ring, cut_px, bounds_px)
    if tolerance_px >= SMOOTHING_PX:
        vertices, ring, is_fixed = _smooth_stairs(vertices, ring, is_fixed)
    kept = _douglas_peucker(vertices, ring, _anchors(vertices, ring, is_fixed), tolerance_px)
    vertices, ring = _give_back_area(vertices, ring, kept, is_fixed, tolerance_px), ring[kept]
    size = np.bincount(ring, minlength=len(rings))
    is_ring = size >= 3
    usable = is_ring[ring]
    number = np.cumsum(is_ring) - 1
    rings[is_ring] = shapely.linearrings(vertices[usable], indices=number[ring[usable]])
    result: Polygons = shapely.polygons(rings, indices=polygon)
    return result


def _begin_at_lines(
    vertices: Floats, ring: NDArray[np.int64], cut_px: int, bounds_px: tuple[int, int]
) -> tuple[Floats, NDArray[np.int64], Bools]:
    """Mark the vertices on lines, and turn each ring that has one so that it begins there."""
    on_line = (vertices == 0) | (vertices == bounds_px)
    if cut_px:
        on_line |= vertices % cut_px == 0
    fixed = on_line.any(axis=1)
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    sizes = np.diff(starts, append=len(ring))
    position = np.arange(len(ring)) - np.repeat(starts, sizes)
    first_fixed = np.minimum.reduceat(np.where(fixed, position, len(ring)), starts)
    shift = np.where(first_fixed < len(ring), first_fixed, 0)
    turned = np.repeat(starts, sizes) + (position + np.repeat(shift, sizes)) % np.repeat(sizes, sizes)
    return vertices[turned], ring, fixed[turned]


def _anchors(vertices: Floats, ring: NDArray[np.int64], is_fixed: Bools) -> Bools:
    """Where to hold a ring for Douglas-Peucker: its first vertex, that farthest from it, and the fixed ones.

    The neighbours of fixed vertices are held, too: these lie on whole pixels, so that the edge between two
    of them, a kilometre apart, would be off by up to half a pixel, and could not be moved.
    """
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    sizes = np.diff(starts, append=len(ring))
    distance = np.square(vertices - np.repeat(vertices[starts], sizes, axis=0)).sum(axis=1)
    is_farthest = distance == np.repeat(np.maximum.reduceat(distance, starts), sizes)
    candidates = np.flatnonzero(is_farthest)[::-1]
    farthest = np.empty(len(starts), np.int64)
    farthest[np.repeat(np.arange(len(starts)), sizes)[candidates]] = candidates  # the last assigned stays
    after = _following(ring)
    anchors = is_fixed | is_fixed[after]
    anchors[after[is_fixed]] = True
    anchors[starts] = True
    anchors[farthest] = True
    return anchors


def _smooth_stairs(
    vertices: Floats, ring: NDArray[np.int64], is_fixed: Bools
) -> tuple[Floats, NDArray[np.int64], Bools]:
    """Replace each step of one pixel by the line through its midpoint and its neighbours' midpoints."""
    after = _following(ring)
    before = np.empty_like(after)
    before[after] = np.arange(len(ring))

    edge = vertices[after] - vertices
    turn = np.sign(_cross(edge[before], edge))
    is_step = (np.abs(edge).sum(axis=1) == 1) & (turn * turn[after] < 0) & ~is_fixed & ~is_fixed[after]
    is_stair = is_step | is_step[before] | is_step[after]

    stays = ~(is_step | is_step[before])
    both = np.stack([vertices, vertices + edge / 2], axis=1).reshape(-1, 2)
    kept = np.stack([stays, is_stair], axis=1).ravel()
    fixed = np.stack([is_fixed, np.zeros_like(is_fixed)], axis=1).ravel()
    return both[kept], np.repeat(ring, 2)[kept], fixed[kept]


def _douglas_peucker(
    vertices: Floats, ring: NDArray[np.int64], is_fixed: Bools, tolerance_px: float
) -> NDArray[np.int64]:
    """Choose the vertices that stay; every ring begins with a fixed one, and these all do."""
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    closed = np.insert(np.arange(len(ring)), np.append(starts[1:], len(ring)), starts)
    stops = np.flatnonzero(is_fixed[closed])
    is_span = ring[closed[stops[:-1]]] == ring[closed[stops[1:]]]
    begin = stops[:-1][is_span]
    length = stops[1:][is_span] - begin + 1
    span = np.repeat(np.arange(len(begin)), length)
    vertex = closed[np.arange(len(span)) + np.repeat(begin - (np.cumsum(length) - length), length)]
    # GEOS simplifies in the plane and carries z along: it tells which vertices are left.
    lines = shapely.linestrings(np.column_stack([vertices[vertex], vertex]), indices=span)
    simple = shapely.simplify(lines, tolerance_px, preserve_topology=False)
    is_kept = np.zeros(len(ring), bool)
    is_kept[shapely.get_coordinates(simple, include_z=True)[:, 2].astype(np.int64)] = True
    return np.flatnonzero(is_kept)


def _give_back_area(
    vertices: Floats, ring: NDArray[np.int64], kept: NDArray[np.int64], is_fixed: Bools, tolerance_px: float
) -> Floats:
    """Move the kept vertices so that the area between the old outline and the new comes back.

    Each new edge ought to be shifted by that area over its length. A vertex moves to where its two
    shifted edges cross, in the sense of least squares weighted by length (in a straight they are nearly
    parallel and do not cross nearby).

    Returns:
        Coordinates of the kept vertices, shape (len(kept), 2).
    """
    after = _following(ring)
    lost = np.add.reduceat(_cross(vertices, vertices[after]), kept)
    corner, corner_ring = vertices[kept], ring[kept]
    following = _following(corner_ring)
    edge = corner[following] - corner
    length = np.maximum(np.hypot(edge[:, 0], edge[:, 1]), 1e-9)
    shift = (lost - _cross(corner, corner[following])) / 2 / length
    normal = np.column_stack([edge[:, 1], -edge[:, 0]]) / length[:, None]

    squares = length[:, None, None] * normal[:, :, None] * normal[:, None, :]
    pulls = (length * shift)[:, None] * normal
    incoming = np.empty_like(following)
    incoming[following] = np.arange(len(following))
    squares = squares + squares[incoming] + 0.02 * (length + length[incoming])[:, None, None] * np.eye(2)
    move = np.linalg.solve(squares, (pulls + pulls[incoming])[:, :, None])[:, :, 0]
    size = np.hypot(move[:, 0], move[:, 1])
    move *= np.minimum(1.0, tolerance_px / np.maximum(size, 1e-9))[:, None]
    move[is_fixed[kept]] = 0.0
    moved: Floats = corner + move
    return moved


def _following(ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each vertex's successor in its ring."""
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    after = np.arange(1, len(ring) + 1)
    after[np.append(starts[1:], len(ring)) - 1] = starts
    return after


def _cross(a: Floats, b: Floats) -> Floats:
    product: Floats = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return product
