"""What differs between two pictures of a synthetic town and is no damage.

Cars move, trees are felled, roofs are painted anew, and tall buildings lean over in a picture taken from the
side. Each change hangs on the thing that changes and on its place alone, so that neighbouring windows of a
town agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from .synthetic_look import Look
from .synthetic_noise import hash_numbers, hash_places
from .synthetic_shapes import (
    Flags,
    Ids,
    Layer,
    Painted,
    Plan,
    Points,
    Shapes,
    Texture,
    boxes,
)

FLOOR_M = 3.1


@dataclass(frozen=True)
class Roofs:
    """What happens to the roofs of buildings between plan and picture.

    Attributes:
        ids: (n,) sorted.
        kept: (n,) whether the roof is drawn.
        gain: (n, 3) factor of its colour.
        shift: (n, 2) m by which it is displaced.
    """

    ids: Ids
    kept: Flags
    gain: Points
    shift: Points

    def apply(self, plan: Plan) -> None:
        """Change the roofs of a plan."""
        for layer in (Layer.ROOF, Layer.ROOF_DETAIL):
            shapes = plan.layers[layer].polygons
            shapes[:] = [changed for painted in shapes if len((changed := self._change(painted)).rgb)]

    def _change(self, painted: Painted) -> Painted:
        if painted.ids is None:
            return painted
        index = np.searchsorted(self.ids, painted.ids)
        kept = self.kept[index]
        index = index[kept]
        return replace(
            painted,
            outlines=painted.outlines[kept] + self.shift[index, None],
            rgb=np.minimum(painted.rgb[kept] * self.gain[index], 0.95),
            ids=painted.ids[kept],
        )


def roof_colours(plans: Iterable[Plan], ids: Ids) -> Points:
    """The mean colours (n, 3) of the roofs of buildings, whose sorted numbers are `ids` (n,), in plans."""
    total, count = np.zeros((len(ids), 3)), np.zeros((len(ids), 1))
    for painted in (painted for plan in plans for painted in plan.layers[Layer.ROOF].polygons):
        if painted.ids is not None:
            index = np.searchsorted(ids, painted.ids)
            np.add.at(total, index, painted.rgb)
            np.add.at(count, index, 1)
    colours: Points = total / np.maximum(count, 1)
    return colours


def repaint(colours: Points, ids: Ids, share: float, seed: int) -> Points:
    """Factors (n, 3) that turn some roofs of these colours (n, 3) into painted metal or fresh tiles."""
    pick = (hash_numbers(seed + 1, ids) * len(PAINTS)).astype(int)
    paint = PAINTS[pick] * (0.85 + 0.3 * hash_numbers(seed + 2, ids)[:, None])
    painted = hash_numbers(seed, ids) < share
    gain: Points = np.where(painted[:, None], paint / np.maximum(colours, 0.12), 1.0)
    return gain


def move_cars(plan: Plan, seed: int) -> None:
    """Drive cars away or along, and put others in their place; a car is a body and then its windscreen."""
    for layer, stay in ((Layer.CAR, 0.1), (Layer.PARKED, 0.35)):
        shapes = plan.layers[layer].polygons
        for index in range(0, len(shapes) - 1, 2):
            body, screen = shapes[index], shapes[index + 1]
            middle = body.outlines.mean(1)
            luck = hash_places(seed, middle)
            way = body.outlines[:, 1] - body.outlines[:, 0]
            # Bays are taken by other cars or empty; on the road cars are anywhere.
            far = 40 * (hash_places(seed + 1, middle) - 0.5) if layer is Layer.CAR else np.zeros(len(middle))
            far = np.where(luck < stay, 0.0, far)
            step = way / np.maximum(np.hypot(*way.T), 1e-6)[:, None] * far[:, None]
            kept = (luck < stay) | (luck > 0.5)
            other = body.rgb[np.argsort(hash_places(seed + 2, middle))]
            rgb = np.where((luck < stay)[:, None], body.rgb, other)[kept]
            for at, painted, shade in ((index, body, 1.0), (index + 1, screen, 0.35)):
                moved = (painted.outlines + step[:, None])[kept]
                shapes[at] = replace(painted, outlines=moved, rgb=rgb * shade)


def change_trees(plan: Plan, felled: Callable[[Points], Points], scorch: Callable[[Points], Points]) -> None:
    """Fell trees and brown them.

    Args:
        plan: Its trees and crowns stand in the same order.
        felled: Gives places (n, 2) the probability that a tree is gone, (n,).
        scorch: Gives places how dead a crown is, 0 to 1, (n,).
    """
    crowns = plan.layers[Layer.CROWN].discs
    for index, (trees, crown) in enumerate(zip(plan.trees, crowns, strict=True)):
        spots = trees[:, :2]
        kept = hash_places(77, spots) >= felled(spots)
        dead = np.repeat(scorch(spots), 5)[:, None]
        rgb = crown.rgb * (1 - dead) + np.array([0.22, 0.17, 0.13]) * dead
        lumps = np.repeat(kept, 5)
        plan.trees[index] = trees[kept]
        crowns[index] = replace(crown, outlines=crown.outlines[lumps], rgb=rgb[lumps])


def raise_walls(
    feet: Points, heights: Points, ids: Ids, lean: Points, walls: Points, look: Look, plan: Plan
) -> None:
    """Draw the walls that show because roofs lean over by `lean` (2,) metres for a metre of height.

    Args:
        feet: (n, 4, 2) m.
        heights: (n,) m.
        ids: (n,) buildings that they belong to.
        lean: Displacement in the picture.
        walls: (m, 3) colours.
        look: Colours and light.
        plan: Receives them below all roofs.
    """
    reach = float(np.hypot(*lean))
    if reach < 0.02 or not len(feet):
        return
    after = np.roll(feet, -1, 1)
    way = after - feet
    normal = np.stack([way[..., 1], -way[..., 0]], -1)
    normal /= np.maximum(np.hypot(normal[..., 0], normal[..., 1]), 1e-6)[..., None]
    outward = (feet + after) / 2 - feet.mean(1, keepdims=True)
    normal *= np.sign((outward * normal).sum(-1))[..., None]
    shift = (heights[:, None] * lean)[:, None]
    corners = np.stack([feet, after, after + shift, feet + shift], 2)
    seen = normal @ lean < 0
    # A low sun lights walls well, a high one hardly.
    light = 0.32 + 0.8 * np.clip(normal @ look.to_sun, 0, 1) * min(1.0, float(np.hypot(*look.sun)))
    rgb = walls[(hash_numbers(5, ids) * len(walls)).astype(int)][:, None] * light[..., None]
    floors = (0.1, float(np.arctan2(-lean[0], lean[1])), max(FLOOR_M * reach, 0.3))
    shown = Painted(corners[seen], np.clip(rgb[seen], 0.02, 0.95), Texture.WORN, floors)
    plan.layers[Layer.ROOF].polygons.insert(0, shown)


def clutter_roofs(feet: Points, ids: Ids, share: float, seed: int, plan: Plan) -> None:
    """Put water tanks, panels, dishes and stored things on the roofs of a share of buildings.

    Args:
        feet: (n, 4, 2) m, parts of buildings.
        ids: (n,) buildings that they belong to.
        share: Of roofs that are cluttered.
        seed: Of their chance.
        plan: Receives them as parts of the roofs.
    """
    most = 10
    many = (hash_numbers(seed, ids) / max(share, 1e-9) * most).astype(int)
    owner = np.repeat(np.arange(len(ids)), np.where(hash_numbers(seed, ids) < share, many, 0))
    number = ids[owner] + np.arange(len(owner)) - np.searchsorted(owner, owner)
    luck = [hash_numbers(seed + k, number)[:, None] for k in range(1, 8)]
    u, v = 0.1 + 0.8 * luck[0], 0.1 + 0.8 * luck[1]
    a, b, c, d = feet[owner].swapaxes(0, 1)
    spots = (a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v
    way = (b - a) / np.maximum(np.hypot(*(b - a).T), 1e-6)[:, None]
    length, width = (0.6 + 1.8 * luck[2] ** 2)[:, 0], (0.5 + 1.0 * luck[3])[:, 0]
    rgb = CLUTTER[(luck[4][:, 0] * len(CLUTTER)).astype(int)] * (0.8 + 0.4 * luck[5])
    things = boxes(spots, way, length, width)
    plan.polygons(Layer.ROOF_DETAIL, things, rgb, Texture.SMOOTH, ids=ids[owner])


def shift_plan(plan: Plan, shift: Points) -> None:
    """Move everything by (2,) metres."""
    for shapes in plan.layers.values():
        _shift_shapes(shapes, shift)
    plan.buildings[:] = [replace(part, footprints=part.footprints + shift) for part in plan.buildings]
    plan.trees[:] = [trees + np.array([*shift, 0, 0]) for trees in plan.trees]


def _shift_shapes(shapes: Shapes, shift: Points) -> None:
    shapes.polygons[:] = [replace(one, outlines=one.outlines + shift) for one in shapes.polygons]
    shapes.discs[:] = [replace(one, outlines=one.outlines + np.array([*shift, 0])) for one in shapes.discs]


PAINTS = np.array(
    [
        (0.62, 0.20, 0.18),  # red metal
        (0.72, 0.24, 0.20),
        (0.66, 0.36, 0.24),  # fresh tiles
        (0.20, 0.32, 0.60),  # blue metal
        (0.22, 0.50, 0.34),  # green metal
        (0.86, 0.86, 0.85),  # white membrane
        (0.34, 0.34, 0.35),  # bitumen
        (0.55, 0.54, 0.52),  # zinc
    ]
)
"""Colours of roofs that are painted, or covered anew."""

CLUTTER = np.array(
    [
        (0.88, 0.88, 0.88),
        (0.14, 0.14, 0.16),
        (0.24, 0.34, 0.62),
        (0.50, 0.36, 0.28),
        (0.68, 0.62, 0.54),
        (0.34, 0.34, 0.34),
        (0.60, 0.24, 0.20),
    ]
)
"""Colours of things that stand about."""
