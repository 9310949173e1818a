"""The plan of a synthetic town: which streets and blocks lie where.

A town is endless. Its plan is drawn on a lattice of through roads; each cell is cut into blocks by streets; a
smooth warp and a rotation then bend the whole plan, which is what makes streets curve. Every cut draws from
random numbers of its own: whatever part of the town is asked for, its streets and blocks are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.random import Generator

from .synthetic_look import STYLES, Look, draw_look
from .synthetic_shapes import Layer, Obstacle, Points

Bounds = tuple[float, float, float, float]

REACH_M = 28.0
"""No object reaches farther beyond its block or the axis of its street than this, but for its shadow."""

_FAR = 1 << 24  # makes lattice numbers non-negative, as NumPy's seeds must be


@dataclass(frozen=True)
class Block:
    """A piece of land between streets.

    Attributes:
        quad: (4, 2) corners on the plan, before the warp.
        halves: (4,) m, half widths of the streets along bottom, right, top, left.
        obstacles: What else of the town's plan lies near: rivers, railways, roundabouts.
        seed: Seed of the block's own random numbers.
    """

    quad: Points
    halves: Points
    obstacles: tuple[Obstacle, ...]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Street:
    """A road on the plan.

    Attributes:
        ends: (2, 2) on the plan.
        width_m: Of the whole carriageway, median included.
        layer: TRACK, STREET or AVENUE.
        median_m: Unpaved strip in the middle, 0 for none.
        bulb_m: Radius of the turning circle at its far end, 0 for none.
        through: Whether it runs on beyond its ends and bridges whatever it meets.
        seed: Seed of its own random numbers.
    """

    ends: Points
    width_m: float
    layer: Layer
    median_m: float
    bulb_m: float
    through: bool
    seed: tuple[int, ...]


class RibbonKind(IntEnum):
    """Long things that are no roads."""

    RIVER = 0
    CANAL = 1
    RAILWAY = 2
    DRY_BED = 3


@dataclass(frozen=True)
class Ribbon:
    """A river, a railway or the like, through one cell.

    Attributes:
        kind: What it is.
        line: (n, 2) m, its axis on the ground.
        width_m: Its width.
        seed: Seed of its look, the same in all cells.
    """

    kind: RibbonKind
    line: Points
    width_m: float
    seed: tuple[int, ...]

    @property
    def obstacle(self) -> Obstacle:
        """The ground that it takes, with its banks."""
        return Obstacle(self.line, self.width_m / 2 + 3)


@dataclass(frozen=True)
class Roundabout:
    """A crossing of through roads around an island.

    Attributes:
        centre: (2,) m on the ground.
        radius_m: Outer radius of the road.
        seed: Seed of its own random numbers.
    """

    centre: Points
    radius_m: float
    seed: tuple[int, ...]


@dataclass
class Cell:
    """The plan of one cell, as far as it was asked for."""

    streets: list[Street] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    ribbons: list[Ribbon] = field(default_factory=list)
    roundabouts: list[Roundabout] = field(default_factory=list)


class Layout:
    """The plan of an endless town.

    Args:
        seed: Which town.
        style: Name of a style in `STYLES`.
        gsd_m: Ground resolution at which it will be drawn; thin lines are widened to it and blended.
    """

    def __init__(self, seed: int, style: str, gsd_m: float) -> None:
        self.seed = seed
        self.style = STYLES[style]
        self.gsd_m = gsd_m
        rng = np.random.default_rng([seed, 1])
        self.look = draw_look(self.style, rng)
        angle = rng.uniform(0, 2 * np.pi)
        self._turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._origin = rng.uniform(-5e4, 5e4, 2)
        numbers, amplitudes = [], []
        self._sway = 0.0
        for amplitude, wavelength in self.style.bends:
            amplitude *= rng.uniform(0.5, 1.2)
            self._sway += 1.5 * amplitude
            for axis in range(2):
                for _ in range(3):
                    way = rng.uniform(0, 2 * np.pi)
                    number = 2 * np.pi / (wavelength * rng.uniform(0.7, 1.5))
                    numbers.append((number * np.cos(way), number * np.sin(way)))
                    amplitudes.append((amplitude / 2, 0) if axis == 0 else (0, amplitude / 2))
        self._numbers, self._amplitudes = np.array(numbers).T, np.array(amplitudes)
        self._phases = rng.uniform(0, 2 * np.pi, len(numbers))

    def in_light(self, look: Look) -> Layout:
        """The same plan in other colours and light."""
        layout = copy(self)
        layout.look = look
        return layout

    def ground(self, plan: Points) -> Points:
        """Bend plan coordinates (…, 2) to metres on the ground, x to the east and y to the south."""
        bent = plan + np.sin(plan @ self._numbers + self._phases) @ self._amplitudes
        ground: Points = (bent - self._origin) @ self._turn.T
        return ground

    def cells(self, bounds: Bounds) -> Iterator[Cell]:
        """Plan what can show within bounds: left, top, right, bottom in metres, y to the south.

        Yields:
            Cells, with only those streets and blocks that can show; their order does not depend on bounds.
        """
        shadow = self.look.sun * self.look.tallest_m
        low = np.array(bounds[:2]) - REACH_M - np.maximum(shadow, 0)
        high = np.array(bounds[2:]) + REACH_M - np.minimum(shadow, 0)
        corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]]) @ self._turn + self._origin
        low_plan, high_plan = corners.min(0) - self._sway, corners.max(0) + self._sway

        def shown(lines: list[Points]) -> list[int]:
            if not lines:
                return []
            points = self.ground(np.stack(lines))
            inside = (points.max(1) > low).all(1) & (points.min(1) < high).all(1)
            return [int(index) for index in np.flatnonzero(inside)]

        for i, j in self._numbers_of_cells(low_plan, high_plan):
            cell = self._cell(i, j, low_plan, high_plan)
            blocks = shown([_outline(block.quad) for block in cell.blocks])
            streets = shown([_between(street.ends, 17) for street in cell.streets])
            yield replace(
                cell,
                blocks=[cell.blocks[index] for index in blocks],
                streets=[cell.streets[index] for index in streets],
            )

    def axis(self, street: Street) -> Points:
        """The centreline of a street on the ground, (n, 2) m."""
        count = max(2, int(np.ceil(np.hypot(*(street.ends[1] - street.ends[0])) / 8)) + 1)
        return self.ground(_between(street.ends, count))

    def _numbers_of_cells(self, low: Points, high: Points) -> Iterator[tuple[int, int]]:
        """The cells that can reach into a rectangle of the plan: lines stray by 0.3 of their spacing."""
        first = np.floor(low / self.style.cell_m - 0.3).astype(int) - 1
        last = np.ceil(high / self.style.cell_m + 0.3).astype(int)
        for j in range(first[1], last[1] + 1):
            for i in range(first[0], last[0] + 1):
                yield i, j

    def _line(self, axis: int, number: int) -> tuple[float, Street | None]:
        """Place and kind of a lattice line: (plan coordinate, a template of its road or None)."""
        rng = np.random.default_rng([self.seed, 2, axis, number + _FAR])
        place = (number + rng.uniform(-0.3, 0.3)) * self.style.cell_m
        weights = np.array(self.style.through)
        kind = rng.choice(5, p=weights / weights.sum())
        median = 0.0
        layer = Layer.AVENUE
        if kind == 0:
            median = rng.choice([0.0, rng.uniform(2, 9)])
            width = rng.uniform(17, 24) + median
        elif kind == 1:
            median = rng.choice([0.0, 0.0, rng.uniform(1.5, 6)])
            width = rng.uniform(*self.style.avenue_m) + median
        elif kind == 2:
            layer, width = Layer.STREET, rng.uniform(0.9, 1.25) * self.style.street_m[1]
        elif kind == 3:
            layer, width = Layer.TRACK, rng.uniform(3, 5.5)
        else:
            return place, None
        seed = (self.seed, 3, axis, number + _FAR)
        return place, Street(np.zeros((2, 2)), width, layer, median, 0, True, seed)

    def _cell(self, i: int, j: int, low: Points, high: Points) -> Cell:
        """Plan one cell, as far as it lies within a rectangle of the plan; it owns its left and top roads."""
        cell = Cell()
        (x0, left), (x1, right) = self._line(0, i), self._line(0, i + 1)
        (y0, top), (y1, bottom) = self._line(1, j), self._line(1, j + 1)
        quad = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        if (quad[2] < low).any() or (quad[0] > high).any():
            return cell
        if left:
            cell.streets.append(replace(left, ends=quad[[0, 3]], seed=(*left.seed, j + _FAR)))
        if top:
            cell.streets.append(replace(top, ends=quad[[0, 1]], seed=(*top.seed, i + _FAR)))
        obstacles = []
        for corner, (column, row), roads in (
            (quad[0], (i, j), (left, top)),
            (quad[1], (i + 1, j), (right, top)),
            (quad[2], (i + 1, j + 1), (right, bottom)),
            (quad[3], (i, j + 1), (left, bottom)),
        ):
            radius = self._roundabout(column, row, roads)
            if radius:
                centre = self.ground(corner)
                obstacles.append(Obstacle(centre[None], radius + self.look.verge_m))
                if column == i and row == j:
                    cell.roundabouts.append(Roundabout(centre, radius, (self.seed, 6, i + _FAR, j + _FAR)))
        cell.ribbons = [ribbon for axis in (0, 1) if (ribbon := self._ribbon(axis, (i, j)[axis], quad))]
        obstacles += [ribbon.obstacle for ribbon in cell.ribbons]
        rng = np.random.default_rng([self.seed, 4, i + _FAR, j + _FAR])
        limits = np.array(self.style.block_m) * rng.uniform(0.85, 1.15)
        if rng.random() < 0.5:
            limits = limits[::-1]
        seed = (self.seed, 5, i + _FAR, j + _FAR)
        halves = np.array([self._half(road) for road in (top, right, bottom, left)])
        self._cut(Block(quad, halves, tuple(obstacles), seed), 1, limits, (low, high), cell)
        return cell

    def _half(self, road: Street | None) -> float:
        return road.width_m / 2 + self.look.verge_m if road else 1.0

    def _roundabout(self, i: int, j: int, roads: tuple[Street | None, Street | None]) -> float:
        """Outer radius of the roundabout at a lattice node, 0 where there is none."""
        widths = [road.width_m for road in roads if road and road.layer != Layer.TRACK]
        rng = np.random.default_rng([self.seed, 7, i + _FAR, j + _FAR])
        if len(widths) < 2 or max(widths) > 20 or rng.random() > self.style.roundabout:
            return 0.0
        return float(rng.uniform(10, 20) + max(widths) * 0.6)

    def _ribbon(self, axis: int, number: int, quad: Points) -> Ribbon | None:
        """The river or railway that runs through a row or column of cells, within one of them."""
        rng = np.random.default_rng([self.seed, 8, axis, number + _FAR])
        if rng.random() > self.style.ribbon:
            return None
        kind = RibbonKind(int(rng.choice(4, p=[0.3, 0.2, 0.3, 0.2])))
        width = rng.uniform(*((14, 45), (6, 12), (6, 14), (3, 9))[kind])
        run = np.linspace(0, 1, max(2, int(np.ptp(quad[:, 1 - axis]) / 8)))
        along = quad[0, 1 - axis] + run * np.ptp(quad[:, 1 - axis])
        sway = 0.04 if kind in (RibbonKind.CANAL, RibbonKind.RAILWAY) else 0.16
        bend = sway * np.sin(along * (2 * np.pi / rng.uniform(280, 700)) + rng.uniform(0, 7))
        across = quad[0, axis] + np.ptp(quad[:, axis]) * (rng.uniform(0.35, 0.65) + bend)
        line = np.stack([across, along] if axis == 0 else [along, across], 1)
        return Ribbon(kind, self.ground(line), width, (self.seed, 9, axis, number + _FAR))

    def _cut(
        self, block: Block, node: int, limits: Points, bounds: tuple[Points, Points], cell: Cell
    ) -> None:
        """Cut a quadrilateral by streets until its pieces are blocks; pieces out of bounds are left out.

        Args:
            block: What to cut; its seed is the cell's.
            node: Number of the piece in the binary tree of cuts.
            limits: (2,) m, the sides that a block may have.
            bounds: Lower and upper corner of the part of the plan that is asked for.
            cell: Receives streets and blocks.
        """
        quad, style = block.quad, self.style
        if (quad.max(0) < bounds[0]).any() or (quad.min(0) > bounds[1]).any():
            return
        rng = np.random.default_rng([*block.seed, node])
        sides = np.hypot(*(quad[_NEXT] - quad).T)
        excess = (sides[:2] + sides[2:]) / 2 / limits
        if excess.max() < rng.uniform(0.9, 1.35):
            cell.blocks.append(replace(block, seed=(*block.seed, node, 0)))
            return
        turned = int(excess[1] > excess[0])
        corners = quad[_NEXT] if turned else quad
        share = 0.5 + rng.uniform(-style.slant, style.slant) * 0.8
        tilt = rng.uniform(-style.slant, style.slant) * 0.5
        start = corners[0] + (corners[1] - corners[0]) * (share + tilt)
        end = corners[3] + (corners[2] - corners[3]) * (share - tilt)
        street = self._draw_street(np.stack([start, end]), node, rng, (*block.seed, node, 1))
        obstacles = block.obstacles
        if street:
            cell.streets.append(street)
            if street.bulb_m:
                obstacles = (*obstacles, Obstacle(self.ground(street.ends[1:]), street.bulb_m))
        half = self._half(street)
        near = np.stack([corners[0], start, end, corners[3]])
        far = np.stack([start, corners[1], corners[2], end])
        for piece, side, number in ((near, 1, 2 * node), (far, 3, 2 * node + 1)):
            halves = block.halves.copy()
            halves[(side + turned) % 4] = half
            part = Block(piece[_BEFORE] if turned else piece, halves, obstacles, block.seed)
            self._cut(part, number, limits, bounds, cell)

    def _draw_street(self, ends: Points, node: int, rng: Generator, seed: tuple[int, ...]) -> Street | None:
        """Decide what runs along a cut: a street, an alley, a track, or none."""
        style = self.style
        if node > 1 and rng.random() < style.missing:
            return None
        if rng.random() < 0.5:
            ends = ends[::-1]
        width = rng.uniform(*style.street_m) * (1.15 if node == 1 else 1.0)
        layer, bulb = Layer.STREET, 0.0
        if rng.random() < style.track:
            layer, width = Layer.TRACK, rng.uniform(2.6, 5)
        elif node > 3 and rng.random() < style.alley:
            width = rng.uniform(3, 5)
        if node > 1 and rng.random() < style.dead_end:
            ends = np.stack([ends[0], ends[0] + (ends[1] - ends[0]) * rng.uniform(0.55, 0.85)])
            bulb = width * rng.uniform(0.9, 1.4) if layer is Layer.STREET and width > 5 else 0.0
        return Street(ends, width, layer, 0, bulb, False, seed)


_NEXT, _BEFORE = np.array([1, 2, 3, 0]), np.array([3, 0, 1, 2])


def _outline(quad: Points) -> Points:
    """Points along the sides of a quadrilateral, shape (32, 2)."""
    share = np.arange(8)[:, None, None] / 8
    points: Points = (quad + (quad[_NEXT] - quad) * share).reshape(-1, 2)
    return points


def _between(ends: Points, count: int) -> Points:
    """Points from end to end, shape (count, 2)."""
    points: Points = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, count)[:, None]
    return points
