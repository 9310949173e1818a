"""What a damaged building of a synthetic town looks like from above, for each level of damage and hazard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from .synthetic_look import Look, pick
from .synthetic_shapes import Layer, Plan, Points, Texture, boxes, fan, strip
from .synthetic_wreck import OUTWARD, TIMBER, Materials, Part, Ruin, Wreck, any_ways, roofless
from .xbd import Damage


def ruin(part: Part, level: Damage, hazard: str, materials: Materials, look: Look, plan: Plan) -> Ruin:
    """Draw the damage of a part of a building.

    Args:
        part: What is damaged.
        level: MINOR, MAJOR or DESTROYED.
        hazard: A key of `HAZARDS`.
        materials: What the town is built of.
        look: Colours and light after the event.
        plan: Receives the shapes.
    """
    wreck = Wreck(part, materials, look, plan)
    return _KINDS[pick(HAZARDS[hazard][level], wreck.rng)](wreck)


# ---------------------------------------------------------------------------------------- destroyed


def _heap(wreck: Wreck) -> Ruin:
    """All of it has come down to rubble."""
    rng = wreck.rng
    wreck.rubble(Layer.RUBBLE, spill_m=rng.uniform(0.3, 4.0, 4) * rng.uniform(0.4, 1))
    count = int(rng.integers(0, 4))
    if count:
        spots = wreck.at(rng.uniform(0.1, 0.9, (count, 2)))
        size = rng.uniform(0.12, 0.4, (2, count)) * wreck.size.min()
        rgb = np.where(rng.random((count, 1)) < 0.5, wreck.part.roof_rgb, wreck.wall_rgb)
        plates = boxes(spots, any_ways(rng, count), *size)
        wreck.paint(Layer.RUBBLE, plates + wreck.look.sun * 0.5, rgb * 0.35, Texture.RUBBLE)
        wreck.paint(Layer.RUBBLE, plates, rgb * rng.uniform(0.75, 1.2, (count, 1)), Texture.WORN)
    return wreck.fallen(1.8)


def _pancake(wreck: Wreck) -> Ruin:
    """The floors lie on each other: the roof is whole or in slabs, low, and ringed by rubble."""
    rng = wreck.rng
    wreck.rubble(Layer.RUBBLE, spill_m=rng.uniform(0.4, 3.0, 4), roof_share=0.05)
    pieces = int(np.clip(rng.integers(1, 4), 1, max(1, wreck.size[0] // 4)))
    cuts = np.concatenate([[0.0], np.sort(rng.uniform(0.2, 0.8, pieces - 1)), [1.0]])
    wreck.slabs(cuts, rng.uniform(0.02, 0.12), rng.uniform(0.3, 1.2))
    wreck.pieces(Layer.RUBBLE, wreck.at(rng.uniform(-0.05, 1.05, (int(wreck.area_m2 * 0.25) + 3, 2))), 0.1)
    return wreck.fallen(1.5)


def _remnant(wreck: Wreck) -> Ruin:
    """Rubble, from which one end of the building still stands."""
    rng = wreck.rng
    wreck.rubble(Layer.RUBBLE, spill_m=rng.uniform(0.5, 3.5, 4))
    share = float(rng.uniform(0.12, 0.28))
    end = wreck.box(0, 0, share, rng.uniform(0.5, 1))
    wreck.paint(Layer.RUBBLE, end[None], wreck.part.roof_rgb * rng.uniform(0.8, 1.05), Texture.ROOF)
    heaps = wreck.fallen(1.6)
    heights = np.append(heaps.heights, wreck.part.height_m * 0.8)
    # Of the end only a sliver casts its shadow, so that its own roof stays in the sun.
    edge = end.mean(0) + (end - end.mean(0)) * 0.9
    return roofless(np.concatenate([heaps.footprints, edge[None]]), heights * 0.7)


def _burnt(wreck: Wreck) -> Ruin:
    """Ash between what walls are left, on scorched ground."""
    rng = wreck.rng
    ash = np.full(3, rng.uniform(0.35, 0.75)) * rng.uniform(0.96, 1.05, 3)
    char = np.array([0.16, 0.145, 0.13]) * rng.uniform(0.8, 1.6)
    if rng.random() < 0.6:
        ground = wreck.at(wreck.ragged(np.zeros(2), np.ones(2), rng.uniform(1, 6, 4)))
        scorched = wreck.look.soil(rng) * rng.uniform(0.35, 0.8)
        wreck.paint(Layer.FEATURE, fan(wreck.at(np.full(2, 0.5)), ground), scorched, Texture.RUBBLE)
    wreck.wall_rgb = ash if rng.random() < 0.75 else char * 1.5
    wreck.rubble(Layer.RUBBLE, spill_m=rng.uniform(0, 0.8, 4), roof_share=0.04)
    for rgb, per_m2, most_m in ((char, 0.35, 1.3), (ash * 1.25, 0.25, 1.0)):
        spots = wreck.at(rng.uniform(0.02, 0.98, (int(wreck.area_m2 * per_m2) + 2, 2)))
        size, count = rng.uniform(0.3, most_m, (2, len(spots))), len(spots)
        shade = rgb * rng.uniform(0.7, 1.5, (count, 1))
        wreck.paint(Layer.RUBBLE, boxes(spots, any_ways(rng, count), *size), shade, Texture.RUBBLE)
    if rng.random() < 0.75:
        _walls(wreck, ash * rng.uniform(0.9, 1.35))
    return wreck.fallen(0.7)


def _walls(wreck: Wreck, rgb: Points) -> None:
    """What stands of outer and inner walls, seen from above, with gaps."""
    rng, thick = wreck.rng, wreck.rng.uniform(0.35, 0.6)
    inner = rng.uniform(0.15, 0.85, int(rng.integers(0, 3)))
    lines = [((0, 0), (1, 0)), ((1, 0), (1, 1)), ((1, 1), (0, 1)), ((0, 1), (0, 0))]
    lines += [((at, 0), (at, 1)) if rng.random() < 0.5 else ((0, at), (1, at)) for at in inner]
    for start, end in np.array(lines, float):
        low, high = np.sort(rng.uniform(0, 1, 2))
        low, high = (0.0, 1.0) if rng.random() < 0.5 else (low, high)
        count = max(2, int(np.abs((end - start) * wreck.size).sum() * (high - low) / 1.5))
        axis = wreck.at(start + (end - start) * np.linspace(low, high, count)[:, None])
        wall = strip(axis, -thick / 2, thick / 2)
        wreck.paint(Layer.RUBBLE, wall + wreck.look.sun * 0.6, rgb * 0.4, Texture.RUBBLE)
        wreck.paint(Layer.RUBBLE, wall, rgb, Texture.WORN)


def _gone(wreck: Wreck) -> Ruin:
    """Swept away or cleared: bare ground or a floor slab, with little on it."""
    rng = wreck.rng
    if rng.random() < 0.5:
        slab = wreck.box(0.02, 0.02, 0.98, 0.98)[None]
        wreck.paint(Layer.RUBBLE, slab, wreck.look.paving(rng) * rng.uniform(1, 1.3), Texture.WORN)
    else:
        rim = wreck.at(wreck.ragged(np.zeros(2), np.ones(2), rng.uniform(0.5, 3, 4)))
        bare = wreck.look.soil(rng) * rng.uniform(0.8, 1.1)
        wreck.paint(Layer.RUBBLE, fan(wreck.at(np.full(2, 0.5)), rim), bare, Texture.SOIL)
    count = rng.poisson(wreck.area_m2 * rng.uniform(0.02, 0.3))
    wreck.pieces(Layer.RUBBLE, wreck.at(rng.uniform(-0.15, 1.15, (count, 2))), 0.15)
    return roofless(np.zeros((0, 4, 2)), np.zeros(0))


def _strewn(wreck: Wreck) -> Ruin:
    """Torn apart by wind: the pieces lie far around."""
    left = (_heap if wreck.rng.random() < 0.6 else _gone)(wreck)
    count, reach = int(wreck.area_m2 * wreck.rng.uniform(0.3, 1.2)), wreck.rng.uniform(5, 14)
    spots = wreck.at(np.full(2, 0.5)) + np.clip(wreck.rng.normal(0, reach, (count, 2)), -30, 30)
    wreck.pieces(Layer.RUBBLE, spots, 0.2)
    return left


# ---------------------------------------------------------------------------------------- major


def _half_fallen(wreck: Wreck) -> Ruin:
    """One end has collapsed; a piece of the roof hangs or lies beside it."""
    rng, share = wreck.rng, float(wreck.rng.uniform(0.22, 0.6))
    spill = rng.uniform(0.5, 3.0, 4) * [0.6, 0, 0.6, 1]
    wreck.rubble(Layer.RUBBLE, high=(share, 1), spill_m=spill)
    wreck.rubble(Layer.ROOF_DETAIL, (-0.02, -0.02), (share, 1.02), 0.25, shift=wreck.part.lean)
    _broken_edge(wreck, np.array([share, 0.0]), np.array([share, 1.0]))
    _fallen_plate(wreck, np.array([share * 0.4, rng.uniform(0.2, 0.8)]))
    return wreck.standing(wreck.box(share, 0, 1, 1))


def _corner_fallen(wreck: Wreck) -> Ruin:
    """A corner has collapsed."""
    rng = wreck.rng
    u, v = rng.uniform(0.35, 0.65, 2)
    spill = rng.uniform(0.5, 3.0, 4) * [1, 0, 0, 1]
    wreck.rubble(Layer.RUBBLE, high=(u, v), spill_m=spill)
    wreck.rubble(Layer.ROOF_DETAIL, (-0.02, -0.02), (u, v), 0.3, shift=wreck.part.lean)
    _broken_edge(wreck, np.array([u, 0.0]), np.array([u, v]))
    _broken_edge(wreck, np.array([0.0, v]), np.array([u, v]))
    return wreck.standing(wreck.box(u, 0, 1, 1), wreck.box(0, v, u, 1))


def _fallen_in(wreck: Wreck) -> Ruin:
    """The roof has fallen in; its rim stands around rubble in the shade."""
    rng = wreck.rng
    low, high = rng.uniform(0.06, 0.3, 2), rng.uniform(0.6, 0.94, 2)
    lean = wreck.part.lean
    wreck.hole((low + high) / 2, (high - low) * wreck.size * 0.62, wreck.wall_rgb * 0.3)
    rim = (high - low) * 0.12
    wreck.rubble(Layer.ROOF_DETAIL, low + rim, high - rim, shift=lean, roof_share=0.35)
    _rafters(wreck, low, high)
    wreck.beside(int(rng.integers(4)), rng.uniform(0.8, 2.0), 0.8)
    return wreck.standing()


def _slumped(wreck: Wreck) -> Ruin:
    """Walls have fallen out at the foot; the roof has come down a storey, aslant."""
    rng = wreck.rng
    slip = rng.normal(0, 1, 2)
    slip *= rng.uniform(0.8, 2.4) / np.hypot(*slip)
    share = float(rng.uniform(0.3, 0.7))
    wreck.part = replace(wreck.part, lean=wreck.part.lean * share + slip)
    for side in rng.permutation(4)[: rng.integers(1, 4)]:
        wreck.beside(int(side), rng.uniform(1.5, 3.2), 1.1)
    for _ in range(int(rng.integers(1, 4))):
        _crack(wreck, rng.uniform(0.4, 0.6))
    wreck.hole(rng.uniform(0.1, 0.9, 2), rng.uniform(0.8, 2.2, 2), wreck.wall_rgb * 0.4)
    return wreck.standing(share=share)


def _stripped(wreck: Wreck) -> Ruin:
    """The covering is gone from much of the roof: battens and ceilings show."""
    rng = wreck.rng
    low, high = np.array([0.0, rng.choice([0.0, 0.45])]), np.array([rng.uniform(0.5, 1), 1.0])
    corners = wreck.box(*low, *high)[None] + wreck.part.lean
    wreck.paint(Layer.ROOF_DETAIL, corners, wreck.wall_rgb * rng.uniform(0.5, 0.9), Texture.RUBBLE)
    _rafters(wreck, low, high)
    wreck.pieces(
        Layer.ROOF_DETAIL,
        wreck.at(low + rng.random((int(wreck.area_m2 / 5), 2)) * (high - low)) + wreck.part.lean,
        0.4,
    )
    wreck.beside(int(rng.integers(4)), rng.uniform(1, 4), 0.6)
    return wreck.standing()


def _broken_edge(wreck: Wreck, start: Points, end: Points) -> None:
    """The dark edge along which a roof has broken, with the wall below it."""
    rng = wreck.rng
    wreck.line(start, end, rng.uniform(0.5, 1.1), wreck.wall_rgb * 0.28, 0.3)


def _fallen_plate(wreck: Wreck, place: Points) -> None:
    """A piece of roof that lies on the rubble."""
    rng, size = wreck.rng, wreck.rng.uniform(0.15, 0.4, 2) * wreck.size.min()
    plate = boxes(wreck.at(place)[None] + wreck.part.lean, any_ways(rng, 1), *size)
    wreck.paint(Layer.ROOF_DETAIL, plate + wreck.look.sun * 0.5, wreck.part.roof_rgb * 0.35, Texture.RUBBLE)
    wreck.paint(Layer.ROOF_DETAIL, plate, wreck.part.roof_rgb * rng.uniform(0.8, 1.1), Texture.ROOF)


def _rafters(wreck: Wreck, low: Points, high: Points) -> None:
    """Bare timbers across a part of the roof."""
    rng = wreck.rng
    timber = np.minimum(rng.choice(TIMBER) * rng.uniform(0.6, 1.1), 0.9)
    for at in np.arange(low[0], high[0], rng.uniform(1.1, 2.2) / wreck.size[0]):
        if rng.random() < 0.7:
            ends = np.sort(rng.uniform(low[1], high[1], 2)) if rng.random() < 0.5 else (low[1], high[1])
            wreck.line(np.array([at, ends[0]]), np.array([at, ends[1]]), rng.uniform(0.25, 0.45), timber)


# ---------------------------------------------------------------------------------------- minor


def _tiles_lost(wreck: Wreck) -> Ruin:
    """Patches without tiles, at the ridge or anywhere."""
    rng = wreck.rng
    under = (wreck.wall_rgb * 0.35, wreck.part.roof_rgb * 0.4, np.array([0.5, 0.4, 0.3]))[
        int(rng.integers(3))
    ]
    count, focus = int(rng.integers(2, 9)), rng.uniform(0.15, 0.85, 2)
    spread = rng.uniform(0.05, 0.35) if rng.random() < 0.6 else np.array([0.35, 0.02])
    for place in np.clip(focus + rng.normal(0, 1, (count, 2)) * spread, 0.04, 0.96):
        reach = np.minimum(rng.uniform(0.5, 1.5) * rng.uniform(0.6, 1.8, 2), wreck.size * 0.3)
        wreck.hole(place, reach, under * rng.uniform(0.7, 1.3))
    if rng.random() < 0.5:
        wreck.beside(int(rng.integers(4)), rng.uniform(0.4, 1.0), 0.5)
    return wreck.standing()


def _holed(wreck: Wreck) -> Ruin:
    """One or two holes, with timbers or a slab's edge in them."""
    rng = wreck.rng
    for place in rng.uniform(0.15, 0.85, (int(rng.integers(1, 3)), 2)):
        reach = np.minimum(rng.uniform(0.9, 2.4, 2), wreck.size * 0.3)
        wreck.hole(place, reach * 1.15, wreck.part.roof_rgb * rng.uniform(0.6, 1.3))
        wreck.hole(place, reach, wreck.wall_rgb * rng.uniform(0.12, 0.35))
        spots = wreck.at(place + rng.normal(0, 0.3, (4, 2)) * reach / wreck.size) + wreck.part.lean
        wreck.pieces(Layer.ROOF_DETAIL, spots, 0.4, 0.5)
    return wreck.standing()


