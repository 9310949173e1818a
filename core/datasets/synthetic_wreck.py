"""The tools that synthetic buildings are ruined with: rubble, slabs, holes, and what is left standing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from .synthetic_look import Look
from .synthetic_shapes import Layer, Plan, Points, Texture, boxes, fan, strip


@dataclass(frozen=True)
class Materials:
    """What the buildings of a town are made of.

    Attributes:
        walls: (n, 3) colours of masonry, plaster, concrete or timber, 0 to 1.
        block_m: Typical size of a piece of rubble.
        per_m2: Pieces of rubble on a square metre.
        contrast: Between the lit pieces and the gaps between them, 0 to 1.
        tarpaulins: (n, 3) colours.
    """

    walls: Points
    block_m: float
    per_m2: float
    contrast: float
    tarpaulins: Points


@dataclass(frozen=True)
class Ruin:
    """What is left of a part of a building.

    Attributes:
        has_roof: Whether its roof is still there.
        roof_shift: (2,) m by which the picture displaces the roof.
        height_share: At which share of its height the roof lies.
        footprints: (n, 4, 2) m, what still casts a shadow.
        heights: (n,) m.
    """

    has_roof: bool
    roof_shift: Points
    height_share: float
    footprints: Points
    heights: Points


@dataclass(frozen=True)
class Part:
    """A convex part of a building before the event.

    Attributes:
        foot: (4, 2) m.
        height_m: Its height.
        roof_rgb: (3,) mean colour of its roof, 0 to 1.
        lean: (2,) m by which the picture after the event displaces its roof.
        seed: Of its own chance.
    """

    foot: Points
    height_m: float
    roof_rgb: Points
    lean: Points
    seed: tuple[int, ...]


def draw_materials(hazard: str, look: Look, rng: Generator) -> Materials:
    """Draw what a town is built of."""
    kinds = TIMBER if hazard == "storm" and rng.random() < 0.7 else _MASONRY
    walls = kinds[rng.choice(len(kinds), int(rng.integers(2, 4)), replace=False)]
    if rng.random() < 0.4:
        walls = np.concatenate([walls, look.soil(rng)[None]])
    walls = np.clip(walls * rng.uniform(0.8, 1.1), 0, 0.93)
    tarpaulins = _TARPAULINS[: int(rng.choice([1, 2, len(_TARPAULINS)]))]
    block_m = np.exp(rng.uniform(np.log(0.35), np.log(1.0)))
    per_m2 = 0.75 / block_m**1.2 * rng.uniform(0.7, 1.4)
    return Materials(walls, block_m, per_m2, rng.uniform(0.35, 0.8), tarpaulins)


class Wreck:
    """A part of a building with the tools to ruin it.

    Places are shares of its length (u) and depth (v): 0 to 1 inside, from a corner drawn by chance.

    Attributes:
        rng: Its own random numbers.
        part: What it is.
        look: Colours and light after the event.
        materials: What the town is built of.
        size: (2,) m, extent along u and v.
        area_m2: Of its footprint.
        wall_rgb: (3,) colour of its own walls.
    """

    def __init__(self, part: Part, materials: Materials, look: Look, plan: Plan) -> None:
        self.rng = np.random.default_rng(part.seed)
        self.part, self.look, self.materials, self._plan = part, look, materials, plan
        self._foot = np.roll(part.foot, int(self.rng.integers(4)), 0)
        sides = np.hypot(*(np.roll(self._foot, -1, 0) - self._foot).T)
        self.size = np.maximum([sides[0] + sides[2], sides[1] + sides[3]], 1.0) / 2
        self.area_m2 = float(self.size.prod())
        self.wall_rgb = self.rng.choice(materials.walls) * self.rng.uniform(0.85, 1.1)

    def at(self, places: Points) -> Points:
        """Ground coordinates of places (…, 2)."""
        u, v = places[..., :1], places[..., 1:]
        a, b, c, d = self._foot
        ground: Points = (a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v
        return ground

    def box(self, low_u: float, low_v: float, high_u: float, high_v: float) -> Points:
        """The corners (4, 2) of a part."""
        return self.at(np.array([[low_u, low_v], [high_u, low_v], [high_u, high_v], [low_u, high_v]]))

    def ways(self, count: int, axis: int = 0) -> Points:
        """Unit vectors (count, 2) along u or v, a little astray."""
        along = self._foot[1] - self._foot[0] if axis == 0 else self._foot[3] - self._foot[0]
        angle = np.arctan2(along[1], along[0]) + self.rng.normal(0, 0.08, count)
        return np.stack([np.cos(angle), np.sin(angle)], 1)

    def paint(self, layer: Layer, corners: Points, rgb: Points, texture: Texture) -> None:
        """Paint polygons (n, 4, 2) on the ground."""
        self._plan.polygons(layer, corners, np.clip(rgb, 0.02, 0.95), texture)

    # ------------------------------------------------------------------ what is left

    def standing(self, *feet: Points, share: float = 1.0) -> Ruin:
        """A ruin with its roof, at a share of its height, over parts (4, 2) of it or all of it."""
        corners = np.stack(feet) if feet else self.part.foot[None]
        return Ruin(True, self.part.lean, share, corners, np.full(len(corners), self.part.height_m * share))

    def fallen(self, most_m: float) -> Ruin:
        """A ruin without a roof: small heaps, up to a height, that speckle the rubble with their shadows."""
        rng, count = self.rng, int(np.clip(self.area_m2 / 8, 2, 60))
        most_m = min(most_m, 1.4 / float(np.hypot(*self.look.sun)))
        heaps = boxes(
            self.at(rng.random((count, 2))), any_ways(rng, count), *rng.uniform(0.4, 1.8, (2, count))
        )
        return roofless(heaps, rng.uniform(0.2, most_m, count))

    # ------------------------------------------------------------------ rubble

    def rubble(
        self,
        layer: Layer,
        low: Points | tuple[float, float] = (0.0, 0.0),
        high: Points | tuple[float, float] = (1.0, 1.0),
        spill_m: Points | float = 0.0,
        shift: Points | float = 0.0,
        roof_share: float = 0.15,
    ) -> None:
        """Bury a part between two places, and what it spills over, under pieces of walls and roof.

        Args:
            layer: RUBBLE on the ground, ROOF_DETAIL on what remains of the roof.
            low: First corner.
            high: Last corner.
            spill_m: How far it spills over its sides (4,): low v, high u, high v, low u.
            shift: (2,) m by which it is displaced.
            roof_share: Share of pieces that were roof.
        """
        rng, spill = self.rng, np.broadcast_to(spill_m, 4)
        first, last = np.asarray(low, float), np.asarray(high, float)
        rim = self.at(self.ragged(first, last, spill)) + shift
        base = self.wall_rgb * rng.uniform(0.55, 0.9)
        self.paint(layer, fan(self.at((first + last) / 2) + shift, rim), base, Texture.RUBBLE)
        begin, end = first - spill[[3, 0]] / self.size, last + spill[[1, 2]] / self.size
        room_m2 = float(((end - begin) * self.size).prod())
        count = 3 + int(room_m2 * self.materials.per_m2 * rng.uniform(0.7, 1.3))
        self.pieces(layer, self.at(begin + rng.random((count, 2)) * (end - begin)) + shift, roof_share)

    def pieces(self, layer: Layer, spots: Points, roof_share: float, size_m: float = 0.0) -> None:
        """Blocks and slabs, and the dark gaps between them, at spots (n, 2)."""
        rng, count, walls = self.rng, len(spots), self.materials.walls
        size = np.clip((size_m or self.materials.block_m) * np.exp(rng.normal(0, 0.6, count)), 0.3, 3.2)
        rgb = walls[rng.integers(0, len(walls), count)]
        rgb = np.where(rng.random((count, 1)) < 0.5, self.wall_rgb, rgb)
        rgb = np.where(rng.random((count, 1)) < roof_share, self.part.roof_rgb, rgb)
        gaps = rng.random((count, 1)) < 0.28
        light = np.where(gaps, rng.uniform(-1, -0.3, (count, 1)), rng.uniform(-0.25, 0.5, (count, 1)))
        corners = boxes(spots, any_ways(rng, count), size, size * rng.uniform(0.35, 1, count))
        self.paint(layer, corners, rgb * (1 + self.materials.contrast * light), Texture.RUBBLE)

    def slabs(self, cuts: Points, turn: float, slip_m: float) -> None:
        """Pieces of the roof between cuts along u, each moved, turned and lit on its own."""
        rng = self.rng
        for low, high in pairwise(cuts):
            corners = self.box(low + 0.02, rng.uniform(-0.03, 0.12), high - 0.02, rng.uniform(0.88, 1.03))
            middle, angle = corners.mean(0), rng.normal(0, turn)
            spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            moved = middle + (corners - middle) @ spin.T + rng.normal(0, slip_m, 2)
            broken = int(rng.integers(4))
            moved[broken] += (moved.mean(0) - moved[broken]) * rng.uniform(0, 0.3)
            rgb = self.part.roof_rgb * rng.uniform(0.72, 1.12)
            self.paint(Layer.RUBBLE, moved[None] + self.look.sun * 0.7, self.wall_rgb * 0.3, Texture.RUBBLE)
            self.paint(Layer.RUBBLE, moved[None], rgb, Texture.ROOF)

    def ragged(self, low: Points, high: Points, spill_m: Points) -> Points:
        """Places (n, 2) along a ragged outline of the box between two places."""
        rim = []
        corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
        for side in range(4):
            start, end = corners[side], corners[(side + 1) % 4]
            count = int(np.clip(np.abs((end - start) * self.size).sum() / 1.2, 3, 24))
            share = np.arange(count)[:, None] / count
            swell = np.sin(share[:, 0] * self.rng.uniform(2, 9) + self.rng.uniform(0, 7))
            reach = spill_m[side] * (0.55 + 0.3 * swell) + 0.35 * self.rng.standard_normal(count)
            rim.append(start + (end - start) * share + OUTWARD[side] * reach[:, None] / self.size)
        return np.concatenate(rim)

    # ------------------------------------------------------------------ on the roof

    def line(self, start: Points, end: Points, width_m: float, rgb: Points, wander_m: float = 0.0) -> None:
        """A crack, a rafter or a wall, between two places (2,)."""
        count = max(2, int(np.hypot(*((end - start) * self.size)) / 1.5))
        axis = self.at(start + (end - start) * np.linspace(0, 1, count)[:, None]) + self.part.lean
        axis = axis + self.rng.normal(0, wander_m, axis.shape)
        self.paint(Layer.ROOF_DETAIL, strip(axis, -width_m / 2, width_m / 2), rgb, Texture.ROOF)

    def hole(self, place: Points, reach_m: Points, rgb: Points) -> None:
        """A ragged patch around a place (2,), reaching (2,) m along u and v."""
        angle = np.linspace(0, 2 * np.pi, 11, endpoint=False)
        wave = self.rng.uniform(0.6, 1.15, (len(angle), 1))
        rim = place + np.stack([np.cos(angle), np.sin(angle)], 1) * wave * reach_m / self.size
        outline = fan(self.at(place), self.at(np.clip(rim, 0, 1))) + self.part.lean
        self.paint(Layer.ROOF_DETAIL, outline, rgb, Texture.RUBBLE)

    def beside(self, side: int, reach_m: float, per_m2: float) -> None:
        """Pieces of the facade that lie at the foot of a side: 0 low v, 1 high u, 2 high v, 3 low u."""
        rng, axis = self.rng, 0 if side % 2 == 0 else 1
        count = 4 + int(self.size[axis] * reach_m * per_m2 * 1.5)
        begin, end = np.sort(rng.uniform(-0.05, 1.05, 2))
        if end - begin < 0.4:
            begin, end = 0.0, 1.0
        out = rng.exponential(reach_m * 0.45, count) / self.size[1 - axis]
        along = rng.uniform(begin, end, count)
        across = 1 + out if side in (1, 2) else -out
        places = np.stack([along, across] if axis == 0 else [across, along], 1)
        self.pieces(Layer.RUBBLE, self.at(places), 0.2)


def roofless(footprints: Points, heights: Points) -> Ruin:
    """A ruin without a roof, of what casts a shadow: (n, 4, 2) m and heights (n,) m."""
    return Ruin(False, np.zeros(2), 0.0, footprints, heights)


def any_ways(rng: Generator, count: int) -> Points:
    """Unit vectors (count, 2) in any direction."""
    angle = rng.uniform(0, 2 * np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


OUTWARD = np.array([[0.0, -1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
"""Which way the sides of a part face, in places: low v, high u, high v, low u."""

_MASONRY = np.array(
    [
        (0.66, 0.63, 0.59),  # concrete
        (0.78, 0.73, 0.66),  # plaster
        (0.60, 0.44, 0.35),  # brick
        (0.70, 0.60, 0.47),  # sandstone, adobe
        (0.52, 0.50, 0.48),  # cement blocks
        (0.84, 0.82, 0.79),  # limestone
    ]
)
TIMBER = np.array([(0.66, 0.53, 0.40), (0.74, 0.62, 0.50), (0.55, 0.45, 0.37), (0.80, 0.76, 0.70)])
"""Colours of timber, 0 to 1."""

_TARPAULINS = np.array(
    [
        (0.16, 0.30, 0.66),
        (0.30, 0.42, 0.74),
        (0.86, 0.86, 0.86),
        (0.24, 0.42, 0.30),
        (0.62, 0.62, 0.60),
        (0.72, 0.46, 0.22),
    ]
)
