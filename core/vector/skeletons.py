"""From a skeleton image to paths between junctions, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from .paths import order_paths

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NOWHERE = -1


@dataclass(frozen=True)
class Paths:
    """The lines of a skeleton, cut at its junctions.

    Attributes:
        rows: Row of each pixel along the paths, one path after the other.
        cols: Column of each pixel.
        starts: Where each path starts in these, with their number at the end, shape (paths + 1,).
        ends: Junction at each path's beginning and end, shape (paths, 2); `NOWHERE` at a free end. A
            path that ends at a junction includes the junction's pixel, so that paths which meet there
            share that point; a ring without junctions ends on the pixel on which it begins.
        junctions: Row and column of each junction's pixel, shape (junctions, 2).
    """

    rows: Ints
    cols: Ints
    starts: Ints
    ends: Ints
    junctions: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def path_of(self) -> Ints:
        """Number of each pixel's path."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def lengths_px(self) -> Floats:
        """Length of each path from pixel centre to pixel centre."""
        steps = np.hypot(np.diff(self.rows), np.diff(self.cols))
        steps[self.starts[1:-1] - 1] = 0.0
        lengths: Floats = np.bincount(self.path_of[:-1], weights=steps, minlength=len(self)).astype(float)
        return lengths

    def free_ends(self) -> tuple[Ints, Ints]:
        """Path number and pixel position of each free end."""
        path, side = np.nonzero((self.ends == NOWHERE) & ~self._is_ring[:, None])
        return path, np.where(side == 0, self.starts[path], self.starts[path + 1] - 1)

    @property
    def _is_ring(self) -> Bools:
        first, last = self.starts[:-1], self.starts[1:] - 1
        closes = (self.rows[first] == self.rows[last]) & (self.cols[first] == self.cols[last])
        rings: Bools = closes & (last > first)
        return rings

    def components(self) -> Ints:
        """Number of the connected part of the network to which each path belongs."""
        count = len(self)
        path, side = np.nonzero(self.ends != NOWHERE)
        at = self.ends[path, side] + count
        size = count + len(self.junctions)
        graph = csr_array((np.ones(len(path), np.int8), (path, at)), shape=(size, size))
        labels: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
        return labels[:count]

    def drawn(self, kept: Bools, shape: tuple[int, int]) -> Bools:
        """A skeleton image with the paths that are `kept`, shape (paths,), alone."""
        image = np.zeros(shape, bool)
        image[self._pixels(kept)] = True
        return image

    def _pixels(self, kept: Bools) -> tuple[Ints, Ints]:
        """Rows and columns of the pixels of some paths, and of the lines over their longer steps."""
        path_of = self.path_of
        inside = kept[path_of]
        is_far = np.maximum(np.abs(np.diff(self.rows)), np.abs(np.diff(self.cols))) > 1
        steps = np.flatnonzero(is_far & inside[:-1] & (path_of[:-1] == path_of[1:]))
        points = np.column_stack([self.rows, self.cols])
        rows, cols, _ = pixels_along(points[steps], points[steps + 1])
        return np.concatenate([self.rows[inside], rows]), np.concatenate([self.cols[inside], cols])

    def retraced(self, kept: Bools) -> Paths:
        """What `trace_paths` makes of a skeleton of the paths that are `kept`, shape (paths,), alone."""
        rows, cols = self._pixels(kept)
        stride = cols.max(initial=0) + 1
        place = np.sort(rows * stride + cols)  # not `np.unique`: it hashes, which takes ten times as long
        return _follow(*np.divmod(place[np.diff(place, prepend=NOWHERE) > 0], stride))


def trace_paths(skeleton: Bools) -> Paths:
    """Follow a skeleton one pixel wide from junction to junction.

    Pixels are neighbours along edges, and over a corner where no third pixel links them. Neighbouring
    junction pixels are one junction; it lies on the pixel nearest to their centre.

    Args:
        skeleton: bool (height, width).
    """
    return _follow(*np.divmod(np.flatnonzero(skeleton), skeleton.shape[1]))


