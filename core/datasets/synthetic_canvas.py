"""Exact rasterisation of many small convex shapes at once.

A pixel belongs to a shape if its centre does. Coordinates are pixels of the town's grid, not of the window,
and each edge is computed from its upper end whatever the polygon's orientation: a shape has the same pixels
in every window, and shapes that share an edge neither overlap nor leave a gap.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Labels = NDArray[np.int32]


class Canvas:
    """A window of labels, painted from back to front.

    Attributes:
        labels: int32 (height, width), the label that was painted last, 0 where nothing was.
    """

    def __init__(self, row: int, col: int, height: int, width: int) -> None:
        self.row, self.col, self.height, self.width = row, col, height, width
        self.labels: Labels = np.zeros((height, width), np.int32)

    def paint_polygons(self, polygons: Points, labels: Labels) -> None:
        """Fill convex polygons.

        Args:
            polygons: (n, k, 2) x and y of the corners in the town's pixels, either orientation; corners may
                coincide.
            labels: int32 (n,), later ones lie on top.
        """
        if not len(polygons):
            return
        low, high = polygons.min(1), polygons.max(1)
        seen = (
            (high[:, 0] > self.col)
            & (low[:, 0] < self.col + self.width)
            & (high[:, 1] > self.row)
            & (low[:, 1] < self.row + self.height)
        )
        polygons, labels = polygons[seen], labels[seen]
        owner, line = self._lines(low[seen, 1], high[seen, 1])
        after = np.roll(polygons, -1, 1)
        upward = (polygons[..., 1] <= after[..., 1])[..., None]
        start, end = np.where(upward, polygons, after), np.where(upward, after, polygons)
        rise = end[..., 1] - start[..., 1]
        slope = (end[..., 0] - start[..., 0]) / np.where(rise > 0, rise, 1.0)
        middle = line + 0.5
        left = np.full(len(line), np.inf)
        right = np.full(len(line), -np.inf)
        for edge in range(polygons.shape[1]):
            bottom = start[owner, edge, 1]
            x = start[owner, edge, 0] + (middle - bottom) * slope[owner, edge]
            crossed = (bottom <= middle) & (middle < end[owner, edge, 1])
            np.minimum(left, x, out=left, where=crossed)
            np.maximum(right, x, out=right, where=crossed)
        real = left < right
        self._fill(line[real], left[real], right[real], labels[owner[real]])

    def paint_mask(self, polygons: Points) -> None:
        """Fill convex polygons (n, k, 2) with label 1."""
        self.paint_polygons(polygons, np.ones(len(polygons), np.int32))

    def paint_discs(self, discs: Points, labels: Labels) -> None:
        """Fill discs.

        Args:
            discs: (n, 3) x, y and radius in the town's pixels.
            labels: int32 (n,), later ones lie on top.
        """
        if not len(discs):
            return
        x, y, radius = discs.T
        seen = (
            (x + radius > self.col)
            & (x - radius < self.col + self.width)
            & (y + radius > self.row)
            & (y - radius < self.row + self.height)
        )
        x, y, radius, labels = x[seen], y[seen], radius[seen], labels[seen]
        owner, line = self._lines(y - radius, y + radius)
        chord = np.sqrt(np.maximum(radius[owner] ** 2 - (line + 0.5 - y[owner]) ** 2, 0.0))
        self._fill(line, x[owner] - chord, x[owner] + chord, labels[owner])

    def _lines(self, top: Points, bottom: Points) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Which pixel rows each shape crosses: (index of the shape, row), shape after shape."""
        first = np.clip(np.ceil(top - 0.5), self.row, self.row + self.height).astype(np.int64)
        last = np.clip(np.ceil(bottom - 0.5), self.row, self.row + self.height).astype(np.int64)
        count = np.maximum(last - first, 0)
        owner = np.repeat(np.arange(len(count)), count)
        return owner, _ramps(first, count)

    def _fill(self, line: NDArray[np.int64], left: Points, right: Points, labels: Labels) -> None:
        """Paint horizontal runs of pixels."""
        begin = np.clip(np.ceil(left - 0.5), self.col, self.col + self.width).astype(np.int64)
        end = np.clip(np.ceil(right - 0.5), self.col, self.col + self.width).astype(np.int64)
        count = np.maximum(end - begin, 0)
        pixel = _ramps((line - self.row) * self.width + begin - self.col, count)
        # With an index that repeats, NumPy keeps the last value: later shapes lie on top.
        self.labels.reshape(-1)[pixel] = np.repeat(labels, count)


def _ramps(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenate first[i], first[i] + 1, … (count[i] numbers) for every i."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - ends + count, count)
