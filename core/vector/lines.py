"""Lines of a network as measured vertices: cut at block lines, joined at seams, simplified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from .centrelines import Network
from .paths import order_paths
from .skeletons import Bools, Floats, Ints
from .windows import Window

_SMOOTHING_PASSES = 12  # of a 1-2-1 mean: a standard deviation of 2.4 px
_TOLERANCE_PX = 1.0  # a skeleton is no better than that


@dataclass(frozen=True)
class Lines:
    """Lines in grid pixels, and what was measured at their vertices.

    Attributes:
        vertices: (column, row) of each vertex, line after line, shape (n, 2).
        starts: Where each line starts in these, with n at the end, shape (lines + 1,).
        values: Probability, half width in pixels (NaN where bridged) and 1 where bridged, shape (n, 3).
    """

    vertices: Floats
    starts: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def line_of(self) -> Ints:
        """Number of each vertex's line."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def is_extended(self) -> Bools:
        """Whether a line is more than a point, shape (lines,)."""
        first = np.repeat(self.vertices[self.starts[:-1]], np.diff(self.starts), axis=0)
        extended: Bools = (
            np.bincount(self.line_of, weights=np.abs(self.vertices - first).sum(axis=1), minlength=len(self))
            > 0
        )
        return extended

    def taken(self, lines: Ints) -> Lines:
        """Some of the lines, in that order."""
        sizes = np.diff(self.starts)[lines]
        begins = np.cumsum(sizes) - sizes
        at = np.arange(sizes.sum()) + np.repeat(self.starts[:-1][lines] - begins, sizes)
        return Lines(self.vertices[at], np.append(begins, sizes.sum()), self.values[at])

    def means(self) -> Floats:
        """Mean probability, mean half width in pixels and bridged share of each line, shape (lines, 3)."""
        known = ~np.isnan(self.values)
        begins = self.starts[:-1]
        total = np.add.reduceat(np.where(known, self.values, 0.0), begins, axis=0)
        count = np.add.reduceat(known, begins, axis=0, dtype=np.int64)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

    def geometries(self, tolerance_px: float) -> NDArray[np.object_]:
        """Smooth and simplified linestrings; the ends stay exactly where they are."""
        is_inner = np.ones(len(self.vertices), bool)
        is_inner[self.starts[:-1]] = is_inner[self.starts[1:] - 1] = False
        smooth = self.vertices
        for _ in range(_SMOOTHING_PASSES):
            mean = ndimage.convolve1d(smooth, [0.25, 0.5, 0.25], axis=0)
            smooth = np.where(is_inner[:, None], mean, smooth)
        lines = shapely.linestrings(smooth, indices=self.line_of)
        simple: NDArray[np.object_] = shapely.simplify(
            lines, max(tolerance_px, _TOLERANCE_PX), preserve_topology=False
        )
        return simple


def concatenate(parts: Sequence[Lines]) -> Lines:
    """All lines of several sets, in order."""
    counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.starts) for part in parts)])
    return Lines(
        np.concatenate([np.zeros((0, 2)), *(part.vertices for part in parts)]),
        np.cumsum(counts),
        np.concatenate([np.zeros((0, 3)), *(part.values for part in parts)]),
    )


def cut_network(
    network: Network, probability: NDArray[np.float32], origin: tuple[int, int], window: Window, cut_px: int
) -> Lines:
    """Cut a network at a window's lines, and keep what lies in the window.

    Whoever computes the same pixels on the other side of a line gets the same point on it, to the bit.

    Args:
        network: From an array that holds the window and its surroundings.
        probability: float32, of that array.
        origin: Row and column of the array's first pixel in the grid.
        window: What to keep.
        cut_px: Distance of the lines, besides the window's borders; 0: only these.
    """
    paths = network.paths
    points = np.column_stack([paths.cols + origin[1] + 0.5, paths.rows + origin[0] + 0.5])
    values = np.column_stack([probability[paths.rows, paths.cols], network.half_width_px, network.is_bridged])
    breaks = paths.starts[1:]
    for axis, lines in enumerate((window.col_lines(cut_px), window.row_lines(cut_px))):
        points, values, breaks = _cut(points, values, breaks, axis, np.array(lines))
    cut = Lines(points, np.concatenate([[0], breaks]), values)
    first, last = cut.starts[:-1], cut.starts[1:] - 1
    middle = (points[first] + points[np.minimum(first + 1, last)]) / 2
    corner = np.array([window.col, window.row])
    size = np.array([window.width, window.height])
    is_inside = ((middle > corner) & (middle < corner + size)).all(axis=1)
    return cut.taken(np.flatnonzero(is_inside & cut.is_extended()))


