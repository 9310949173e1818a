"""How a synthetic town's streets, rivers and railways are drawn, with the cars and trees on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from .synthetic_layout import Layout, Ribbon, RibbonKind, Roundabout, Street
from .synthetic_look import CAR_SHARES, CARS
from .synthetic_shapes import (
    Flags,
    Layer,
    Obstacle,
    Plan,
    Points,
    Texture,
    aside,
    boxes,
    clearance,
    place_along,
    run_length,
    spaced,
    strip,
)

LANE_M = 3.5


def draw_street(layout: Layout, street: Street, obstacles: Sequence[Obstacle], plan: Plan) -> None:
    """Draw a road with its sidewalks, markings, cars and trees.

    Args:
        layout: The town.
        street: What to draw.
        obstacles: Rivers and railways of its cell; most streets end at them, through roads bridge them.
        plan: Receives the shapes.
    """
    rng = np.random.default_rng(street.seed)
    look = layout.look
    axis = layout.axis(street)
    pieces = [axis]
    if obstacles and not street.through and rng.random() < 0.75:
        pieces = _stretches(axis, clearance(axis, obstacles) > 2.0)
    if street.layer is Layer.TRACK:
        rgb, texture = look.soil(rng) * rng.uniform(0.92, 1.12), Texture.SOIL
    else:
        rgb, texture = look.paving(rng), Texture.WORN if rng.random() < 0.4 else Texture.PAVED
    rutted = rng.random() < 0.5
    for piece in pieces:
        if street.layer is Layer.TRACK:
            half = street.width_m / 2 * (1 + 0.12 * rng.standard_normal(len(piece)))
            plan.polygons(Layer.TRACK, strip(piece, -half, half), rgb, texture)
            plan.discs(Layer.TRACK, _caps(piece, street.width_m / 2), rgb, texture)
            if rutted:
                _rut(layout, piece, rgb, rng, plan)
        else:
            _pave(layout, street, piece, rgb, texture, rng, plan)
    if street.bulb_m and pieces and np.array_equal(pieces[-1][-1], axis[-1]):
        plan.discs(street.layer, np.array([[*axis[-1], street.bulb_m]]), rgb, texture)


def _stretches(axis: Points, keep: Flags) -> list[Points]:
    """The parts of a polyline whose points are kept, where they have two points or more."""
    cuts = np.flatnonzero(np.diff(keep)) + 1
    parts = zip(np.split(axis, cuts), np.split(keep, cuts), strict=True)
    return [points for points, kept in parts if kept[0] and len(points) > 1]


def _caps(axis: Points, radius_m: float) -> Points:
    """Discs that round off both ends of a road and fill its junctions."""
    return np.concatenate([axis[[0, -1]], [[radius_m], [radius_m]]], 1)


def _pave(
    layout: Layout, street: Street, axis: Points, rgb: Points, texture: Texture, rng: Generator, plan: Plan
) -> None:
    """Draw one stretch of a paved road."""
    look, half, inner = layout.look, street.width_m / 2, street.median_m / 2
    if look.verge_m:
        edge = half + look.verge_m
        plan.polygons(Layer.VERGE, strip(axis, -edge, edge), look.verge_rgb, Texture.PAVED)
    if inner:
        # The median is verge, under all roads: where a street crosses, it is interrupted.
        green = look.grass(rng) if rng.random() < 0.7 else look.verge_rgb
        plan.polygons(Layer.VERGE, strip(axis, -half, half), green, Texture.GRASS)
        plan.polygons(street.layer, strip(axis, -half, -inner), rgb, texture)
        plan.polygons(street.layer, strip(axis, inner, half), rgb, texture)
    else:
        plan.polygons(street.layer, strip(axis, -half, half), rgb, texture)
        plan.discs(street.layer, _caps(axis, half), rgb, texture)
    if rng.random() < 0.3:
        _patch(street, axis, rgb, rng, plan)
    if look.markings and street.width_m > 6.5:
        _mark(layout, street, axis, rgb, plan)
    _drive(layout, street, axis, rng, plan)
    if rng.random() < layout.style.trees * 0.7:
        spots, ways = spaced(axis, rng.uniform(9, 22), rng.uniform(8, 16))
        beside = rng.choice([-1.0, 1.0], len(spots)) * (half + rng.uniform(0.5, 3))
        spots = spots + aside(ways) * beside[:, None]
        plant(layout, spots[rng.random(len(spots)) < 0.75], rng, plan)


def _rut(layout: Layout, axis: Points, rgb: Points, rng: Generator, plan: Plan) -> None:
    """Two wheel marks on a track that is otherwise much like the ground around it."""
    shade = rgb * rng.uniform(0.82, 1.14)
    width = max(0.5, layout.gsd_m)
    for offset in (-0.8, 0.8):
        plan.polygons(Layer.MARKING, strip(axis, offset - width / 2, offset + width / 2), shade, Texture.SOIL)


def _patch(street: Street, axis: Points, rgb: Points, rng: Generator, plan: Plan) -> None:
    """Repairs in another grey."""
    length = run_length(axis)[-1]
    spots, ways = place_along(axis, rng.uniform(0, length, rng.poisson(length / 40)))
    half, inner = street.width_m / 2, street.median_m / 2
    offset = (inner + (half - inner) / 2) * rng.choice([-1, 1], len(spots))
    width = (half - inner) * rng.uniform(0.4, 0.9, len(spots))
    patches = boxes(spots + aside(ways) * offset[:, None], ways, rng.uniform(3, 25, len(spots)), width)
    shade = rgb * rng.uniform(0.75, 1.15, (len(spots), 1))
    plan.polygons(Layer.MARKING, patches, shade, Texture.PAVED)


def _mark(layout: Layout, street: Street, axis: Points, rgb: Points, plan: Plan) -> None:
    """Draw lane lines, as wide as a pixel at least and blended to their true width."""
    width = max(0.18, layout.gsd_m)
    paint = rgb + (0.88 - rgb) * layout.look.markings * 0.18 / width
    half, inner = street.width_m / 2, street.median_m / 2
    lanes = max(1, round((half - inner) / LANE_M))
    dashed = [side * (inner + (half - inner) * k / lanes) for k in range(1, lanes) for side in (-1, 1)]
    dashes, ways = spaced(axis, 9.0)
    for offset in dashed if inner else [*dashed, 0.0]:
        plan.polygons(
            Layer.MARKING, boxes(dashes + aside(ways) * offset, ways, 4.0, width), paint, Texture.SMOOTH
        )
    if street.layer is Layer.AVENUE:
        for offset in (-half + 0.6, half - 0.6):
            edge = strip(axis, offset - width / 2, offset + width / 2)
            plan.polygons(Layer.MARKING, edge, paint, Texture.SMOOTH)


def _drive(layout: Layout, street: Street, axis: Points, rng: Generator, plan: Plan) -> None:
    """Put cars on the lanes and along the kerb."""
    length = run_length(axis)[-1]
    half, inner = street.width_m / 2, street.median_m / 2
    lanes = max(1, round((half - inner) / LANE_M))
    busy = 2.5 if street.layer is Layer.AVENUE else 0.6
    moving = rng.poisson(length * layout.look.traffic * lanes * 2 * busy)
    lane = inner + (half - inner) * (rng.integers(0, lanes, moving) + 0.5) / lanes
    offset = lane * rng.choice([-1, 1], moving)
    at = rng.uniform(0, length, moving)
    if street.layer is Layer.STREET and half > 2.7 and rng.random() < 0.55:
        parked = rng.poisson(length * rng.uniform(0.01, 0.1))
        offset = np.concatenate([offset, (half - 1.1) * rng.choice([-1, 1], parked)])
        at = np.concatenate([at, np.round(rng.uniform(0, length, parked) / 6) * 6])
    spots, ways = place_along(axis, np.clip(at, 0, length))
    park(spots + aside(ways) * offset[:, None], ways, rng, plan, Layer.CAR)


def park(spots: Points, ways: Points, rng: Generator, plan: Plan, layer: Layer) -> None:
    """Put cars and a few lorries at spots (n, 2) m that head along ways (n, 2)."""
    count = len(spots)
    lorry = rng.random(count) < 0.07
    length = np.where(lorry, rng.uniform(7, 13, count), rng.uniform(3.9, 5, count))
    width = np.where(lorry, 2.5, 1.85)
    rgb = CARS[rng.choice(len(CARS), count, p=CAR_SHARES)]
    plan.polygons(layer, boxes(spots, ways, length, width), rgb, Texture.SMOOTH)
    screens = boxes(spots + ways * (length * 0.14)[:, None], ways, np.where(lorry, 0.0, 0.9), width * 0.85)
    plan.polygons(layer, screens, rgb * 0.35, Texture.SMOOTH)


def plant(
    layout: Layout, spots: Points, rng: Generator, plan: Plan, radius_m: tuple[float, float] = (1.6, 4.5)
) -> None:
    """Plant trees at spots (n, 2) m: lumpy crowns, lit from the sun's side."""
    count = len(spots)
    if not count:
        return
    radius = rng.uniform(*radius_m, (count, 1))
    leaves = layout.look.leaves(rng, count)
    to_sun = layout.look.to_sun
    plan.trees.append(np.concatenate([spots, radius, radius * rng.uniform(1.4, 2.4, (count, 1))], 1))
    # Each tree is five discs, from the shaded base to the lit top: (count, 5, 3).
    lumps = rng.uniform(-0.55, 0.55, (count, 3, 2))
    offsets = np.concatenate(
        [np.zeros((count, 1, 2)), lumps, np.broadcast_to(to_sun * 0.35, (count, 1, 2))], 1
    )
    sizes = np.broadcast_to([[0.85], [0.55], [0.55], [0.55], [0.42]], (count, 5, 1))
    discs = np.concatenate([spots[:, None] + offsets * radius[:, None], sizes * radius[:, None]], 2)
    light = np.concatenate(
        [np.full((count, 1), 0.72), 0.9 + 0.3 * lumps @ to_sun, np.full((count, 1), 1.22)], 1
    )
    crowns = leaves[:, None] * light[..., None]
    plan.discs(Layer.CROWN, discs.reshape(-1, 3), crowns.reshape(-1, 3), Texture.CANOPY)


