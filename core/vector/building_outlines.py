"""Straight outlines with right angles for buildings that have them, from outlines along pixel edges."""

from __future__ import annotations

import math

import numpy as np
import shapely
from numpy.typing import NDArray

from .simplification import simplify_polygons

Polygons = NDArray[np.object_]
Floats = NDArray[np.float64]

LEAST_IOU = 0.9
"""A straightened outline that overlaps less than this with the pixels gives way to the simplified one."""

TOLERANCE_PX = 1.0  # of the simplified outline: about the uncertainty of a network's edges
_STEPS_M = (3.0, 2.0, 1.2)  # walls shorter than this are taken for noise, the boldest first
_STEPS_PX = (2.5, 2.0, 1.5)  # but never what is drawn by fewer pixels
_COST_OF_CORNERS = 0.03  # of IoU, that a bolder outline with fewer corners may cost
_ANGLE_ROUNDS = 3


def simplify_outlines(polygons: Polygons, bounds_px: tuple[int, int]) -> Polygons:
    """Smooth the stairs of polygons along pixel edges, by a pixel at most; area and holes are kept.

    Args:
        polygons: Valid polygons in pixels, shape (n,).
        bounds_px: Width and height of the raster, whose border stays where it is.
    """
    return simplify_polygons(polygons, TOLERANCE_PX, 0, bounds_px, keeps_apart=False)


def straighten_outlines(polygons: Polygons, gsd_m: float, bounds_px: tuple[int, int]) -> Polygons:
    """Give buildings straight walls, and right angles along their main direction where they have them.

    Each outline is tried as an oriented rectangle, and with all walls snapped to the main direction or at
    right angles to it, where walls shorter than 3, 2 and 1.2 m are levelled. The boldest that costs no more
    than 3 % of overlap against the best is taken, if it overlaps by `LEAST_IOU` with the pixels at all; else
    the outline is only simplified, which is what round and acute buildings get. Each polygon is treated by
    itself: neighbours that touch may come to overlap by a sliver.

    Args:
        polygons: Valid polygons along pixel edges, in pixels, shape (n,).
        gsd_m: Side of a pixel in metres.
        bounds_px: Width and height of the raster, whose border is no wall.

    Returns:
        Valid polygons, shape (n,), with the holes of the given ones.
    """
    result = simplify_outlines(polygons, bounds_px)
    if len(polygons) == 0:
        return result
    candidates = _candidates(result, gsd_m)
    iou = np.column_stack([_iou(polygons, candidate) for candidate in candidates])
    enough = np.maximum(iou.max(axis=1) - _COST_OF_CORNERS, LEAST_IOU)
    choice = np.argmax(iou >= enough[:, None], axis=1)  # the first that is enough
    is_found = (iou >= enough[:, None]).any(axis=1)
    for number, candidate in enumerate(candidates):
        chosen = is_found & (choice == number)
        result[chosen] = candidate[chosen]
    return result


def _candidates(outlines: Polygons, gsd_m: float) -> list[Polygons]:
    """Straightened outlines, the boldest first; where one cannot be made it is an empty polygon."""
    angles = main_directions(outlines)
    found = [_rectangles(outlines, angles)]
    for step_m, step_px in zip(_STEPS_M, _STEPS_PX, strict=True):
        step = max(step_m / gsd_m, step_px)
        squared = [_square_polygon(o, a, step) for o, a in zip(outlines, angles.tolist(), strict=True)]
        found.append(np.array(squared, object))
    return [np.where(shapely.is_valid(polygons), polygons, shapely.Polygon()) for polygons in found]


def _iou(one: Polygons, other: Polygons) -> Floats:
    common = shapely.area(shapely.intersection(one, other))
    iou: Floats = common / (shapely.area(one) + shapely.area(other) - common)
    return iou


def main_directions(outlines: Polygons) -> Floats:
    """The direction of most of the walls of each polygon, modulo a right angle, in radians, shape (n,).

    It is the mean of the directions of the outside's edges times four (so that right angles agree), weighted
    by their squared lengths, and then by how well they agree with it: a slanting wall does not turn a house.
    """
    vertices, owner = shapely.get_coordinates(shapely.get_exterior_ring(outlines), return_index=True)
    edge, inside = np.diff(vertices, axis=0), owner[1:] == owner[:-1]
    edge, owner = edge[inside], owner[1:][inside]
    turn = np.exp(4j * np.arctan2(edge[:, 1], edge[:, 0]))
    weight = np.square(edge).sum(axis=1)
    agrees = np.ones(len(edge))
    angle = np.zeros(len(outlines))
    for _ in range(_ANGLE_ROUNDS):
        pull = weight * agrees * turn
        total = np.bincount(owner, pull.real, len(outlines)) + 1j * np.bincount(
            owner, pull.imag, len(outlines)
        )
        angle = np.angle(total)
        agrees = np.maximum(np.cos(np.angle(turn) - angle[owner]), 0.0) ** 4
    direction: Floats = angle / 4
    return direction