def _cut(points: Floats, values: Floats, breaks: Ints, axis: int, lines: Ints) -> tuple[Floats, Floats, Ints]:
    """Cut at lines across one axis; a step crosses at most one of them."""
    cell = np.searchsorted(lines, points[:, axis], side="right")
    crosses = cell[1:] != cell[:-1]
    crosses[breaks[:-1] - 1] = False
    step = np.flatnonzero(crosses)
    line = lines[np.maximum(cell[step], cell[step + 1]) - 1]
    # Measured from the lower end: the same numbers whichever way the path runs.
    forward = points[step, axis] < points[step + 1, axis]
    low = np.where(forward[:, None], points[step], points[step + 1])
    high = np.where(forward[:, None], points[step + 1], points[step])
    share = (line - low[:, axis]) / (high[:, axis] - low[:, axis])
    crossing = low + share[:, None] * (high - low)
    crossing[:, axis] = line
    at = np.repeat(step + 1, 2)
    grown = breaks + 2 * np.searchsorted(step, breaks - 1, side="left")
    middle = step + 2 + 2 * np.arange(len(step))
    return (
        np.insert(points, at, np.repeat(crossing, 2, axis=0), axis=0),
        np.insert(values, at, np.repeat(np.minimum(values[step], values[step + 1]), 2, axis=0), axis=0),
        np.sort(np.concatenate([grown, middle])),
    )


def join_at_seams(lines: Lines, seam_cols: Ints, seam_rows: Ints) -> Lines:
    """Join the lines that end in the same point on a seam between windows.

    Args:
        lines: Lines of neighbouring windows.
        seam_cols: Columns of the seams.
        seam_rows: Rows of the seams.
    """
    if len(lines) == 0:
        return lines
    ends = np.column_stack([lines.starts[:-1], lines.starts[1:] - 1])
    tips = lines.vertices[ends.ravel()]
    on_seam = np.flatnonzero(np.isin(tips[:, 0], seam_cols) | np.isin(tips[:, 1], seam_rows))
    order = on_seam[np.lexsort((tips[on_seam, 1], tips[on_seam, 0]))]
    same = (tips[order[1:]] == tips[order[:-1]]).all(axis=1)
    # Only two that meet are one line; where a corner of windows is met by more, they stay as they are.
    group = np.concatenate([[0], np.cumsum(~same)])[: len(order)]
    is_pair = np.bincount(group)[group] == 2 if len(order) else np.zeros(0, bool)
    pairs = order[is_pair].reshape(-1, 2)
    if len(pairs) == 0:
        return lines
    # Tips are the vertices of a graph: a line links its two, a seam links two of different lines.
    tip = np.arange(2 * len(lines))
    walk, starts = order_paths(
        len(tip), np.concatenate([tip[0::2], pairs[:, 0]]), np.concatenate([tip[1::2], pairs[:, 1]])
    )
    heads = walk[0::2]
    line, is_reversed = heads // 2, heads % 2 == 1
    turned = _turned(lines.taken(line), is_reversed)
    return Lines(turned.vertices, turned.starts[starts // 2], turned.values)


def _turned(lines: Lines, is_reversed: Bools) -> Lines:
    """The lines with some of them walked the other way."""
    line_of = lines.line_of
    at = np.arange(len(line_of))
    mirrored = lines.starts[:-1][line_of] + lines.starts[1:][line_of] - 1 - at
    at = np.where(is_reversed[line_of], mirrored, at)
    return Lines(lines.vertices[at], lines.starts, lines.values[at])
