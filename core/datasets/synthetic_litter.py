"""What lies on the open ground of a synthetic town and looks like damage or like roofs, and is neither."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from .synthetic_changes import CLUTTER
from .synthetic_layout import Bounds
from .synthetic_look import Look
from .synthetic_shapes import Layer, Plan, Points, Texture, boxes, fan, strip


@dataclass(frozen=True)
class Litter:
    """How often things lie on open ground, by 50 m of it in both directions.

    Attributes:
        heaps: Gravel, soil, firewood.
        junk: Small things strewn about.
        shells: Houses that are being built, without a roof.
        tents: Single tents.
        camps: Rows of tents.
    """

    heaps: float = 0.0
    junk: float = 0.0
    shells: float = 0.0
    tents: float = 0.0
    camps: float = 0.0


def strew(bounds: Bounds, litter: Litter, look: Look, seed: int, plan: Plan) -> None:
    """Put things on open ground.

    Roads, cars, trees and buildings hide what lies under them.

    Args:
        bounds: Left, top, right, bottom in metres.
        litter: How much.
        look: Colours and light.
        seed: Of its chance.
        plan: Receives the shapes.
    """
    left, top, right, bottom = (int(np.floor(side / _CELL_M)) for side in bounds)
    rates = (litter.heaps, litter.junk, litter.shells, litter.tents, litter.camps)
    draws = (_heap, _junk, _shell, _tents, _camp)
    for j in range(top - 1, bottom + 2):
        for i in range(left - 1, right + 2):
            rng = np.random.default_rng([seed, i + _FAR, j + _FAR])
            for rate, draw in zip(rates, draws, strict=True):
                luck, place = rng.random(), (np.array([i, j]) + rng.random(2)) * _CELL_M
                if luck < rate:
                    draw(place, look, np.random.default_rng([seed, i + _FAR, j + _FAR, 1]), plan)


def _heap(place: Points, look: Look, rng: Generator, plan: Plan) -> None:
    angle = np.linspace(0, 2 * np.pi, 15, endpoint=False)
    reach = rng.uniform(1, 4.5) * rng.uniform(0.7, 1.2, (15, 1)) * rng.uniform(0.6, 1, 2)
    rim = place + np.stack([np.cos(angle), np.sin(angle)], 1) * reach
    rgb = look.soil(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(0.3, 0.75))
    plan.polygons(Layer.FEATURE, fan(place, rim) + look.sun * 0.8, rgb * 0.45, Texture.SOIL)
    light = 1 + 0.25 * (np.stack([np.cos(angle), np.sin(angle)], 1) @ look.to_sun)[:, None]
    plan.polygons(Layer.FEATURE, fan(place, rim), np.clip(rgb * light, 0, 0.95), Texture.RUBBLE)


def _junk(place: Points, look: Look, rng: Generator, plan: Plan) -> None:
    count = int(rng.integers(5, 40))
    spots = place + rng.normal(0, rng.uniform(1.5, 5), (count, 2))
    angle = rng.uniform(0, np.pi, count)
    ways = np.stack([np.cos(angle), np.sin(angle)], 1)
    rgb = CLUTTER[rng.integers(0, len(CLUTTER), count)] * rng.uniform(0.6, 1.2, (count, 1))
    things = boxes(spots, ways, rng.uniform(0.4, 2.2, count), rng.uniform(0.4, 1.2, count))
    plan.polygons(Layer.FEATURE, things, np.clip(rgb, 0, 0.95), Texture.SMOOTH)


def _shell(place: Points, look: Look, rng: Generator, plan: Plan) -> None:
    angle, size = rng.uniform(0, np.pi), rng.uniform(7, 17, 2)
    way = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    site = boxes(place[None], way[:1], size[0] * 1.7, size[1] * 1.6)
    plan.polygons(Layer.FEATURE, site, look.soil(rng), Texture.SOIL)
    floor = np.full(3, rng.uniform(0.3, 0.6))
    plan.polygons(Layer.FEATURE, boxes(place[None], way[:1], *size), floor, Texture.WORN)
    rgb = np.clip(np.array([0.66, 0.55, 0.46]) * rng.uniform(0.7, 1.3), 0, 0.95)
    for axis in range(2):
        rooms = int(rng.integers(2, 6))
        for share in np.linspace(-0.5, 0.5, rooms + 1):
            middle = place + way[axis] * size[axis] * share
            end = way[1 - axis] * size[1 - axis] / 2
            line = np.stack([middle - end, middle + end])
            plan.polygons(Layer.FEATURE, strip(line, -0.2, 0.2) + look.sun, floor * 0.4, Texture.SMOOTH)
            plan.polygons(Layer.FEATURE, strip(line, -0.25, 0.25), rgb, Texture.SMOOTH)


def _tents(place: Points, look: Look, rng: Generator, plan: Plan) -> None:
    count = int(rng.integers(1, 6))
    angle = rng.uniform(0, np.pi, count)
    ways = np.stack([np.cos(angle), np.sin(angle)], 1)
    _pitch(place + rng.normal(0, 8, (count, 2)), ways, look, rng, plan)


def _camp(place: Points, look: Look, rng: Generator, plan: Plan) -> None:
    rows, columns = rng.integers(2, 6), rng.integers(3, 9)
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
    angle = rng.uniform(0, np.pi)
    way = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    spots = place + (grid * rng.uniform(5.5, 9, 2)) @ way + rng.normal(0, 0.3, grid.shape)
    spots = spots[rng.random(len(spots)) < rng.uniform(0.7, 1)]
    _pitch(spots, np.broadcast_to(way[0], spots.shape), look, rng, plan)


def _pitch(spots: Points, ways: Points, look: Look, rng: Generator, plan: Plan) -> None:
    """Tents with a bright and a shaded side, at spots (n, 2)."""
    size = rng.uniform(3, 5.5, 2)
    rgb = rng.choice(_TENTS) * rng.uniform(0.85, 1.1)
    across = np.stack([-ways[:, 1], ways[:, 0]], 1)
    shade = boxes(spots + look.sun * 1.2, ways, *size)
    plan.polygons(Layer.FEATURE, shade, np.full(3, 0.14), Texture.SMOOTH)
    for side in (-1, 1):
        light = 1 + 0.15 * side * (across @ look.to_sun)[:, None]
        slope = boxes(spots + across * side * size[1] / 4, ways, size[0], size[1] / 2)
        plan.polygons(Layer.FEATURE, slope, np.clip(rgb * light, 0, 0.95), Texture.SMOOTH)


_CELL_M = 50.0
_FAR = 1 << 24  # makes lattice numbers non-negative, as NumPy's seeds must be
_TENTS = np.array([(0.88, 0.88, 0.87), (0.24, 0.38, 0.68), (0.74, 0.70, 0.60), (0.80, 0.82, 0.84)])