def _covered(wreck: Wreck) -> Ruin:
    """Tarpaulins over what is damaged, and often some of that beside them."""
    rng, colours = wreck.rng, wreck.materials.tarpaulins
    if rng.random() < 0.5:
        _tiles_lost(wreck)
    for _ in range(int(rng.integers(1, 4))):
        size = np.minimum(rng.uniform(2.0, 7.0, 2), wreck.size * 0.85)
        place = 0.5 + rng.uniform(-0.5, 0.5, 2) * (1 - size / wreck.size)
        sheet = boxes(wreck.at(place)[None], wreck.ways(1), size[0], size[1])[0]
        sheet = sheet + rng.normal(0, 0.25, sheet.shape) + wreck.part.lean
        rgb = rng.choice(colours) * rng.uniform(0.75, 1.15)
        cut = sheet[[0, 3]] + (sheet[[1, 2]] - sheet[[0, 3]]) * rng.uniform(0.3, 0.7)
        halves = np.stack(
            [np.stack([sheet[0], cut[0], cut[1], sheet[3]]), np.stack([cut[0], sheet[1], sheet[2], cut[1]])]
        )
        wreck.paint(
            Layer.ROOF_DETAIL, halves, rgb * np.array([[1.0], [rng.uniform(0.8, 1.15)]]), Texture.WORN
        )
    return wreck.standing()


