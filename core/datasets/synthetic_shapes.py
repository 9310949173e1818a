"""The vector objects of a synthetic town and the plane geometry that they are made with, in metres.

x runs to the east and y to the south, as columns and rows do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ids = NDArray[np.int64]


class Layer(IntEnum):
    """What is painted, from back to front; TRACK, STREET and AVENUE are the roads of the truth."""

    GROUND = 0
    LAND = 1
    FEATURE = 2
    VERGE = 3
    TRACK = 4
    STREET = 5
    AVENUE = 6
    ISLAND = 7
    MARKING = 8
    PARKED = 9
    CAR = 10
    WALL = 11
    RUBBLE = 12
    ROOF = 13
    ROOF_DETAIL = 14
    CROWN = 15


class Texture(IntEnum):
    """How a surface's brightness varies; the renderer holds the amplitudes."""

    SMOOTH = 0
    PAVED = 1
    WORN = 2
    SOIL = 3
    GRASS = 4
    CANOPY = 5
    WATER = 6
    ROOF = 7
    RUBBLE = 8


@dataclass(frozen=True)
class Painted:
    """Shapes of one surface.

    Attributes:
        outlines: (n, 4, 2) corners of convex polygons, or (n, 3) x, y and radius of discs, in metres.
        rgb: (n, 3), 0 to 1.
        texture: How the surface's brightness varies.
        stripes: Furrows and the like: amplitude, angle in radians, wavelength in metres.
        ids: (n,) int64, the building that each is a part of, as in `Buildings`; none: of no building.
    """

    outlines: Points
    rgb: Points
    texture: Texture
    stripes: tuple[float, float, float] = (0.0, 0.0, 1.0)
    ids: Ids | None = None


@dataclass
class Shapes:
    """What is painted in one layer, polygons first."""

    polygons: list[Painted] = field(default_factory=list)
    discs: list[Painted] = field(default_factory=list)


@dataclass(frozen=True)
class Buildings:
    """Convex parts of buildings.

    Attributes:
        footprints: (n, 4, 2) m.
        heights: (n,) m.
        ids: (n,) int64, which building a part belongs to; unique in the town with near certainty.
    """

    footprints: Points
    heights: Points
    ids: Ids


@dataclass
class Plan:
    """Every object of a part of the town.

    Attributes:
        layers: What to paint, by layer.
        buildings: What casts large shadows.
        trees: Each (n, 4): x, y, crown radius and height in metres.
    """

    layers: dict[Layer, Shapes] = field(default_factory=lambda: {layer: Shapes() for layer in Layer})
    buildings: list[Buildings] = field(default_factory=list)
    trees: list[Points] = field(default_factory=list)

    def polygons(
        self,
        layer: Layer,
        corners: Points,
        rgb: Points,
        texture: Texture,
        stripes: tuple[float, float, float] = (0.0, 0.0, 1.0),
        ids: Ids | None = None,
    ) -> None:
        """Add convex polygons (n, 4, 2); colours are (3,) or (n, 3), ids of buildings (n,)."""
        if len(corners):
            colours = np.broadcast_to(rgb, (len(corners), 3))
            self.layers[layer].polygons.append(Painted(corners, colours, texture, stripes, ids))

    def discs(self, layer: Layer, discs: Points, rgb: Points, texture: Texture) -> None:
        """Add discs (n, 3); colours are (3,) or (n, 3)."""
        if len(discs):
            colours = np.broadcast_to(rgb, (len(discs), 3))
            self.layers[layer].discs.append(Painted(discs, colours, texture))


@dataclass(frozen=True)
class Obstacle:
    """Something that neither houses nor trees may stand on.

    Attributes:
        line: (n, 2) m, its axis; one point for a disc.
        half_m: Half its width, or its radius.
    """

    line: Points
    half_m: float


