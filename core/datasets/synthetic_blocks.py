"""How the blocks of a synthetic town are furnished: houses, halls, car parks, fields, woods and water."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from .synthetic_layout import Block, Layout
from .synthetic_look import LEAVES, SHEETS, TILES, pick
from .synthetic_shapes import (
    Buildings,
    Flags,
    Ids,
    Layer,
    Obstacle,
    Plan,
    Points,
    Texture,
    aside,
    boxes,
    clearance,
    fan,
    mesh,
    spaced,
    strip,
)
from .synthetic_streets import park, plant


def furnish_block(layout: Layout, block: Block, plan: Plan) -> None:
    """Lay out one block: its ground and what stands on it.

    Args:
        layout: The town.
        block: Where.
        plan: Receives the shapes.
    """
    rng = np.random.default_rng(block.seed)
    use = pick(layout.style.lands, rng)
    site = _Site(layout, block, rng, plan)
    if min(site.size) < 3:
        return
    if min(site.size) < 20 and use in ("halls", "parking", "apartments", "water", "farm", "compounds"):
        use = "bare"
    _LANDS[use](site)


class _Site:
    """The inside of a block with the tools to furnish it.

    Places inside are metres from its first corner along its longer (u) and shorter side (v), bent to the
    ground when drawn.

    Attributes:
        size: (2,) m, extent along u and v.
        rng: The block's own random numbers.
        look: Colours and light of the town.
        trees: Density of trees, 0 to 1.
    """

    def __init__(self, layout: Layout, block: Block, rng: Generator, plan: Plan) -> None:
        quad, halves = block.quad, block.halves
        if np.hypot(*(quad[2] - quad[1])) + np.hypot(*(quad[3] - quad[0])) > np.hypot(
            *(quad[1] - quad[0])
        ) + np.hypot(*(quad[2] - quad[3])):
            quad, halves = np.roll(quad, -1, 0), np.roll(halves, -1)
        corners = quad[[0, 1, 2, 3, 0]]
        share = np.linspace(0, 1, 7)[:, None, None]
        sides = layout.ground(corners[:-1] + (corners[1:] - corners[:-1]) * share).swapaxes(0, 1)
        steps = np.diff(sides, axis=1)
        lengths = np.hypot(steps[..., 0], steps[..., 1]).sum(1)
        full = (lengths[:2] + lengths[2:]) / 2
        self._low = halves[[3, 0]] / full
        self._span = 1 - halves[[1, 2]] / full - self._low
        self.size = self._span * full
        self._quad, self._layout, self._plan = quad, layout, plan
        around = [Obstacle(line, half) for line, half in zip(sides, halves, strict=True)]
        self._obstacles = [*around, *block.obstacles]
        self.rng, self.look, self.trees = rng, layout.look, layout.style.trees
        self.gsd_m = layout.gsd_m

    @property
    def area_m2(self) -> float:
        """Extent in square metres."""
        return float(self.size[0] * self.size[1])

    def at(self, places: Points) -> Points:
        """Ground coordinates of places (…, 2)."""
        share = self._low + places * (self._span / self.size)
        u, v = share[..., :1], share[..., 1:]
        a, b, c, d = self._quad
        plan: Points = (a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v
        ground: Points = self._layout.ground(plan)
        return ground

    def ways(self, places: Points, axis: int) -> Points:
        """Unit vectors (n, 2) on the ground along u (axis 0) or v (axis 1)."""
        step = np.array([0.5, 0.0]) if axis == 0 else np.array([0.0, 0.5])
        ahead = self.at(places + step) - self.at(places - step)
        ways: Points = ahead / np.hypot(ahead[:, 0], ahead[:, 1])[:, None]
        return ways

    def scatter(self, count: int) -> Points:
        """Random places (count, 2)."""
        places: Points = self.rng.uniform(0, 1, (count, 2)) * self.size
        return places

    def lattice(self, step_m: Points) -> tuple[Points, Points]:
        """Places of an even lattice (n, 2) and the size (2,) of its cells."""
        count = np.maximum((self.size / step_m).astype(int), 1)
        room = self.size / count
        u, v = ((np.arange(count[k]) + 0.5) * room[k] for k in range(2))
        return np.stack(np.meshgrid(u, v), -1).reshape(-1, 2), room

    def clear(self, points: Points, margin_m: float = 0.0) -> Flags:
        """Which points (n, 2) on the ground lie on no road, river or railway."""
        free: Flags = clearance(points, self._obstacles) > margin_m
        return free

    def cover(
        self,
        rgb: Points,
        texture: Texture,
        stripes: tuple[float, float, float] = (0.0, 0.0, 1.0),
        low_u: float = 0.0,
        high_u: float = 1.0,
    ) -> None:
        """Colour the ground, of all of it or between two shares of u."""
        begin, end = low_u * self.size[0], high_u * self.size[0]
        u = np.linspace(begin, end, max(2, int((end - begin) / 14) + 1))
        v = np.linspace(0, self.size[1], max(2, int(self.size[1] / 14) + 1))
        grid = self.at(np.stack(np.meshgrid(u, v), -1))
        self._plan.polygons(Layer.LAND, mesh(grid), np.clip(rgb, 0, 0.95), texture, stripes)

    def blob(self, place: Points, reach_m: Points, rgb: Points, texture: Texture) -> None:
        """A rounded patch of ground around a place (2,), reaching about `reach_m` (2,) along u and v."""
        angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        wave = np.ones(len(angle))
        for lobes in (2, 3, 4):
            wave += self.rng.uniform(-0.2, 0.2) * np.sin(lobes * angle + self.rng.uniform(0, 7))
        rim = place + np.stack([np.cos(angle), np.sin(angle)], 1) * wave[:, None] * reach_m
        rim = np.clip(rim, 0, self.size)
        outline = fan(self.at(place), self.at(rim))
        self._plan.polygons(Layer.LAND, outline, np.clip(rgb, 0, 0.95), texture)

    def paint(
        self, layer: Layer, corners: Points, rgb: Points, texture: Texture, ids: Ids | None = None
    ) -> None:
        """Paint polygons (n, 4, 2) on the ground, parts of the buildings `ids` (n,) if they are given."""
        self._plan.polygons(layer, corners, np.clip(rgb, 0, 0.95), texture, ids=ids)

    def border(self) -> Points:
        """A closed polyline on the ground along its sides."""
        (w, h), share = self.size, np.linspace(0, 1, 9)[:-1, None]
        corners = np.array([[0, 0], [w, 0], [w, h], [0, h], [0, 0]])
        sides = [corners[k] + (corners[k + 1] - corners[k]) * share for k in range(4)]
        return self.at(np.concatenate([*sides, corners[:1]]))

    def fence(self) -> None:
        """A wall or a hedge around it."""
        width = max(self.rng.uniform(0.3, 0.6), self.gsd_m * 0.8)
        line = strip(self.border(), -width / 2, width / 2)
        line = line[self.clear(line.mean(1), -1.0)]
        if self.rng.random() < 0.5:
            self.paint(Layer.WALL, line, self.look.paving(self.rng) * 1.1, Texture.SMOOTH)
        else:
            self.paint(Layer.WALL, line, LEAVES[self.look.biome][0] * 0.9, Texture.CANOPY)

    def path(self) -> None:
        """A winding foot path."""
        ends = self.scatter(2)
        if np.hypot(*(ends[1] - ends[0])) < 15:
            return
        share = np.linspace(0, 1, 16)[:, None]
        bow = np.sin(share * np.pi * self.rng.integers(1, 3)) * self.rng.uniform(-0.12, 0.12, 2) * self.size
        line = self.at(np.clip(ends[0] + (ends[1] - ends[0]) * share + bow, 0, self.size))
        rgb = self.look.soil(self.rng) if self.rng.random() < 0.5 else self.look.paving(self.rng)
        self.paint(Layer.LAND, strip(line, -0.9, 0.9), rgb, Texture.PAVED)

    def plant(self, spots: Points, radius_m: tuple[float, float] = (1.6, 4.5)) -> None:
        """Plant trees at those spots (n, 2) on the ground that are free."""
        plant(self._layout, spots[self.clear(spots)], self.rng, self._plan, radius_m)

    def plant_at_random(self, per_m2: float, radius_m: tuple[float, float] = (1.6, 4.5)) -> None:
        """Plant trees anywhere."""
        self.plant(self.at(self.scatter(self.rng.poisson(self.area_m2 * per_m2))), radius_m)

    def park(self, spots: Points, ways: Points) -> None:
        """Park cars at those spots (n, 2) on the ground that are free."""
        free = self.clear(spots, 2.5)
        park(spots[free], ways[free], self.rng, self._plan, Layer.PARKED)

    def park_at_random(self, per_m2: float) -> None:
        """Park cars anywhere in one direction."""
        places = self.scatter(self.rng.poisson(self.area_m2 * per_m2))
        self.park(self.at(places), self.ways(places, int(self.rng.integers(2))))

    def build(self, footprints: Points, heights: Points, pitched: bool, part_of: Ids | None = None) -> Ids:
        """Put up buildings on footprints (n, 4, 2); where a road is in the way smaller, or not at all.

        Args:
            footprints: Where.
            heights: (n,) m.
            pitched: Whether the roofs are.
            part_of: (n,) the buildings that they are wings of, 0 for none.

        Returns:
            (n,) the numbers of the buildings, 0 where nothing was built.
        """
        built = np.zeros(len(footprints), np.int64)
        middle = footprints.mean(1, keepdims=True)
        foot = footprints
        free: Flags = np.zeros(len(footprints), np.bool_)
        for scale in (1.0, 0.85, 0.65):
            foot = np.where(free[:, None, None], foot, middle + (footprints - middle) * scale)
            free = np.all(self.clear(foot.reshape(-1, 2)).reshape(-1, 4), axis=1)
            if free.all():
                break
        foot, heights = foot[free], heights[free]
        if len(foot):
            ids = self.rng.integers(1, 2**62, len(foot))
            if part_of is not None:
                ids = np.where(part_of[free] > 0, part_of[free], ids)
            built[free] = ids
            self._plan.buildings.append(Buildings(foot, heights, ids))
            (self._pitch if pitched else self._flatten)(foot, ids)
        return built

    def _pitch(self, foot: Points, ids: Ids) -> None:
        """Gabled and hipped roofs: four faces, shaded by the sun, that meet at a ridge along the length."""
        rng, count = self.rng, len(foot)
        first, second = foot[:, 1] - foot[:, 0], foot[:, 3] - foot[:, 0]
        upright = (second**2).sum(1) > (first**2).sum(1)
        foot = np.where(upright[:, None, None], np.roll(foot, -1, 1), foot)
        along = foot[:, 1] - foot[:, 0]
        length = np.hypot(along[:, 0], along[:, 1])
        width = np.hypot(*(foot[:, 3] - foot[:, 0]).T)
        tiles = TILES[rng.integers(0, len(TILES), count)] * rng.uniform(0.85, 1.15, (count, 1))
        greys = (
            rng.uniform(*self.look.asphalt, (count, 1)) * self.look.tint * rng.uniform(0.9, 1.1, (count, 1))
        )
        rgb = np.where(rng.random((count, 1)) < self.look.tiled, tiles, greys)
        hip = np.where(rng.random(count) < 0.5, width / length / 2, 0.0)[:, None]
        start, end = (foot[:, 0] + foot[:, 3]) / 2, (foot[:, 1] + foot[:, 2]) / 2
        near, far = start + (end - start) * hip, end - (end - start) * hip
        way = along / length[:, None]
        contrast = 0.32 * min(1.0, float(np.hypot(*self.look.sun)))
        for corners, normal in (
            ((foot[:, 0], foot[:, 1], far, near), -aside(way)),
            ((foot[:, 2], foot[:, 3], near, far), aside(way)),
            ((foot[:, 1], foot[:, 2], far, far), way),
            ((foot[:, 3], foot[:, 0], near, near), -way),
        ):
            lit = 1 + contrast * (normal @ self.look.to_sun)
            self.paint(Layer.ROOF, np.stack(corners, 1), rgb * lit[:, None], Texture.ROOF, ids)

    def _flatten(self, foot: Points, ids: Ids) -> None:
        """Flat roofs in the greys of the streets, with a parapet and what stands on them."""
        rng, count = self.rng, len(foot)
        greys = rng.uniform(*self.look.asphalt, (min(count, 6), 1)) * self.look.tint
        rgb = greys[rng.integers(0, len(greys), count)] * rng.uniform(0.93, 1.07, (count, 1))
        light = rng.uniform(0.6, 0.9, (count, 1)) * self.look.tint
        rgb = np.where(rng.random((count, 1)) < 0.2, light, rgb)
        sheets = SHEETS[rng.integers(0, len(SHEETS), count)]
        rgb = np.where(rng.random((count, 1)) < 0.07, sheets, rgb)
        self.paint(Layer.ROOF, foot, rgb * rng.uniform(0.8, 1.25), Texture.ROOF, ids)
        middle = foot.mean(1, keepdims=True)
        reach = np.hypot(*(foot[:, 0] - middle[:, 0]).T)
        rim = np.clip(1 - 0.6 / reach, 0.1, 1)[:, None, None]
        self.paint(Layer.ROOF, middle + (foot - middle) * rim, rgb, Texture.ROOF, ids)
        owner = np.repeat(np.arange(count), rng.integers(0, 4, count))
        along, across = foot[:, 1] - foot[:, 0], foot[:, 3] - foot[:, 0]
        share = rng.uniform(-0.36, 0.36, (len(owner), 2))
        spots = middle[owner, 0] + along[owner] * share[:, :1] + across[owner] * share[:, 1:]
        length = np.hypot(along[owner, 0], along[owner, 1])
        narrow = np.minimum(length, np.hypot(*across[owner].T))
        size = rng.uniform(0.08, 0.28, len(owner)) * np.minimum(narrow, 14)
        ways = along[owner] / length[:, None]
        shade = rng.choice([0.55, 0.8, 1.2, 1.35], (len(owner), 1))
        dark = boxes(spots + self.look.sun * 0.6, ways, size * 1.05, size * 0.85)
        self.paint(Layer.ROOF_DETAIL, dark, rgb[owner] * 0.6, Texture.ROOF, ids[owner])
        lids = boxes(spots, ways, size, size * 0.8)
        self.paint(Layer.ROOF_DETAIL, lids, rgb[owner] * shade, Texture.ROOF, ids[owner])

    def lots(self, width_m: float) -> tuple[Points, Points, float, float]:
        """Lots in two rows: (u of the middle (n,), row 0 or 1 (n,), width in m, depth in m)."""
        count = max(1, int(self.size[0] / width_m))
        width = float(self.size[0] / count)
        along = (np.arange(count) + 0.5) * width
        return np.tile(along, 2), np.repeat([0.0, 1.0], count), width, float(self.size[1] / 2)

    def behind(self, row: Points, depth_m: Points | float) -> Points:
        """v (n,) at some depth behind the street that a row of lots faces."""
        v: Points = np.where(row > 0, self.size[1] - depth_m, depth_m)
        return v

    def patches(self, low_u: Points, high_u: Points, low_v: Points, high_v: Points) -> Points:
        """Quadrilaterals (n, 4, 2) on the ground that follow the bend of the block."""
        u = np.stack([low_u, high_u, high_u, low_u], 1)
        v = np.stack([low_v, low_v, high_v, high_v], 1)
        return self.at(np.stack([u, v], -1))


def _houses(site: _Site) -> None:
    rng = site.rng
    site.cover(site.look.grass(rng), Texture.GRASS)
    if rng.random() < 0.4:
        site.fence()
    along, row, lot, depth = site.lots(rng.uniform(13, 24))
    keep = rng.random(len(along)) < 0.92
    along, row = along[keep] + rng.uniform(-1, 1, keep.sum()), row[keep]
    count = len(along)
    deep = np.minimum(rng.uniform(7, 12, count), depth * 0.75)
    wide = np.minimum(rng.uniform(9, 16, count), lot * 0.9)
    setback = rng.uniform(2, 8) * (depth > 16) + rng.uniform(0.3, 1.8, count)
    places = np.stack([along, site.behind(row, setback + deep / 2)], 1)
    spots, ways = site.at(places), site.ways(places, 0)
    pitched = bool(rng.random() < (0.25 if site.look.biome == "desert" else 0.85))
    houses = site.build(boxes(spots, ways, wide, deep), rng.uniform(4, 8, count), pitched)
    wing = rng.random(count) < 0.4
    shift = ways * (wide * 0.25)[:, None] + aside(ways) * ((1 - 2 * row) * deep * 0.4)[:, None]
    wings = boxes(spots + shift, aside(ways), deep * 0.8, wide * 0.45)[wing]
    site.build(wings, np.full(len(wings), 4.0), pitched, part_of=houses[wing])
    if depth > 14:
        drive = rng.random(count) < 0.6
        gates = np.stack([along + wide * 0.32, site.behind(row, setback / 2)], 1)[drive]
        ways = site.ways(gates, 1)
        rgb = site.look.paving(rng) * rng.uniform(0.95, 1.2)
        site.paint(Layer.FEATURE, boxes(site.at(gates), ways, (setback + 2)[drive], 3.0), rgb, Texture.PAVED)
        taken = (rng.random(len(gates)) < 0.4) & (setback[drive] > 4)
        site.park(site.at(gates)[taken], ways[taken])
        back = np.stack([along, site.behind(row, depth * 0.85)], 1)[rng.random(count) < 0.1]
        pools = boxes(site.at(back), site.ways(back, 0), 7.0, 3.6)
        site.paint(Layer.LAND, pools, np.array([0.35, 0.62, 0.68]), Texture.SMOOTH)
    site.plant_at_random(site.trees / 160)


def _terraces(site: _Site) -> None:
    rng = site.rng
    paved = rng.random() < 0.6
    site.cover(site.look.paving(rng) * rng.uniform(0.85, 1.1) if paved else site.look.soil(rng), Texture.WORN)
    along, row, lot, depth = site.lots(rng.uniform(6, 11))
    keep = rng.random(len(along)) < 0.96
    along, row = along[keep], row[keep]
    count = len(along)
    front = rng.uniform(0.2, 1.0, count)
    back = np.minimum(
        rng.uniform(8, 15) * rng.uniform(0.8, 1.1, count) + front, depth * rng.uniform(0.85, 1, count)
    )
    v0, v1 = site.behind(row, front), site.behind(row, back)
    gap = rng.choice([0.0, 0.0, 0.6]) / 2
    feet = site.patches(along - lot / 2 + gap, along + lot / 2 - gap, np.minimum(v0, v1), np.maximum(v0, v1))
    pitched = bool(rng.random() < (0.15 if site.look.biome == "desert" else 0.6))
    site.build(feet, rng.uniform(4, 11) * rng.uniform(0.8, 1.3, count), pitched)
    if depth > 14:
        yard = np.stack([along, site.behind(row, depth * rng.uniform(0.82, 0.96, count))], 1)
        shed, tree = rng.random(count) < 0.5, rng.random(count) < site.trees
        sheds = boxes(site.at(yard), site.ways(yard, 0), lot * 0.6, depth * 0.16)[shed]
        site.build(sheds, np.full(len(sheds), 3.0), False)
        site.plant(site.at(yard)[tree & ~shed])


def _shacks(site: _Site) -> None:
    rng = site.rng
    site.cover(site.look.soil(rng), Texture.SOIL)
    places, room = site.lattice(rng.uniform(7, 11, 2))
    places = places[rng.random(len(places)) < 0.9] + rng.uniform(-1, 1)
    count = len(places)
    places = places + rng.uniform(-0.9, 0.9, (count, 2))
    turn = rng.normal(0, 0.12, (count, 1))
    ways = site.ways(places, 0)
    ways = ways * np.cos(turn) + aside(ways) * np.sin(turn)
    length, width = rng.uniform(0.6, 0.9, count) * room[0], rng.uniform(0.6, 0.9, count) * room[1]
    site.build(
        boxes(site.at(places), ways, length, width), rng.uniform(2.5, 5.5, count), bool(rng.random() < 0.3)
    )
    site.plant_at_random(site.trees / 250)


def _apartments(site: _Site) -> None:
    rng = site.rng
    paved = rng.random() < 0.5
    if paved:
        site.cover(site.look.paving(rng), Texture.PAVED)
    else:
        site.cover(site.look.grass(rng), Texture.GRASS)
    places, room = site.lattice(np.array([rng.uniform(28, 55), rng.uniform(24, 40)]))
    places = places[rng.random(len(places)) < 0.88]
    count = len(places)
    axis = int(rng.random() < 0.35)
    length = np.minimum(rng.uniform(0.5, 0.88, count) * room[axis], 60)
    width = np.minimum(rng.uniform(0.38, 0.65, count) * room[1 - axis], 24)
    height = rng.uniform(9, 30) * rng.uniform(0.8, 1.1, count)
    site.build(
        boxes(site.at(places), site.ways(places, axis), length, width), height, bool(rng.random() < 0.15)
    )
    site.plant_at_random(site.trees / 300)
    if paved:
        site.park_at_random(1 / 450)


def _halls(site: _Site) -> None:
    rng, look = site.rng, site.look
    yard = (look.paving, look.paving, look.soil, look.grass)[int(rng.integers(4))](rng)
    site.cover(yard, Texture.WORN)
    if rng.random() < 0.5:
        site.fence()
    places, room = site.lattice(np.full(2, rng.uniform(45, 90)))
    places = places[rng.random(len(places)) < 0.92]
    count = len(places)
    axis = int(room[1] > room[0])
    length = rng.uniform(0.5, 0.88, count) * room[axis]
    width = rng.uniform(0.45, 0.85, count) * room[1 - axis]
    feet = boxes(site.at(places), site.ways(places, axis), length, width)
    site.build(feet, rng.uniform(6, 13, count), bool(rng.random() < 0.25))
    site.park_at_random(1 / 500)
    if rng.random() < 0.5:
        _stacks(site, int(rng.integers(5, 30)))


def _stacks(site: _Site, count: int) -> None:
    """Containers, slabs and heaps that lie about."""
    rng = site.rng
    places = np.clip(site.scatter(1) + rng.normal(0, 15, (count, 2)), 3, np.maximum(site.size - 3, 3))
    shades = np.concatenate([SHEETS, np.stack([site.look.paving(rng) for _ in range(4)])])
    stacks = boxes(site.at(places), site.ways(places, 0), rng.uniform(3, 12, count), rng.uniform(2, 5, count))
    site.paint(Layer.LAND, stacks, shades[rng.integers(0, len(shades), count)], Texture.WORN)


def _parking(site: _Site) -> None:
    rng = site.rng
    site.cover(site.look.soil(rng), Texture.SOIL)
    high = min(1.0, 9000 / site.area_m2)
    rgb = site.look.paving(rng)
    site.cover(rgb, Texture.PAVED, high_u=high)
    rows = max(1, int(site.size[1] / 16.5))
    bay = site.size[1] / rows
    full = rng.uniform(0.1, 0.95)
    places = np.arange(3, site.size[0] * high - 3, 2.7)
    for v in (np.arange(rows)[:, None] * bay + bay / 2 + np.array([-0.32, 0.32]) * bay).ravel():
        line = np.stack([places, np.full(len(places), v)], 1)
        spots, ways = site.at(line), site.ways(line, 1)
        if site.look.markings:
            bays = boxes(spots + aside(ways) * 1.35, ways, 5.0, max(0.15, site.gsd_m))
            paint = rgb + (0.85 - rgb) * min(1.0, 0.12 / site.gsd_m)
            site.paint(Layer.FEATURE, bays[site.clear(spots, 3.0)], paint, Texture.SMOOTH)
        taken = rng.random(len(line)) < full
        site.park(spots[taken], ways[taken])


def _park(site: _Site) -> None:
    site.cover(site.look.grass(site.rng), Texture.GRASS)
    for _ in range(int(site.rng.integers(0, 3))):
        site.path()
    site.plant_at_random((0.2 + site.trees) / 130)


def _forest(site: _Site) -> None:
    site.cover(LEAVES[site.look.biome][0] * 0.85, Texture.CANOPY)
    site.plant_at_random(1 / 38, (2, 4.5))


def _bare(site: _Site) -> None:
    rng = site.rng
    site.cover(site.look.soil(rng), Texture.SOIL)
    for _ in range(int(rng.integers(0, 4))):
        patch = site.look.grass(rng) if rng.random() < 0.5 else site.look.soil(rng) * rng.uniform(0.8, 1.1)
        site.blob(site.scatter(1)[0], rng.uniform(5, 25, 2), patch, Texture.SOIL)
    site.plant_at_random(1 / 500, (0.5, 1.4))


def _yard(site: _Site) -> None:
    rng = site.rng
    site.cover(site.look.soil(rng), Texture.SOIL)
    for _ in range(int(rng.integers(2, 7))):
        surface = (
            site.look.paving(rng) if rng.random() < 0.6 else site.look.soil(rng) * rng.uniform(0.75, 1.2)
        )
        site.blob(site.scatter(1)[0], rng.uniform(4, 22, 2), surface, Texture.WORN)
    for _ in range(int(rng.integers(1, 4))):
        _stacks(site, int(rng.integers(8, 40)))
    places = site.scatter(3)
    slabs = boxes(site.at(places), site.ways(places, 0), rng.uniform(15, 35, 3), rng.uniform(10, 20, 3))
    site.paint(Layer.LAND, slabs[site.clear(slabs.mean(1), 18)], site.look.paving(rng), Texture.WORN)


def _square(site: _Site) -> None:
    site.cover(site.look.paving(site.rng), Texture.PAVED)
    site.plant(site.at(site.scatter(site.rng.poisson(6))))


def _water(site: _Site) -> None:
    rng = site.rng
    water = np.array([0.1, 0.17, 0.16]) * rng.uniform(0.4, 1.9) * rng.uniform(0.8, 1.2, 3)
    if rng.random() < 0.4:
        site.cover(water, Texture.WATER)
    else:
        site.cover(site.look.grass(rng), Texture.GRASS)
        reach = site.size * rng.uniform(0.25, 0.45, 2)
        site.blob(site.size / 2, reach * 1.06, site.look.soil(rng), Texture.SOIL)
        site.blob(site.size / 2, reach, water, Texture.WATER)


def _field(site: _Site) -> None:
    rng = site.rng
    cuts = [0.0, *np.sort(rng.uniform(0.1, 0.9, int(rng.integers(0, 4)))), 1.0]
    along = site.ways(site.size[None] / 2, 0)[0]
    angle = float(np.arctan2(along[1], along[0])) + rng.choice([0, np.pi / 2])
    for low, high in pairwise(cuts):
        rgb = site.look.soil(rng) if rng.random() < 0.4 else site.look.grass(rng)
        furrows = (rng.uniform(0.0, 0.09), angle, rng.uniform(2.5, 9))
        site.cover(rgb * rng.uniform(0.85, 1.1), Texture.GRASS, furrows, low, high)
    if rng.random() < 0.4:
        site.fence()
    if rng.random() < 0.4:
        spots, _ = spaced(site.border(), rng.uniform(5, 11))
        site.plant(spots[rng.random(len(spots)) < 0.6])


def _farm(site: _Site) -> None:
    rng = site.rng
    _field(site)
    centre = site.scatter(1)[0] * 0.6 + site.size * 0.2
    places = np.clip(centre + rng.uniform(-38, 38, (8, 2)), 8, np.maximum(site.size - 8, 8))
    surface = site.look.soil(rng) if rng.random() < 0.6 else site.look.paving(rng)
    site.blob(centre, rng.uniform(28, 45, 2), surface, Texture.WORN)
    kept: list[Points] = []
    for place in places:
        if all(np.hypot(*(place - other)) > 22 for other in kept):
            kept.append(place)
    places, count = np.array(kept), len(kept)
    ways = site.ways(places, int(rng.integers(2)))
    feet = boxes(site.at(places), ways, rng.uniform(10, 26, count), rng.uniform(7, 13, count))
    site.build(feet, rng.uniform(4, 9, count), bool(rng.random() < 0.7))
    site.plant(site.at(np.clip(centre + rng.normal(0, 30, (12, 2)), 0, site.size)))


def _compounds(site: _Site) -> None:
    rng, look = site.rng, site.look
    site.cover(look.soil(rng), Texture.SOIL)
    along, row, lot, depth = site.lots(rng.uniform(18, 30))
    keep = rng.random(len(along)) < rng.uniform(0.4, 1)
    along, row = along[keep], row[keep]
    count = len(along)
    v0, v1 = site.behind(row, 0.4), site.behind(row, depth - 0.3)
    low, high = np.minimum(v0, v1), np.maximum(v0, v1)
    thick = max(0.35, site.gsd_m)
    edge = lot / 2 - 0.2
    wall = rng.uniform(0.5, 0.85) * look.tint
    site.paint(Layer.LAND, site.patches(along - edge, along + edge, low, high), wall, Texture.SMOOTH)
    yard = look.soil(rng) if rng.random() < 0.5 else look.paving(rng)
    edge -= thick
    inside = site.patches(along - edge, along + edge, low + thick, high - thick)
    site.paint(Layer.LAND, inside, yard, Texture.SOIL)
    places = np.stack([along, (v0 + v1) / 2], 1)
    spots, ways = site.at(places), site.ways(places, 0)
    length, width = rng.uniform(0.5, 0.82, count) * lot, rng.uniform(0.45, 0.75, count) * depth
    houses = site.build(
        boxes(spots, ways, length, width), rng.uniform(4, 10, count), bool(rng.random() < 0.15)
    )
    wing = rng.random(count) < 0.5
    shift = aside(ways) * (width * 0.3)[:, None] + ways * (length * 0.2)[:, None]
    wings = boxes(spots + shift, ways, length * 0.5, width * 0.6)[wing]
    site.build(wings, np.full(len(wings), 7.0), False, part_of=houses[wing])
    site.plant(spots[rng.random(count) < 0.4] + rng.uniform(-8, 8, 2), (1, 2.6))


_LANDS: dict[str, Callable[[_Site], None]] = {
    "houses": _houses,
    "terraces": _terraces,
    "shacks": _shacks,
    "apartments": _apartments,
    "halls": _halls,
    "parking": _parking,
    "park": _park,
    "forest": _forest,
    "bare": _bare,
    "site": _yard,
    "square": _square,
    "water": _water,
    "field": _field,
    "farm": _farm,
    "compounds": _compounds,
}