def _edge_lost(wreck: Wreck) -> Ruin:
    """A parapet, a gable or a chimney has fallen and lies at the foot."""
    rng, side = wreck.rng, int(wreck.rng.integers(4))
    starts, ends = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]), np.array([[1, 0], [1, 1], [0, 1], [0, 0.0]])
    low, high = rng.uniform(0, 0.4), rng.uniform(0.6, 1)
    way = ends[side] - starts[side]
    inward = -OUTWARD[side] * 0.5 / wreck.size
    edge = starts[side] + way * low + inward, starts[side] + way * high + inward
    wreck.line(*edge, rng.uniform(0.8, 1.6), wreck.wall_rgb * rng.choice([0.4, 1.1]), 0.25)
    wreck.beside(side, rng.uniform(0.8, 2.0), 1.0)
    return wreck.standing()


def _cracked(wreck: Wreck) -> Ruin:
    """Cracks across the roof, and pieces of plaster at the foot."""
    for _ in range(int(wreck.rng.integers(1, 4))):
        _crack(wreck, wreck.rng.uniform(0.4, 0.6))
    wreck.beside(int(wreck.rng.integers(4)), wreck.rng.uniform(0.5, 1.3), 0.8)
    return wreck.standing()


def _crack(wreck: Wreck, width_m: float) -> None:
    rng = wreck.rng
    start, end = np.array([rng.uniform(0, 1), 0.0]), np.array([rng.uniform(0, 1), rng.uniform(0.5, 1)])
    if rng.random() < 0.5:
        start, end = start[::-1], end[::-1]
    bend = (start + end) / 2 + rng.normal(0, 0.08, 2)
    rgb = wreck.part.roof_rgb * rng.uniform(0.5, 0.8)
    wreck.line(start, bend, width_m, rgb, 0.2)
    wreck.line(bend, end, width_m * 0.8, rgb, 0.2)