def clearance(points: Points, obstacles: Sequence[Obstacle]) -> Points:
    """Distance (n,) in metres of points (n, 2) to the rim of the nearest obstacle, negative inside it."""
    starts = np.concatenate([obstacle.line[: max(len(obstacle.line) - 1, 1)] for obstacle in obstacles])
    ends = np.concatenate([obstacle.line[min(len(obstacle.line) - 1, 1) :] for obstacle in obstacles])
    halves = np.repeat([o.half_m for o in obstacles], [max(len(o.line) - 1, 1) for o in obstacles])
    ahead = ends - starts
    square = np.maximum((ahead * ahead).sum(1), 1e-9)
    x = points[:, :1] - starts[:, 0]
    y = points[:, 1:] - starts[:, 1]
    share = np.clip((x * ahead[:, 0] + y * ahead[:, 1]) / square, 0, 1)
    gap = np.hypot(x - share * ahead[:, 0], y - share * ahead[:, 1]) - halves
    nearest: Points = gap.min(1)
    return nearest


def aside(ways: Points) -> Points:
    """Unit vectors (n, 2) at right angles to `ways`."""
    return np.stack([-ways[:, 1], ways[:, 0]], 1)


def strip(axis: Points, one_m: Points | float, other_m: Points | float) -> Points:
    """Quadrilaterals along a polyline.

    Args:
        axis: (n, 2) m.
        one_m: Offset of one side to the right of the axis, a number or (n,).
        other_m: Offset of the other side.

    Returns:
        (n - 1, 4, 2); neighbours share an edge.
    """
    along = np.empty_like(axis)
    along[1:-1] = axis[2:] - axis[:-2]
    along[0], along[-1] = axis[1] - axis[0], axis[-1] - axis[-2]
    normal = aside(along / np.hypot(along[:, 0], along[:, 1])[:, None])
    one = axis + normal * np.broadcast_to(one_m, len(axis))[:, None]
    other = axis + normal * np.broadcast_to(other_m, len(axis))[:, None]
    return np.stack([one[:-1], one[1:], other[1:], other[:-1]], 1)


def boxes(centres: Points, ways: Points, lengths: Points | float, widths: Points | float) -> Points:
    """Rectangles (n, 4, 2) from centres (n, 2), unit vectors along them (n, 2), and sizes in metres."""
    count = len(centres)
    ahead = ways * (np.broadcast_to(lengths, count) / 2)[:, None]
    across = aside(ways) * (np.broadcast_to(widths, count) / 2)[:, None]
    back, front = centres - ahead, centres + ahead
    return np.stack([back - across, front - across, front + across, back + across], 1)


def fan(centre: Points, rim: Points) -> Points:
    """A star-shaped area as triangles (n, 4, 2), each with a corner doubled, from its rim (n, 2)."""
    middle = np.broadcast_to(centre, rim.shape)
    return np.stack([middle, rim, np.roll(rim, -1, 0), middle], 1)


def mesh(grid: Points) -> Points:
    """The quadrilaterals (n, 4, 2) of a grid of points (rows, columns, 2)."""
    return np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2).reshape(-1, 4, 2)


def run_length(axis: Points) -> Points:
    """Distance (n,) from the start of a polyline to each of its points."""
    steps = np.diff(axis, axis=0)
    return np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])


def place_along(axis: Points, at: Points) -> tuple[Points, Points]:
    """Points at distances `at` (n,) along a polyline and the unit vectors there, both (n, 2)."""
    run = run_length(axis)
    index = np.clip(np.searchsorted(run, at, side="right") - 1, 0, len(axis) - 2)
    ahead = axis[index + 1] - axis[index]
    length = np.maximum(run[index + 1] - run[index], 1e-9)[:, None]
    return axis[index] + ahead * ((at - run[index])[:, None] / length), ahead / length


def spaced(axis: Points, step_m: float, first_m: float = 0.0) -> tuple[Points, Points]:
    """Points at even distances along a polyline and the unit vectors there, both (n, 2)."""
    return place_along(axis, np.arange(first_m, run_length(axis)[-1], step_m))
