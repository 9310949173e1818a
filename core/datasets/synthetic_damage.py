"""Synthetic towns before and after an event: two pictures, and how badly each building is damaged.

Only the damage itself tells a damaged building from others: between the dates the sun, the season, the
sensor and its angle change everywhere, cars and trees come and go, roofs are painted anew, and the pictures
do not quite fit. Damage comes in clusters, and most towns have little of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import ndtri

from .synthetic import Extent, Painting, Town, window_around
from .synthetic_changes import (
    Roofs,
    change_trees,
    clutter_roofs,
    move_cars,
    raise_walls,
    repaint,
    roof_colours,
    shift_plan,
)
from .synthetic_incident import draw_another_day, draw_incident
from .synthetic_layout import Bounds
from .synthetic_litter import strew
from .synthetic_look import Look, pick
from .synthetic_noise import hash_numbers, value_noise
from .synthetic_ruins import HAZARDS, ruin
from .synthetic_sensor import draw_sensor
from .synthetic_shapes import Buildings, Ids, Layer, Plan, Points
from .synthetic_stock import DamagedBuilding, Levels, Stock
from .synthetic_wreck import Part, Ruin, draw_materials
from .xbd import Damage


@dataclass(frozen=True)
class ScenePair:
    """A town before and after an event, on one grid.

    Attributes:
        pre: uint8 (h, w, 3), red, green, blue.
        post: uint8 (h, w, 3), `shift_px` off the grid.
        damage: uint8 (h, w), codes of `Damage` where a building is on `pre`, 0 elsewhere.
        buildings: Those that `pre` shows; where outlines overlap, `damage` has the later one.
        hazard: What happened, a key of `HAZARDS`.
        shift_px: Rows and columns by which `post` lies too far down and right.
        gsd_m: Metres per pixel.
        transform: Pixel to map coordinates, in metres.
        crs: A UTM zone as "EPSG:326.." or "EPSG:327..".
    """

    pre: NDArray[np.uint8]
    post: NDArray[np.uint8]
    damage: Levels
    buildings: tuple[DamagedBuilding, ...]
    hazard: str
    shift_px: tuple[float, float]
    gsd_m: float
    transform: Affine
    crs: str


def generate_pair(
    seed: int,
    size_px: int | tuple[int, int] = 512,
    gsd_m: float = 0.5,
    style: str = "",
    *,
    share: float | None = None,
    hazard: str = "",
) -> ScenePair:
    """Draw a town before and after an event.

    Args:
        seed: The same seed gives the same pair, 0 or more.
        size_px: Side, or (height, width).
        gsd_m: Metres per pixel.
        style: A key of `STYLES`; "" draws one from the seed, rarely one without houses.
        share: Of the town's buildings that are damaged, 0 to 1; none draws it. A window may have more or
            less: damage comes in clusters.
        hazard: A key of `HAZARDS`; "" draws one, most often an earthquake.

    Raises:
        ValueError: A parameter makes no sense.
    """
    height, width = (size_px, size_px) if isinstance(size_px, int) else size_px
    return DamagedTown(seed, style, gsd_m, share=share, hazard=hazard).render(0, 0, height, width)


class DamagedTown:
    """An endless town before and after an event, any window of which can be drawn alone.

    Args:
        seed: Which town, 0 or more.
        style: As in `generate_pair`.
        gsd_m: Metres per pixel.
        share: As in `generate_pair`.
        hazard: As in `generate_pair`.

    Attributes:
        before: The town before, `Town.render` of which knows nothing of what is to come.
        after: The same town in the light of the second picture.
        incident: What happens to it.

    Raises:
        ValueError: A parameter makes no sense.
    """

    def __init__(
        self,
        seed: int,
        style: str = "",
        gsd_m: float = 0.5,
        *,
        share: float | None = None,
        hazard: str = "",
    ) -> None:
        if hazard and hazard not in HAZARDS:
            raise ValueError(f"There is no hazard {hazard!r}; choose one of {', '.join(HAZARDS)}.")
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"The share of damaged buildings cannot be {share}; give 0 to 1.")
        rng = np.random.default_rng([max(seed, 0), 10])
        drawn = pick(_STYLES, rng)
        self.seed, self.gsd_m = seed, gsd_m
        self.before = Town(seed, style or drawn, gsd_m)
        look = draw_another_day(self.before.look, rng)
        self.after = self.before.photographed_again(look, draw_sensor(rng, self.before.brightness))
        self.incident = draw_incident(rng, share, hazard)
        self._materials = draw_materials(self.incident.hazard, self.before.look, rng)

    def render(self, row: int, col: int, height: int, width: int) -> ScenePair:
        """Draw a window of both pictures.

        Time grows with its area and its buildings: 0.2 to 0.8 s for 512 x 512 pixels of 0.5 m.

        Args:
            row: First row on the town's pixel grid, any sign.
            col: First column.
            height: Rows.
            width: Columns.
        """
        incident, gsd_m = self.incident, self.gsd_m
        whole = np.floor(incident.shift_px).astype(int)
        window = window_around(row, col, height, width)
        moved = window_around(row - int(whole[0]), col - int(whole[1]), height, width)
        bounds = _around(window.bounds(gsd_m), moved.bounds(gsd_m), _REACH_M)
        plan, later = self.before.plan(bounds), self.after.plan(bounds)
        stock = self._take_stock((plan, later), bounds)
        for one in (plan, later):
            clutter_roofs(stock.feet, stock.ids, incident.cluttered, self.seed, one)

        self._prepare(plan, stock, bounds)
        pre = _photograph(self.before, window, plan, self.before.paint(window, plan))

        self._strike(later, stock, bounds)
        shift_plan(later, ((incident.shift_px - whole) * gsd_m)[::-1])
        painting = self.after.paint(moved, later)
        self._dust(moved, painting)
        post = _photograph(self.after, moved, later, painting)

        inside = window.part(row, col, height, width)
        numbers = stock.burn(window, gsd_m)[inside]
        seen = moved.part(row - int(whole[0]), col - int(whole[1]), height, width)
        return ScenePair(
            pre=np.ascontiguousarray(pre[inside]),
            post=np.ascontiguousarray(post[seen]),
            damage=np.concatenate([[0], stock.levels[stock.order]]).astype(np.uint8)[numbers],
            buildings=stock.buildings(numbers, row, col, gsd_m),
            hazard=incident.hazard,
            shift_px=(float(incident.shift_px[0]), float(incident.shift_px[1])),
            gsd_m=gsd_m,
            transform=self.before.transform @ Affine.translation(col, row),
            crs=self.before.crs,
        )

    def _take_stock(self, plans: tuple[Plan, Plan], bounds: Bounds) -> Stock:
        """The buildings of both plans and what will become of them.

        Each plan goes as far as its own shadows ask for: neither need hold all buildings of the other.
        """
        known, added = (_join(plan.buildings) for plan in plans)
        new = ~np.isin(added.ids, known.ids)
        feet = np.concatenate([known.footprints, added.footprints[new]])
        heights = np.concatenate([known.heights, added.heights[new]])
        ids = np.concatenate([known.ids, added.ids[new]])
        numbers, first, index = np.unique(ids, return_index=True, return_inverse=True)
        tops = np.zeros(len(numbers))
        np.maximum.at(tops, index, heights)
        spans = feet[:, 2] - feet[:, 0], feet[:, 3] - feet[:, 1]
        areas = np.abs(spans[0][:, 0] * spans[1][:, 1] - spans[0][:, 1] * spans[1][:, 0]) / 2
        order = np.lexsort((areas, index))  # the last part of each building is its largest
        main = order[np.searchsorted(index[order], np.arange(len(numbers)), side="right") - 1]
        colours = roof_colours(plans, numbers)
        gain = repaint(colours, numbers, self.incident.painted[0], self.seed + 20)
        return Stock(
            feet=feet,
            heights=heights,
            ids=ids,
            index=index,
            numbers=numbers,
            order=np.argsort(first),
            tops=tops,
            main=main,
            levels=self._fates(feet[main].mean(1), numbers, bounds),
            colours=colours * gain,
            gain=gain,
            roofs=self.incident.leans[0] * tops[:, None],
        )

    def _fates(self, spots: Points, ids: Ids, bounds: Bounds) -> Levels:
        """The level of damage (n,) of buildings at spots (n, 2) m."""
        hazard, share = self.incident.hazard, self.incident.share
        near, far = (self._field(spots, bounds, k, wave) for k, wave in ((30, 70.0), (31, 240.0)))
        luck = ndtri(np.clip(hash_numbers(self.seed + 40, ids), 1e-9, 1 - 1e-9))
        shared = self.incident.clustering
        place = (0.6 * near + 0.8 * far) / _FIELD_SPREAD
        score = np.sqrt(shared) * place + np.sqrt(1 - shared) * luck
        struck = score > -ndtri(share)
        weights = np.array(_SEVERITY[hazard]) * np.exp(0.5 * place[:, None] * np.array([-1.0, 0.0, 1.0]))
        steps = np.cumsum(weights, 1) / weights.sum(1, keepdims=True)
        level = Damage.MINOR + (hash_numbers(self.seed + 41, ids)[:, None] > steps).sum(1)
        return np.where(struck, np.minimum(level, Damage.DESTROYED), Damage.NO_DAMAGE).astype(np.uint8)

    def _field(self, spots: Points, bounds: Bounds, seed: int, wavelength_m: float) -> Points:
        """Smooth noise from -1 to 1 at spots (n, 2) within bounds, whatever the bounds."""
        step = 4.0
        left, top, right, bottom = (int(np.floor(side / step)) for side in bounds)
        left, top, right, bottom = left - 20, top - 20, right + 20, bottom + 20
        size = (top, left, bottom - top, right - left)
        noise = value_noise(self.seed * 64 + seed, *size, wavelength_m / step)
        cells = np.floor(spots / step).astype(int) - [left, top]
        rows, cols = np.clip(cells[:, 1], 0, size[2] - 1), np.clip(cells[:, 0], 0, size[3] - 1)
        field: Points = noise[rows, cols].astype(float)
        return field

    def _prepare(self, plan: Plan, stock: Stock, bounds: Bounds) -> None:
        """Make a plan the town before the event."""
        look = self.before.look
        strew(bounds, self.incident.litters[0], look, self.seed, plan)
        kept = np.ones(len(stock.numbers), np.bool_)
        Roofs(stock.numbers, kept, stock.gain, stock.roofs).apply(plan)
        self._raise(stock, np.ones(len(stock.ids), np.bool_), stock.tops, self.incident.leans[0], look, plan)

    def _strike(self, plan: Plan, stock: Stock, bounds: Bounds) -> None:
        """Make a plan the town after the event."""
        incident, look = self.incident, self.after.look
        strew(bounds, incident.litters[1], look, self.seed, plan)
        move_cars(plan, self.seed + 50)
        ruins = self._ruin(plan, stock, bounds)
        anew = repaint(stock.colours, stock.numbers, incident.painted[1], self.seed + 60)
        kept = np.ones(len(stock.numbers), np.bool_)
        tops, shift = stock.tops.copy(), incident.leans[1] * stock.tops[:, None]
        whole = np.ones(len(stock.ids), np.bool_)
        for part, left in ruins.items():
            building = stock.index[part]
            whole[part] = False
            kept[building] = left.has_roof
            if left.has_roof:
                shift[building] = left.roof_shift
                tops[building] *= left.height_share
        Roofs(stock.numbers, kept, stock.gain * anew, shift).apply(plan)
        self._raise(stock, kept[stock.index], tops, incident.leans[1], look, plan)
        plan.buildings[:] = [
            Buildings(stock.feet[whole], stock.heights[whole], stock.ids[whole]),
            *(
                Buildings(one.footprints, one.heights, np.zeros_like(one.heights, int))
                for one in ruins.values()
            ),
        ]
        self._change_trees(plan, stock)

    def _ruin(self, plan: Plan, stock: Stock, bounds: Bounds) -> dict[int, Ruin]:
        """Draw the damage of all parts that can show: all of a destroyed building, else its largest."""
        ruins = {}
        struck = (stock.levels > Damage.NO_DAMAGE)[stock.index] & stock.near(bounds, _SHADOW_M)
        for number in np.flatnonzero(struck).tolist():
            building = stock.index[number]
            level, height_m = Damage(int(stock.levels[building])), float(stock.heights[number])
            if level is not Damage.DESTROYED and number != stock.main[building]:
                continue
            part = Part(
                foot=stock.feet[number],
                height_m=height_m,
                roof_rgb=stock.colours[building],
                lean=self.incident.leans[1] * stock.tops[building],
                seed=(self.seed, int(stock.ids[number]), int(height_m * 8)),
            )
            hazard, materials = self.incident.hazard, self._materials
            ruins[number] = ruin(part, level, hazard, materials, self.after.look, plan)
        return ruins

    def _raise(
        self, stock: Stock, shown: NDArray[np.bool_], tops: Points, lean: Points, look: Look, plan: Plan
    ) -> None:
        heights = tops[stock.index][shown]
        raise_walls(stock.feet[shown], heights, stock.ids[shown], lean, self._materials.walls, look, plan)

    def _change_trees(self, plan: Plan, stock: Stock) -> None:
        """Fell trees anywhere, and break or scorch those near destroyed buildings."""
        hazard, (anywhere, near) = self.incident.hazard, self.incident.felled
        centres = stock.feet[stock.levels[stock.index] == Damage.DESTROYED].mean(1)
        tree = cKDTree(centres) if len(centres) else None

        def nearness(spots: Points, reach_m: float) -> Points:
            if tree is None:
                return np.zeros(len(spots))
            distance, _ = tree.query(spots)
            close: Points = np.clip(1.5 - distance / reach_m, 0, 1)
            return close

        def felled(spots: Points) -> Points:
            return anywhere + (near * nearness(spots, 30.0) if hazard == "storm" else 0.0) * np.ones(
                len(spots)
            )

        def scorch(spots: Points) -> Points:
            return nearness(spots, 18.0) if hazard == "fire" else np.zeros(len(spots))

        change_trees(plan, felled, scorch)

    def _dust(self, window: Extent, painting: Painting) -> None:
        """Let dust settle on and around rubble, in place."""
        rubble = (painting.covered == Layer.RUBBLE).astype(np.float32)
        if not self.incident.dust or not rubble.any():
            return
        size_px = min(int(12.0 / self.gsd_m) | 1, 41)
        amount = ndimage.uniform_filter(ndimage.uniform_filter(rubble, size_px // 2 | 1), size_px // 2 | 1)
        size = (window.row, window.col, window.height, window.width)
        amount *= 0.75 + 0.5 * value_noise(self.seed * 64 + 50, *size, 9.0 / self.gsd_m)
        amount = np.clip(amount * np.float32(self.incident.dust), 0, 0.8)[..., None]
        colour = (self._materials.walls.mean(0) * 0.95).astype(np.float32)
        painting.surface[...] += (colour - painting.surface) * amount


def _photograph(town: Town, window: Extent, plan: Plan, painting: Painting) -> NDArray[np.uint8]:
    return town.photograph(window, painting, town.shadows(window, plan))


def _join(parts: list[Buildings]) -> Buildings:
    """Parts of buildings, all in one; there may be none."""
    nothing = Buildings(np.zeros((0, 4, 2)), np.zeros(0), np.zeros(0, np.int64))
    parts = [nothing, *parts]
    return Buildings(
        np.concatenate([part.footprints for part in parts]),
        np.concatenate([part.heights for part in parts]),
        np.concatenate([part.ids for part in parts]),
    )


def _around(one: Bounds, other: Bounds, margin_m: float) -> Bounds:
    """The bounds of two bounds, grown."""
    return (
        min(one[0], other[0]) - margin_m,
        min(one[1], other[1]) - margin_m,
        max(one[2], other[2]) + margin_m,
        max(one[3], other[3]) + margin_m,
    )


_REACH_M = 16.0  # how far a leaning roof or a piece of rubble may lie from its building
_SHADOW_M = 46.0  # no shadow is longer, and nothing is strewn farther
_FIELD_SPREAD = 0.42  # standard deviation of the weighted sum of the two noises of `_fates`
_STYLES = {"suburb": 6.0, "old_town": 6.0, "grid": 6.0, "industrial": 1.2, "desert": 1.5, "rural": 0.6}
_SEVERITY = {"earthquake": (0.4, 0.25, 0.35), "storm": (0.5, 0.2, 0.3), "fire": (0.05, 0.05, 0.9)}
"""Weights of minor damage, major damage and destruction among damaged buildings."""