_KINDS: dict[str, Callable[[Wreck], Ruin]] = {
    "heap": _heap,
    "pancake": _pancake,
    "remnant": _remnant,
    "burnt": _burnt,
    "gone": _gone,
    "strewn": _strewn,
    "half fallen": _half_fallen,
    "corner fallen": _corner_fallen,
    "fallen in": _fallen_in,
    "slumped": _slumped,
    "stripped": _stripped,
    "tiles lost": _tiles_lost,
    "holed": _holed,
    "covered": _covered,
    "edge lost": _edge_lost,
    "cracked": _cracked,
}

HAZARDS: dict[str, Mapping[Damage, Mapping[str, float]]] = {
    "earthquake": {
        Damage.MINOR: {"tiles lost": 3, "holed": 1.5, "covered": 1.5, "edge lost": 3, "cracked": 2},
        Damage.MAJOR: {"half fallen": 3, "corner fallen": 2.5, "fallen in": 2, "slumped": 3},
        Damage.DESTROYED: {"heap": 5, "pancake": 3, "remnant": 1.5, "burnt": 0.3, "gone": 0.8},
    },
    "storm": {
        Damage.MINOR: {"tiles lost": 4, "holed": 1.5, "covered": 4},
        Damage.MAJOR: {"stripped": 4, "half fallen": 1.5, "fallen in": 2, "corner fallen": 1},
        Damage.DESTROYED: {"strewn": 6, "heap": 1.5, "remnant": 1, "gone": 1},
    },
    "fire": {
        Damage.MINOR: {"holed": 2, "tiles lost": 1},
        Damage.MAJOR: {"fallen in": 3, "half fallen": 1},
        Damage.DESTROYED: {"burnt": 8, "gone": 0.6},
    },
}
"""How often each kind of damage occurs, by what caused it and by its level."""
