"""What a raster of class probabilities says about each footprint: in it, and in a ring around it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from ..raster.grid import Grid
from ..raster.probability import LEVELS, NODATA
from .scanlines import Floats, Ints, batches, scan_polygons
from .windows import Window

ReadCodes = Callable[[Window], NDArray[np.uint8]]
"""From a window within the grid to its encoded probabilities, uint8 (classes, height, width)."""

RING_M = 4.0
"""Width of the ring outside of a footprint: rubble falls 3 to 5 m far, and roofs lean by as much."""

BLOCK_PX = 1024
_CODES = LEVELS + 1
_CORNER_PARTS = 2  # segments of a quarter circle at the corners of rings
_TENTHS_BELOW = 9  # of ten pixels: the 90th percentile
_PIXELS_AT_ONCE = 4_000_000  # some 200 MB with what is made of them
_PIXELS_A_HISTOGRAM = 1_000  # what a footprint's histograms cost, in pixels


@dataclass(frozen=True)
class PooledFeatures:
    """Probabilities of each class (0 to 1) for each footprint; NaN where nothing of it was seen.

    Attributes:
        mean: float64 (n, classes), over the pixels whose centre lies in the footprint.
        p90: float64 (n, classes), the 90th percentile there: the least value that 90 % do not exceed.
        ring: float64 (n, classes), mean over the ring outside, without the insides of other footprints;
            NaN where nothing of the ring was seen.
        seen: float64 (n,), share of the footprint that the raster shows, 0 to 1.
    """

    mean: Floats
    p90: Floats
    ring: Floats
    seen: Floats


@dataclass(frozen=True)
class _Tally:
    """Sums over the pixels of some footprints; those of parts of a footprint add up.

    Attributes:
        inside: int64 (n, classes, 255), seen pixels in the footprint by their code.
        pixels: int64 (n,), pixels in the footprint, seen or not.
        ring: int64 (n, classes), sums of codes in the ring.
        ring_pixels: int64 (n,), seen pixels there.
    """

    inside: Ints
    pixels: Ints
    ring: Ints
    ring_pixels: Ints

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(
            self.inside + other.inside,
            self.pixels + other.pixels,
            self.ring + other.ring,
            self.ring_pixels + other.ring_pixels,
        )

    def of(self, which: NDArray[np.int64]) -> _Tally:
        """The tally of some of the footprints."""
        return _Tally(self.inside[which], self.pixels[which], self.ring[which], self.ring_pixels[which])


@dataclass(frozen=True)
class _Block:
    """A block of the grid, and the indices of the footprints that reach into it with their rings."""

    window: Window
    members: Ints


def pool_footprints(
    read: ReadCodes,
    classes: int,
    grid: Grid,
    footprints: NDArray[np.object_],
    *,
    ring_m: float = RING_M,
    block_px: int = BLOCK_PX,
) -> Generator[float, None, PooledFeatures]:
    """Pool the class probabilities of each footprint.

    Every footprint has its row, whatever it is: those that overlap are pooled each by itself, one without
    any pixel centre takes the pixel of its representative point, and an empty one, or one outside of the
    grid, was not seen. The result does not depend on `block_px`.

    Memory: a block of the raster, and histograms of the footprints that cross blocks which are not done.

    Args:
        read: Reads a window of the raster; a pixel with no data in any class was not seen.
        classes: How many classes `read` gives.
        grid: Of the raster.
        footprints: Geometries in grid pixels (column, row), shape (n,); none where missing.
        ring_m: Width of the ring in metres.
        block_px: Side of the blocks in which the raster is read.

    Yields:
        The share that is done, after each block.
    """
    shapes = _mend(footprints)
    share_covered = _share_covered(shapes, grid)
    shapes = _reach_a_pixel(shapes, grid)
    ring_px = ring_m / grid.gsd_m
    mean, p90, ring = (np.full((len(shapes), classes), np.nan) for _ in range(3))
    features = PooledFeatures(mean, p90, ring, np.zeros(len(shapes)))
    blocks = _plan_blocks(shapes, grid, ring_px, block_px)
    parts = np.bincount(
        np.concatenate([np.zeros(0, np.int64), *(b.members for b in blocks)]), minlength=len(shapes)
    )
    left, waiting = parts.copy(), dict[int, _Tally]()

    for done, block in enumerate(blocks, start=1):
        for members, tally in _tally_block(_View(block.window, read(block.window)), block, shapes, ring_px):
            is_whole = parts[members] == 1
            _settle(features, members[is_whole], tally.of(np.flatnonzero(is_whole)), share_covered)
            left[members] -= 1
            for i in np.flatnonzero(~is_whole):
                index, part = int(members[i]), tally.of(np.array([i]))
                total = waiting.pop(index) + part if index in waiting else part
                if left[index]:
                    waiting[index] = total
                else:
                    _settle(features, members[[i]], total, share_covered)
        yield done / len(blocks)
    return features


class _View:
    """A window of the raster.

    Attributes:
        codes: uint8 (classes, pixels).
        is_seen: bool (pixels,), whether all classes have data.
        is_building: bool (pixels,), whether a footprint covers it; filled by `_tally_block`.
    """

    def __init__(self, window: Window, codes: NDArray[np.uint8]) -> None:
        self._window = window
        self.codes = codes.reshape(len(codes), -1)
        self.is_seen = (self.codes != NODATA).all(axis=0)
        self.is_building = np.zeros(window.height * window.width, bool)

    def pixels(self, shapes: NDArray[np.object_]) -> tuple[Ints, Ints]:
        """The pixels in each of some shapes: index of the shape, and place in the arrays."""
        owner, row, col = scan_polygons(shapes, self._window).pixels()
        return owner, (row - self._window.row) * self._window.width + col - self._window.col

    def reach(self, shapes: NDArray[np.object_], ring_px: float) -> Ints:
        """About how many pixels of the window each shape and its ring span, int64 (n,)."""
        w = self._window
        left, top, right, bottom = shapely.bounds(shapes).T
        width = np.minimum(right + ring_px, w.col + w.width) - np.maximum(left - ring_px, w.col)
        height = np.minimum(bottom + ring_px, w.row + w.height) - np.maximum(top - ring_px, w.row)
        area: Floats = np.maximum(width, 0) * np.maximum(height, 0)
        return np.ceil(area).astype(np.int64)


def _tally_block(
    view: _View, block: _Block, shapes: NDArray[np.object_], ring_px: float
) -> Iterator[tuple[Ints, _Tally]]:
    """Batches of the members of a block, with their sums over its pixels."""
    costs = view.reach(shapes[block.members], ring_px) + _PIXELS_A_HISTOGRAM
    parts = [block.members[part] for part in batches(costs, _PIXELS_AT_ONCE)]
    for members in parts:
        view.is_building[view.pixels(shapes[members])[1]] = True
    for members in parts:
        yield members, _tally(view, shapes[members], ring_px)


def _tally(view: _View, shapes: NDArray[np.object_], ring_px: float) -> _Tally:
    count, classes = len(shapes), len(view.codes)
    owner, place = view.pixels(shapes)
    pixels = np.bincount(owner, minlength=count)
    seen = view.is_seen[place]
    owner, place = owner[seen], place[seen]
    inside = np.zeros((count, classes, _CODES), np.int64)
    for k in range(classes):
        cells = np.bincount(owner * _CODES + view.codes[k, place], minlength=count * _CODES)
        inside[:, k] = cells.reshape(count, _CODES)

    owner, place = view.pixels(shapely.buffer(shapes, ring_px, quad_segs=_CORNER_PARTS))
    around = view.is_seen[place] & ~view.is_building[place]
    owner, place = owner[around], place[around]
    ring = np.zeros((count, classes), np.int64)
    for k in range(classes):
        ring[:, k] = np.bincount(owner, weights=view.codes[k, place], minlength=count)  # whole numbers
    return _Tally(inside, pixels, ring, np.bincount(owner, minlength=count))


def _settle(features: PooledFeatures, which: Ints, tally: _Tally, share_covered: Floats) -> None:
    """Turn complete sums into the features of some footprints."""
    count = tally.inside[:, :1].sum(axis=2)  # equal for all classes
    known = count[:, 0] > 0
    which, count, inside = which[known], count[known], tally.inside[known]
    features.seen[which] = share_covered[which] * count[:, 0] / tally.pixels[known]
    features.mean[which] = inside @ np.arange(_CODES) / count / LEVELS
    rank = -(-_TENTHS_BELOW * count // 10)
    features.p90[which] = (np.cumsum(inside, axis=2) < rank[:, :, None]).sum(axis=2) / LEVELS
    around = tally.ring_pixels[known, None]
    features.ring[which] = np.divide(
        tally.ring[known], around * LEVELS, out=np.full(inside.shape[:2], np.nan), where=around > 0
    )


def _plan_blocks(shapes: NDArray[np.object_], grid: Grid, ring_px: float, block_px: int) -> list[_Block]:
    """The blocks that footprints reach into, row by row, each no larger than what they reach."""
    bounds = np.nan_to_num(shapely.bounds(shapes)) + np.array([-ring_px, -ring_px, ring_px, ring_px])
    size = np.array([grid.width, grid.height])
    low = np.clip(np.floor(bounds[:, :2]), 0, size).astype(np.int64)
    high = np.clip(np.ceil(bounds[:, 2:]), 0, size).astype(np.int64)
    is_reached = (low < high).all(axis=1) & ~shapely.is_empty(shapes)

    first = low // block_px
    across, down = np.where(is_reached, ((high - 1) // block_px - first + 1).T, 0)
    parts = across * down
    member = np.repeat(np.arange(len(shapes)), parts)
    part = np.arange(len(member)) - np.repeat(np.cumsum(parts) - parts, parts)
    row, col = first[member, 1] + part // across[member], first[member, 0] + part % across[member]
    order = np.lexsort((member, col, row))
    member, row, col = member[order], row[order], col[order]
    is_new = (np.diff(row) != 0) | (np.diff(col) != 0)
    begins = np.flatnonzero(np.concatenate([[len(member) > 0], is_new]))
    return [
        _cut_block(
            Window(int(row[i]) * block_px, int(col[i]) * block_px, block_px, block_px), m, low[m], high[m]
        )
        for i, m in zip(begins, np.split(member, begins[1:]), strict=False)
    ]


def _cut_block(block: Window, members: Ints, low: Ints, high: Ints) -> _Block:
    """A block, cut to what its members reach: `low` and `high` (column, row), shape (members, 2)."""
    left, top = np.maximum(low.min(axis=0), [block.col, block.row]).tolist()
    right, bottom = np.minimum(high.max(axis=0), [block.col + block.width, block.row + block.height]).tolist()
    return _Block(Window(top, left, bottom - top, right - left), members)


def _mend(footprints: NDArray[np.object_]) -> NDArray[np.object_]:
    """Valid geometries of two dimensions; an empty one where there is none or it is not finite."""
    shapes: NDArray[np.object_] = np.array(footprints, dtype=object)
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    shapes[owner[~np.isfinite(points).all(axis=1)]] = None
    shapes[shapely.is_missing(shapes)] = shapely.Polygon()
    shapes = shapely.force_2d(shapes)
    broken = ~shapely.is_valid(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken])
    return shapes


def _share_covered(shapes: NDArray[np.object_], grid: Grid) -> Floats:
    """Which share of each footprint's area lies within the grid, float64 (n,)."""
    area = shapely.area(shapes)
    share = np.ones(len(shapes))
    left, top, right, bottom = shapely.bounds(shapes).T
    crossing = np.flatnonzero(
        ~((left >= 0) & (top >= 0) & (right <= grid.width) & (bottom <= grid.height)) & (area > 0)
    )
    frame = shapely.box(0, 0, grid.width, grid.height)
    share[crossing] = shapely.area(shapely.intersection(shapes[crossing], frame)) / area[crossing]
    return share


def _reach_a_pixel(shapes: NDArray[np.object_], grid: Grid) -> NDArray[np.object_]:
    """Put the pixel of its representative point in the place of a footprint that holds no pixel centre."""
    frame = Window(0, 0, grid.height, grid.width)
    _, top, _, bottom = np.nan_to_num(shapely.bounds(shapes)).T
    rows = np.clip(bottom, 0, grid.height) - np.clip(top, 0, grid.height)
    pixels = np.zeros(len(shapes), np.int64)
    for part in batches(np.ceil(rows).astype(np.int64) + 1, _PIXELS_AT_ONCE // 8):
        runs = scan_polygons(shapes[part], frame)
        pixels[part] = np.bincount(runs.owner, weights=runs.lengths, minlength=len(shapes[part]))
    tiny = np.flatnonzero((pixels == 0) & ~shapely.is_empty(shapes))
    col, row = np.floor(shapely.get_coordinates(shapely.point_on_surface(shapes[tiny]))).T
    reached = shapes.copy()
    reached[tiny] = shapely.box(col, row, col + 1, row + 1)
    return reached