def _follow(rows: Ints, cols: Ints) -> Paths:
    """Follow a skeleton that is given by its pixels, row by row."""
    count = len(rows)
    tails, heads = _neighbours(rows, cols)
    degree = np.bincount(tails, minlength=count) + np.bincount(heads, minlength=count)
    is_joint = degree > 2
    cluster, junctions = _merge_junctions(rows, cols, is_joint, tails, heads)

    plain = np.flatnonzero(~is_joint)
    number = np.cumsum(~is_joint) - 1
    inner = ~is_joint[tails] & ~is_joint[heads]
    order, starts = order_paths(len(plain), number[tails[inner]], number[heads[inner]])
    order = plain[order]

    # Each plain pixel touches at most two junctions, and two only where it is a path by itself.
    outer = is_joint[tails] ^ is_joint[heads]
    joint = np.where(is_joint[tails], tails, heads)[outer]
    pixel = np.where(is_joint[tails], heads, tails)[outer]
    low, high = np.full(count, len(junctions)), np.full(count, NOWHERE)
    np.minimum.at(low, pixel, cluster[joint])
    np.maximum.at(high, pixel, cluster[joint])
    touches = np.bincount(pixel, minlength=count)
    first, last = order[starts[:-1]], order[starts[1:] - 1]
    begin = np.where(touches[first] > 0, low[first], NOWHERE)
    end = np.where(touches[last] > 0, high[last], NOWHERE)
    end[(first == last) & (touches[last] == 1)] = NOWHERE
    is_ring = (degree[first] == 2) & (degree[last] == 2) & (begin == NOWHERE) & (end == NOWHERE)

    at = np.column_stack([starts[:-1], starts[1:]]).ravel()
    ends = np.column_stack([begin, end])
    bounded = (ends != NOWHERE).ravel()
    points = np.column_stack([rows, cols])
    anchor = np.zeros((len(begin), 2, 2), np.int64)
    if len(junctions):
        anchor[ends != NOWHERE] = junctions[ends[ends != NOWHERE]]
    anchor[is_ring, 1] = points[first[is_ring]]
    bounded[1::2] |= is_ring
    walked = np.insert(points[order], at[bounded], anchor.reshape(-1, 2)[bounded], axis=0)
    grown = np.cumsum(np.concatenate([[0], bounded.reshape(-1, 2).sum(axis=1)]))
    return Paths(walked[:, 0], walked[:, 1], starts + grown, ends, junctions)


def merge_crossings(paths: Paths, limit_px: Floats) -> Paths:
    """Make one of two junctions that lie close together, and straighten the paths that lead there.

    Roads that cross at an angle meet in two junctions of a skeleton, a little apart, with a kink. Only the
    nearest two are joined where several lie close.

    Args:
        paths: From `trace_paths`.
        limit_px: Paths between junctions that are shorter than this vanish, shape (paths,).
    """
    count = len(paths.junctions)
    begin, end = paths.ends.T
    length = paths.lengths_px()
    is_link = (paths.ends != NOWHERE).all(axis=1) & (begin != end) & (length < limit_px)
    link = np.flatnonzero(is_link)
    link = link[np.argsort(length[link], kind="stable")]
    order = np.arange(len(link))
    nearest = np.full(count, len(link))
    np.minimum.at(nearest, begin[link], order)
    np.minimum.at(nearest, end[link], order)
    chosen = link[(nearest[begin[link]] == order) & (nearest[end[link]] == order)]
    label = np.arange(count)
    label[np.maximum(begin, end)[chosen]] = np.minimum(begin, end)[chosen]
    is_link &= label[begin] == label[end]
    label = np.unique(label, return_inverse=True)[1]

    size = np.bincount(label)
    centre = np.column_stack([np.bincount(label, weights=axis) / size for axis in paths.junctions.T])
    offset = paths.junctions - centre[label]
    reach = np.zeros(len(size))
    np.maximum.at(reach, label, 2 * np.hypot(offset[:, 0], offset[:, 1]))
    centre = _nearest_pixels(centre).astype(float)

    kept = np.flatnonzero(~is_link)
    sizes = np.diff(paths.starts)[kept]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    path_of = np.repeat(np.arange(len(kept)), sizes)
    along = np.arange(starts[-1]) - starts[path_of]
    points = np.column_stack([paths.rows, paths.cols])[along + paths.starts[kept][path_of]].astype(float)
    ends = np.where(paths.ends[kept] == NOWHERE, NOWHERE, label[paths.ends[kept]])
    for side, distance in ((0, along), (1, np.repeat(sizes, sizes) - 1 - along)):
        _straighten(points, path_of, distance, ends[:, side], centre, reach)
    rounded = _nearest_pixels(points)
    return Paths(rounded[:, 0], rounded[:, 1], starts, ends, centre.astype(np.int64))