def _rectangles(outlines: Polygons, angles: Floats) -> Polygons:
    """Rectangles of each outline's direction, centre and area, as long as its second moments say."""
    rings = shapely.get_exterior_ring(outlines)
    vertices, owner = shapely.get_coordinates(rings, return_index=True)
    cosine, sine = np.cos(angles), np.sin(angles)
    x = vertices[:, 0] * cosine[owner] + vertices[:, 1] * sine[owner]
    y = vertices[:, 1] * cosine[owner] - vertices[:, 0] * sine[owner]
    inside = owner[1:] == owner[:-1]
    ring, count = owner[1:][inside], len(outlines)
    origin_x, origin_y = (np.bincount(owner, v, count) / np.bincount(owner, minlength=count) for v in (x, y))
    x, y = x - origin_x[owner], y - origin_y[owner]
    x0, y0, x1, y1 = x[:-1][inside], y[:-1][inside], x[1:][inside], y[1:][inside]
    cross = x0 * y1 - x1 * y0

    def moment(values: Floats, divisor: float) -> Floats:
        total: Floats = np.bincount(ring, values * cross, count) / divisor
        return total

    area = moment(np.ones_like(cross), 2.0)
    mean_x, mean_y = moment(x0 + x1, 6.0) / area, moment(y0 + y1, 6.0) / area
    spread_x = moment(x0 * x0 + x0 * x1 + x1 * x1, 12.0) / area - mean_x**2
    spread_y = moment(y0 * y0 + y0 * y1 + y1 * y1, 12.0) / area - mean_y**2
    ratio = np.sqrt(np.maximum(spread_x, 1e-6) / np.maximum(spread_y, 1e-6))
    half_x, half_y = np.sqrt(np.abs(area) * ratio) / 2, np.sqrt(np.abs(area) / ratio) / 2
    corner_x = mean_x[:, None] + origin_x[:, None] + half_x[:, None] * np.array([-1, 1, 1, -1])
    corner_y = mean_y[:, None] + origin_y[:, None] + half_y[:, None] * np.array([-1, -1, 1, 1])
    corners = np.stack(
        [
            corner_x * cosine[:, None] - corner_y * sine[:, None],
            corner_x * sine[:, None] + corner_y * cosine[:, None],
        ],
        axis=2,
    )
    rectangles: Polygons = shapely.polygons(corners)
    return np.where(shapely.get_num_interior_rings(outlines) == 0, rectangles, shapely.Polygon())


def _square_polygon(outline: shapely.Polygon, angle: float, step: float) -> shapely.Polygon:
    """A polygon with all walls along or across a direction; empty where nothing is left of its outside."""
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    rings = []
    for ring in (outline.exterior, *outline.interiors):
        corners = square_ring(shapely.get_coordinates(ring)[:-1] @ turn, step)
        if len(corners) >= 4:
            rings.append(corners @ turn.T)
        elif not rings:
            return shapely.Polygon()
    return shapely.Polygon(rings[0], rings[1:])


def square_ring(vertices: Floats, step: float) -> Floats:
    """A ring of walls along the axes, none of them shorter than a step.

    Each edge is levelled at its middle, and neighbours in the same direction are linked across. Then the
    shortest wall goes, until all are long enough: where it was a step, both sides move to their mean by
    length, which keeps the area; where it was the end of a bump or of a notch, that goes.

    Args:
        vertices: Corners of a ring, not closed, shape (n, 2).
        step: Length from which a wall stays.

    Returns:
        Corners, shape (m, 2), m even; none where nothing is left.
    """
    walls = _level(vertices)
    while len(walls) >= 4:
        lengths = [abs(walls[(i + 1) % len(walls)] - walls[i - 1]) for i in range(len(walls))]
        i = min(range(len(walls)), key=lengths.__getitem__)
        if lengths[i] >= step or (len(walls) == 4 and lengths[i] > 0.0):
            break
        walls = _without(walls, i, lengths)
    if len(walls) < 4:
        return np.zeros((0, 2))
    across, down = np.array(walls[0::2]), np.array(walls[1::2])
    # Walls alternate: even ones stand at an x, odd ones at a y; each corner is where two of them meet.
    x, y = np.repeat(across, 2), np.repeat(down, 2)
    return np.column_stack([x, np.roll(y, 1)])


def _level(vertices: Floats) -> list[float]:
    """The walls of a ring as coordinates: x of an upright one, y of a level one, in turn, upright first."""
    points = vertices.tolist()
    walls: list[tuple[bool, float]] = []
    for i, (x, y) in enumerate(points):
        next_x, next_y = points[(i + 1) % len(points)]
        is_level = abs(next_x - x) >= abs(next_y - y)
        if walls and walls[-1][0] == is_level:
            walls.append((not is_level, x if is_level else y))
        walls.append((is_level, (y + next_y) / 2 if is_level else (x + next_x) / 2))
    if walls[0][0] == walls[-1][0]:
        walls.append((not walls[0][0], points[0][0] if walls[0][0] else points[0][1]))
    if walls[0][0]:
        walls.append(walls.pop(0))
    return [coordinate for _, coordinate in walls]


def _without(walls: list[float], i: int, lengths: list[float]) -> list[float]:
    """Take away wall i: those before and after it become one."""
    count = len(walls)
    before, after = (i - 1) % count, (i + 1) % count
    a, b = lengths[before], lengths[after]
    heading = (walls[i] - walls[i - 2]) * (walls[(i + 2) % count] - walls[i])
    if heading >= 0.0:
        merged = (walls[before] * a + walls[after] * b) / (a + b) if a + b > 0.0 else walls[before]
    else:
        merged = walls[before] if a >= b else walls[after]
    kept = [walls[(after + 1 + k) % count] for k in range(count - 3)]
    # What is left begins with the wall after the merged one, and has to begin with an upright one.
    ring = [*kept, merged]
    return ring if (after + 1) % 2 == 0 else [ring[-1], *ring[:-1]]
