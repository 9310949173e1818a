"""The buildings of a part of a synthetic town, and what becomes of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .synthetic import Extent
from .synthetic_layout import Bounds
from .synthetic_shapes import Ids, Points
from .xbd import Damage

Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class DamagedBuilding:
    """A building of a pair.

    Attributes:
        id: Its number in the town.
        damage: What happened to it.
        outline: On the picture before, in pixels (column, row), within the picture.
    """

    id: int
    damage: Damage
    outline: BaseGeometry


@dataclass(frozen=True)
class Stock:
    """The buildings of a part of a town.

    Attributes:
        feet: (p, 4, 2) m, convex parts of buildings.
        heights: (p,) m.
        ids: (p,) numbers of the buildings that they belong to.
        index: (p,) their index in `numbers`.
        numbers: (n,) sorted numbers of the buildings.
        order: (n,) their indices as they are drawn, later ones over earlier ones.
        tops: (n,) m, their greatest heights.
        main: (n,) index of their largest part.
        levels: (n,) codes of `Damage`.
        colours: (n, 3) of their roofs before the event.
        gain: (n, 3) factor that turned the plan's colours into these.
        roofs: (n, 2) m by which the first picture displaces their roofs.
    """

    feet: Points
    heights: Points
    ids: Ids
    index: NDArray[np.intp]
    numbers: Ids
    order: NDArray[np.intp]
    tops: Points
    main: NDArray[np.intp]
    levels: Levels
    colours: Points
    gain: Points
    roofs: Points

    def near(self, bounds: Bounds, reach_m: float) -> NDArray[np.bool_]:
        """Which parts (p,) lie within some distance of bounds."""
        left, top, right, bottom = bounds
        high, low = self.feet.max(1) + reach_m, self.feet.min(1) - reach_m
        near: NDArray[np.bool_] = (high > [left, top]).all(1) & (low < [right, bottom]).all(1)
        return near

    def burn(self, window: Extent, gsd_m: float) -> NDArray[np.int32]:
        """Which building the first picture shows (h, w): its place in `order` from 1, 0 for none."""
        canvas = window.canvas()
        place = np.argsort(self.order)[self.index]
        parts = np.argsort(place, kind="stable")
        canvas.paint_polygons(self._on_picture()[parts] / gsd_m, (place[parts] + 1).astype(np.int32))
        return canvas.labels

    def buildings(
        self, shown: NDArray[np.int32], row: int, col: int, gsd_m: float
    ) -> tuple[DamagedBuilding, ...]:
        """Those of a window, as burnt, in their order; outlines in its pixels and within it."""
        frame = shapely.box(0, 0, shown.shape[1], shown.shape[0])
        parts = shapely.polygons(self._on_picture() / gsd_m - [col, row])
        sorted_parts = np.argsort(self.index, kind="stable")
        ends = np.searchsorted(self.index[sorted_parts], np.arange(len(self.numbers) + 1))
        found = []
        for place in np.unique(shown[shown > 0]) - 1:
            building = int(self.order[place])
            pieces = parts[sorted_parts[ends[building] : ends[building + 1]]]
            cut = shapely.get_parts(shapely.intersection(shapely.union_all(pieces), frame))
            outline = shapely.union_all([part for part in cut if part.area > 0])
            level = Damage(int(self.levels[building]))
            found.append(DamagedBuilding(int(self.numbers[building]), level, outline))
        return tuple(found)

    def _on_picture(self) -> Points:
        """Parts (p, 4, 2) m where the first picture shows their roofs."""
        return self.feet + self.roofs[self.index][:, None]
