"""The pixels of many polygons at once, each polygon by itself: overlaps do not hide each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from .windows import Window

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_POLYGON = 3  # shapely's type id


@dataclass(frozen=True)
class Runs:
    """Runs of pixels along rows, sorted by owner, row and column.

    Attributes:
        owner: int64 (runs,), index of the polygon.
        row: int64 (runs,), row of the grid.
        begin: int64 (runs,), first column.
        end: int64 (runs,), one past the last column.
    """

    owner: Ints
    row: Ints
    begin: Ints
    end: Ints

    @property
    def lengths(self) -> Ints:
        """Pixels of each run, int64 (runs,)."""
        return self.end - self.begin

    def pixels(self) -> tuple[Ints, Ints, Ints]:
        """Owner, row and column of each pixel, int64 (pixels,) each."""
        lengths = self.lengths
        starts = np.cumsum(lengths) - lengths
        run = np.repeat(np.arange(len(lengths)), lengths)
        col = np.arange(len(run)) - starts[run] + self.begin[run]
        return self.owner[run], self.row[run], col


def scan_polygons(shapes: NDArray[np.object_], window: Window) -> Runs:
    """Find the pixels of a window whose centre lies in each polygon.

    A centre on an edge belongs to the polygon on its right or below, so that polygons which share an edge
    share no pixel. Whether a centre is inside does not depend on the window: the runs of windows that
    split a grid are those of the grid.

    Cost: one crossing for each row that an edge spans within the window; nothing loops over polygons.

    Args:
        shapes: Valid geometries in pixels (column, row), shape (n,); parts that are no polygons are passed
            over.
        window: The window.
    """
    owner, begin, end = _edges(shapes)
    falls = begin[:, 1] > end[:, 1]  # seen from its upper end, an edge that two polygons share is the same
    upper, lower = np.where(falls[:, None], end, begin), np.where(falls[:, None], begin, end)
    bottom = window.row + window.height
    first = _first_centre(upper[:, 1], window.row, bottom)
    count = _first_centre(lower[:, 1], window.row, bottom) - first

    edge = np.repeat(np.arange(len(owner)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    fall = np.maximum(lower[:, 1] - upper[:, 1], np.finfo(float).tiny)  # level edges are crossed by no row
    share = (row + 0.5 - upper[edge, 1]) / fall[edge]
    x = upper[edge, 0] + share * (lower[edge, 0] - upper[edge, 0])
    col = _first_centre(x, window.col, window.col + window.width)

    order = np.lexsort((col, row, owner[edge]))
    pairs = order.reshape(-1, 2)  # rings are closed: each row crosses a polygon's outline evenly often
    begins, ends = col[pairs[:, 0]], col[pairs[:, 1]]
    kept = begins < ends
    pairs = pairs[kept, 0]
    return Runs(owner[edge[pairs]], row[pairs], begins[kept], ends[kept])


def batches(costs: Ints, limit: int) -> Iterator[slice]:
    """Split items into consecutive batches of about `limit` together, and never more than an item over it.

    Args:
        costs: Of each item, int64 (n,), not negative.
        limit: What a batch may cost.
    """
    number = (np.cumsum(costs) - costs) // max(limit, 1)
    cuts = np.flatnonzero(np.diff(number)) + 1
    bounds = [0, *cuts.tolist(), len(costs)]
    yield from (slice(a, b) for a, b in pairwise(bounds) if a < b)


def _edges(shapes: NDArray[np.object_]) -> tuple[Ints, Floats, Floats]:
    """The polygon, the first and the second point (x, y) of each edge."""
    parts, index = shapely.get_parts(shapes, return_index=True)
    parts, nested = shapely.get_parts(parts, return_index=True)  # a collection may hold multi-polygons
    index = index[nested]
    polygonal = shapely.get_type_id(parts) == _POLYGON
    rings, part = shapely.get_rings(parts[polygonal], return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    joined = np.flatnonzero(ring[1:] == ring[:-1])
    return index[polygonal][part][ring[joined]], points[joined], points[joined + 1]


def _first_centre(position: Floats, low: int, high: int) -> Ints:
    """The first pixel whose centre is not before `position`, kept within `low` and `high`."""
    return np.clip(np.ceil(position - 0.5), low, high).astype(np.int64)