def _straighten(
    points: Floats, path_of: Ints, distance: Ints, junction: Ints, centre: Floats, reach: Floats
) -> None:
    """Move the pixels of paths that lie near a junction onto the straight line to it, in place.

    Args:
        points: Row and column of each pixel, shape (n, 2).
        path_of: Path of each pixel.
        distance: Number of pixels between each pixel and its path's end at the junction.
        junction: Of each path, or `NOWHERE`.
        centre: Row and column of each junction.
        reach: Radius of each junction.
    """
    radius = np.where(junction == NOWHERE, -1.0, reach[junction])[path_of]
    to_centre = points - centre[junction[path_of]]
    half = np.bincount(path_of, minlength=len(junction))[path_of] // 2
    is_near = (np.hypot(to_centre[:, 0], to_centre[:, 1]) <= radius) & (distance < half)
    is_near |= (distance == 0) & (radius >= 0)
    last = np.full(len(junction), -1)
    np.maximum.at(last, path_of[is_near], distance[is_near])
    # The first pixel beyond the junction's reach stays; up to there the path runs straight.
    anchor = np.zeros((len(junction), 2))
    is_anchor = distance == last[path_of] + 1
    anchor[path_of[is_anchor]] = points[is_anchor]
    moved = distance <= last[path_of]
    share = distance[moved] / (last + 1)[path_of[moved]]
    start = centre[junction[path_of[moved]]]
    points[moved] = start + share[:, None] * (anchor[path_of[moved]] - start)


def draw_lines(image: Bools, begin: Ints, end: Ints) -> None:
    """Set the pixels on straight lines of an image; what lies outside it is left out.

    Args:
        image: bool (height, width), changed in place.
        begin: Row and column of each line's beginning, shape (lines, 2).
        end: The same of its end.
    """
    rows, cols, _ = pixels_along(begin, end)
    inside = (rows >= 0) & (cols >= 0) & (rows < image.shape[0]) & (cols < image.shape[1])
    image[rows[inside], cols[inside]] = True


def pixels_along(begin: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """Rows and columns of the pixels on straight lines, both ends included, and each pixel's line."""
    steps = np.abs(end - begin).max(axis=1, initial=0)
    line = np.repeat(np.arange(len(steps)), steps + 1)
    step = np.arange(len(line)) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    share = step / np.maximum(steps, 1)[line]
    points = begin[line] + _nearest_pixels((end - begin)[line] * share[:, None])
    return points[:, 0], points[:, 1], line


def _nearest_pixels(points: Floats) -> Ints:
    """Round halves up: to even, as NumPy does, an array that begins one pixel later would differ."""
    return np.floor(points + 0.5).astype(np.int64)


def _neighbours(rows: Ints, cols: Ints) -> tuple[Ints, Ints]:
    """The edges between neighbouring pixels, as numbers of pixels in row-major order."""
    stride = cols.max(initial=0) + 2  # a column that is free, so that no row runs into the next
    place = rows * stride + cols
    after = np.searchsorted(place, place + stride)  # the pixel below, or the next one
    below = np.append(place, NOWHERE)[after] == place + stride
    has_left = np.diff(place, prepend=NOWHERE - 1) == 1
    has_right = np.diff(place, append=NOWHERE) == 1
    lower_right = ~has_right & (np.append(place, NOWHERE)[after] == place + stride + 1)
    lower_left = ~has_left & ~below & (place[after - 1] == place + stride - 1)
    right = np.arange(1, len(place) + 1)
    is_edge = (has_right, below, lower_right, lower_left)
    return (
        np.concatenate([np.flatnonzero(there) for there in is_edge]),
        np.concatenate([right[has_right], after[below], after[lower_right], after[lower_left] - 1]),
    )


def _merge_junctions(rows: Ints, cols: Ints, is_joint: Bools, tails: Ints, heads: Ints) -> tuple[Ints, Ints]:
    """Junction number of each joint pixel (`NOWHERE` for others), and each junction's row and column."""
    members = np.flatnonzero(is_joint)
    cluster = np.full(len(rows), NOWHERE, np.int64)
    if len(members) == 0:
        return cluster, np.zeros((0, 2), np.int64)
    number = np.cumsum(is_joint) - 1
    linked = is_joint[tails] & is_joint[heads]
    graph = csr_array(
        (np.ones(int(linked.sum()), np.int8), (number[tails[linked]], number[heads[linked]])),
        shape=(len(members), len(members)),
    )
    label = connected_components(graph, directed=False)[1]
    cluster[members] = label
    size = np.bincount(label)
    y, x = rows[members], cols[members]
    offset = np.hypot(
        y - (np.bincount(label, weights=y) / size)[label], x - (np.bincount(label, weights=x) / size)[label]
    )
    nearest = np.lexsort((np.arange(len(members)), np.round(offset, 6), label))[np.cumsum(size) - size]
    return cluster, np.column_stack([y[nearest], x[nearest]])