def draw_roundabout(layout: Layout, roundabout: Roundabout, plan: Plan) -> None:
    """Draw a ring of road around an island of grass, gravel or trees."""
    rng = np.random.default_rng(roundabout.seed)
    look, centre, radius = layout.look, roundabout.centre, roundabout.radius_m

    def disc(size_m: float) -> Points:
        return np.array([[*centre, size_m]])

    inner = radius - rng.uniform(7, 10)
    plan.discs(Layer.VERGE, disc(radius + look.verge_m), look.verge_rgb, Texture.PAVED)
    plan.discs(Layer.AVENUE, disc(radius), look.paving(rng), Texture.PAVED)
    plan.discs(Layer.ISLAND, disc(inner), look.verge_rgb, Texture.PAVED)
    island = look.grass(rng) if rng.random() < 0.6 else look.soil(rng)
    plan.discs(Layer.ISLAND, disc(inner - 0.8), island, Texture.GRASS)
    angle = rng.uniform(0, 2 * np.pi, int(rng.integers(0, 9)))
    way = np.stack([np.cos(angle), np.sin(angle)], 1)
    plant(layout, centre + way * rng.uniform(0, inner - 2, (len(angle), 1)), rng, plan, (1, 3))


def draw_ribbon(layout: Layout, ribbon: Ribbon, plan: Plan) -> None:
    """Draw a river, a canal, a railway or a dry bed through one cell."""
    rng = np.random.default_rng(ribbon.seed)
    look, half, line = layout.look, ribbon.width_m / 2, ribbon.line

    def band(left_m: float, right_m: float, rgb: Points, texture: Texture) -> None:
        plan.polygons(Layer.FEATURE, strip(line, left_m, right_m), np.clip(rgb, 0, 0.95), texture)

    if ribbon.kind is RibbonKind.RAILWAY:
        ballast = look.paving(rng) * np.array([1.04, 0.99, 0.93]) * rng.uniform(0.8, 1.2)
        bed = ballast * 0.8
        thick = max(0.2, layout.gsd_m)
        steel = bed + (0.75 - bed) * 0.15 / thick
        band(-half, half, ballast, Texture.WORN)
        for track in np.arange(-half + 2.5, half - 1.5, 4.2):
            band(track - 1.3, track + 1.3, bed, Texture.SOIL)
            for rail in (track - 0.72, track + 0.72):
                band(rail - thick / 2, rail + thick / 2, steel, Texture.SMOOTH)
    elif ribbon.kind is RibbonKind.DRY_BED:
        bed = look.soil(rng)
        band(-half, half, bed * 0.88, Texture.SOIL)
        band(-half * 0.7, half * 0.7, bed * 1.05, Texture.SOIL)
    else:
        bank = look.soil(rng) if ribbon.kind is RibbonKind.RIVER else look.paving(rng) * 1.1
        water = np.array([0.13, 0.19, 0.17]) * rng.uniform(0.45, 1.9) * rng.uniform(0.85, 1.15, 3)
        band(-half - 2, half + 2, bank, Texture.SOIL)
        band(-half, half, water, Texture.WATER)
