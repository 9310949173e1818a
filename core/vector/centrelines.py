"""Road centrelines: from a mask and its probabilities to a connected network one pixel wide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from .components import fill_islands
from .skeletons import (
    NOWHERE,
    Bools,
    Floats,
    Ints,
    Paths,
    draw_lines,
    merge_crossings,
    pixels_along,
    trace_paths,
)

# After the winners of SpaceNet's road challenges (mask to graph), in metres instead of their pixels.
SPUR_M = 10.0  # side lines shorter than this are artefacts of the mask's edge
ISLAND_M2 = 40.0  # holes up to this size (cars, shadows, traffic islands) do not split a road
SHORT_GAP_M = 8.0  # ends that face each other over less than this are joined, whatever lies between
LONG_GAP_M = 80.0  # ends in line with each other are joined over less than this, if probable
SIDE_GAP_M = 20.0  # an end that points at another road is joined to it over less than this, if probable
SUPPORT = 0.12  # mean probability that makes a gap probable
DIRECTION_M = 12.0  # how far back the direction of an end is measured
LONE_LINE_M = 20.0  # what hangs on nothing and is shorter than this is no road
CROSSING_M = 15.0  # but never, where they are farther apart than this
# What a decision depends on lies within this distance, so that both sides of a line decide alike.
CONTEXT_M = LONG_GAP_M + 2 * DIRECTION_M

_COS_FACING = np.cos(np.deg2rad(60))
_COS_IN_LINE = np.cos(np.deg2rad(20))
_CROSSING = 1.25  # two junctions within so many widths of the road are one crossing
_HAIR = 0.75  # a side line of up to this many widths of the road ends at that road's own edge
_WIDTH_STEP = 3  # the width is measured at every third pixel


@dataclass(frozen=True)
class Network:
    """The centrelines of an array, and what was measured at each of their pixels.

    Attributes:
        paths: Lines between junctions.
        half_width_px: Distance to the road's edge, NaN where a gap was bridged.
        is_bridged: Whether the pixel lies in a gap of the mask.
    """

    paths: Paths
    half_width_px: Floats
    is_bridged: Bools


def find_centrelines(mask: Bools, probability: NDArray[np.float32], gsd_m: float) -> Network:
    """Find the centrelines of a road mask: skeleton, less its spurs, with its gaps bridged.

    Lines bend towards the array's corners where roads leave it: give more than what is wanted (by
    `CONTEXT_M`), mirrored at the raster's border, and cut.

    Args:
        mask: bool (height, width), the roads.
        probability: float32 (height, width), 0 to 1, for bridging gaps; 0 where unknown.
        gsd_m: Side of a pixel in metres.
    """
    mask = fill_islands(mask, ISLAND_M2 / gsd_m**2)
    edge = _measure_edges(mask)
    if edge is None:
        return Network(trace_paths(np.zeros_like(mask)), np.zeros(0), np.zeros(0, bool))
    paths = trace_paths(skeletonize(mask))  # type: ignore[no-untyped-call]  # scikit-image has no types
    # Hair goes first: what it splits off a road's true end would else be taken for a spur.
    paths = _prune(paths, edge, widths=_HAIR)
    paths = _prune(paths, edge, widths=1.0, shortest_px=SPUR_M / gsd_m)
    image = _extend_ends(paths, mask, edge, gsd_m)
    _bridge_gaps(image, mask, probability, gsd_m)
    paths = trace_paths(image)
    paths = _drop_loners(paths, mask.shape, LONE_LINE_M / gsd_m, edge)
    paths = _merge_crossings(paths, edge, gsd_m)

    is_bridged = ~mask[paths.rows, paths.cols]
    half_width = np.repeat(
        _half_widths(paths.rows[::_WIDTH_STEP], paths.cols[::_WIDTH_STEP], edge), _WIDTH_STEP
    )
    return Network(paths, np.where(is_bridged, np.nan, half_width[: len(paths.rows)]), is_bridged)


def _measure_edges(mask: Bools) -> KDTree | None:
    """The background pixels along roads, for distances; none where there is no road or nothing else."""
    edge = np.zeros_like(mask)
    edge[1:] |= mask[:-1]
    edge[:-1] |= mask[1:]
    edge[:, 1:] |= mask[:, :-1]
    edge[:, :-1] |= mask[:, 1:]
    edge &= ~mask
    points = np.column_stack(np.divmod(np.flatnonzero(edge), mask.shape[1]))
    return KDTree(points, compact_nodes=False, balanced_tree=False) if len(points) else None


def _half_widths(rows: Ints, cols: Ints, edge: KDTree) -> Floats:
    """Distance from pixels of the skeleton to the nearest background pixel.

    Twice that is the width of a road, over all directions within 0.3 px: a background pixel begins half a
    pixel before its centre, but a skeleton runs beside the middle by as much.
    """
    distance: Floats = edge.query(np.column_stack([rows, cols]))[0]
    return distance


def _prune(paths: Paths, edge: KDTree, *, widths: float, shortest_px: float = 0.0) -> Paths:
    """Take away side lines shorter than so many widths of the road, or than a length."""
    if len(paths.junctions) == 0:
        return paths
    half_width = _half_widths(paths.junctions[:, 0], paths.junctions[:, 1], edge)
    limit = np.maximum(2 * widths * half_width, shortest_px)
    node = paths.ends.max(axis=1)
    length = paths.lengths_px()
    is_spur = (paths.ends.min(axis=1) == NOWHERE) & (node != NOWHERE)
    is_spur &= length < limit[node]
    if not is_spur.any():
        return paths
    # Where nothing but spurs meets, the two longest are the road.
    ends = paths.ends[paths.ends != NOWHERE]
    degree = np.bincount(ends, minlength=len(limit))
    spurs = np.bincount(node[is_spur], minlength=len(limit))
    order = np.lexsort((-length, node))
    rank = np.empty(len(paths), np.int64)
    rank[order] = np.arange(len(paths)) - np.searchsorted(node[order], node[order])
    is_spur &= ~((spurs == degree)[node] & (rank < 2))
    return paths.retraced(~is_spur)


def _extend_ends(paths: Paths, mask: Bools, edge: KDTree, gsd_m: float) -> Bools:
    """Draw the paths, with their free ends lengthened to the road's end (a skeleton stops short of it)."""
    image = paths.drawn(np.ones(len(paths), bool), mask.shape)
    points, direction = _free_ends(paths, gsd_m)
    if len(points):
        reach = _half_widths(points[:, 0], points[:, 1], edge) - 0.5
        draw_lines(image, points, points + np.rint(direction * reach[:, None]).astype(np.int64))
        image &= mask
    return image


def _free_ends(paths: Paths, gsd_m: float) -> tuple[Ints, Floats]:
    """Row and column of each free end, and the unit vector in which its line points there."""
    path, at = paths.free_ends()
    first, last = paths.starts[path], paths.starts[path + 1] - 1
    back = round(DIRECTION_M / gsd_m)
    inner = np.where(at == first, np.minimum(at + back, last), np.maximum(at - back, first))
    points = np.column_stack([paths.rows, paths.cols])
    direction = (points[at] - points[inner]).astype(float)
    length = np.hypot(direction[:, 0], direction[:, 1])
    return points[at], direction / np.maximum(length, 1.0)[:, None]


def _bridge_gaps(image: Bools, mask: Bools, probability: NDArray[np.float32], gsd_m: float) -> None:
    """Draw bridges into a skeleton image: from end to end, then from the ends left over to roads ahead."""
    points, direction = _free_ends(trace_paths(image), gsd_m)
    if len(points) == 0:
        return
    one, other = _facing_ends(points, direction, mask, probability, gsd_m)
    draw_lines(image, points[one], points[other])
    left = np.ones(len(points), bool)
    left[one] = left[other] = False
    begin, end = _roads_ahead(points[left], direction[left], image, mask, probability, gsd_m)
    draw_lines(image, begin, end)


def _facing_ends(
    points: Ints, direction: Floats, mask: Bools, probability: NDArray[np.float32], gsd_m: float
) -> tuple[Ints, Ints]:
    """Pairs of ends to join; each end is in one pair at most, the shortest and straightest first."""
    pairs = KDTree(points).query_pairs(LONG_GAP_M / gsd_m, output_type="ndarray")
    one, other = pairs[:, 0], pairs[:, 1]
    gap = (points[other] - points[one]).astype(float)
    length = np.maximum(np.hypot(gap[:, 0], gap[:, 1]), 1e-9)
    bearing = gap / length[:, None]
    leave = (direction[one] * bearing).sum(axis=1)
    arrive = -(direction[other] * bearing).sum(axis=1)
    straightness = np.minimum(leave, arrive)

    is_bridge = (length * gsd_m < SHORT_GAP_M) & (straightness > _COS_FACING)
    in_line = np.flatnonzero(~is_bridge & (straightness > _COS_IN_LINE))
    is_bridge[in_line] = (
        _mean_between(points[one[in_line]], points[other[in_line]], mask, probability) > SUPPORT
    )

    cost = length * (2.0 - straightness)
    chosen: list[np.int64] = []
    taken: set[int] = set()
    for pair in np.flatnonzero(is_bridge)[np.argsort(cost[is_bridge], kind="stable")]:
        both = {int(one[pair]), int(other[pair])}
        if not both & taken:
            taken |= both
            chosen.append(pair)
    return one[chosen], other[chosen]


def _mean_between(begin: Ints, end: Ints, mask: Bools, probability: NDArray[np.float32]) -> Floats:
    """Mean probability along each line where it is off the road; 1 where it never is."""
    rows, cols, line = pixels_along(begin, end)
    off_road = ~mask[rows, cols]
    rows, cols, line = rows[off_road], cols[off_road], line[off_road]
    total = np.bincount(line, weights=probability[rows, cols], minlength=len(begin))
    count = np.bincount(line, minlength=len(begin))
    return np.divide(total, count, out=np.ones(len(begin)), where=count > 0)


def _roads_ahead(
    points: Ints, direction: Floats, image: Bools, mask: Bools, probability: NDArray[np.float32], gsd_m: float
) -> tuple[Ints, Ints]:
    """Lines from ends to the roads at which they point, where the gap before these is probable."""
    reach = round(2 * SIDE_GAP_M / gsd_m)
    ahead = np.arange(2, reach + 1)
    rays = points[:, None, :] + np.rint(direction[:, None, :] * ahead[None, :, None]).astype(np.int64)
    inside = ((rays >= 0) & (rays < np.array(image.shape) - 1)).all(axis=2)
    rows, cols = np.where(inside, rays[..., 0], 0), np.where(inside, rays[..., 1], 0)
    # Two lines can cross between pixels: the right and lower neighbour count as met, too.
    meets = inside & (image[rows, cols] | image[rows + 1, cols] | image[rows, cols + 1])
    hit = np.argmax(meets, axis=1)
    before = inside & (np.arange(len(ahead)) < hit[:, None]) & ~mask[rows, cols]
    size = before.sum(axis=1)
    mean = (probability[rows, cols] * before).sum(axis=1) / np.maximum(size, 1)
    joins = meets.any(axis=1) & (size * gsd_m < SIDE_GAP_M) & ((mean > SUPPORT) | (size == 0))
    joins &= np.abs(direction).sum(axis=1) > 0
    row, col = rows[joins, hit[joins]], cols[joins, hit[joins]]
    down = ~image[row, col] & image[row + 1, col]
    right = ~image[row, col] & ~down
    return points[joins], np.column_stack([row + down, col + right])


def _drop_loners(paths: Paths, shape: tuple[int, int], shortest_px: float, edge: KDTree) -> Paths:
    """Take away parts that hang on nothing and are short, or shorter than twice their width (squares)."""
    component = paths.components()
    length = np.bincount(component, weights=paths.lengths_px())
    at_border = (paths.rows == 0) | (paths.cols == 0)
    at_border |= (paths.rows == shape[0] - 1) | (paths.cols == shape[1] - 1)
    leaves = np.zeros(len(length), bool)
    leaves[component[paths.path_of[at_border]]] = True
    is_road = leaves | (length >= shortest_px)
    in_doubt = is_road & ~leaves
    pixels = np.flatnonzero(in_doubt[component][paths.path_of])
    widest = np.zeros(len(length))
    half_width = _half_widths(paths.rows[pixels], paths.cols[pixels], edge)
    np.maximum.at(widest, component[paths.path_of[pixels]], half_width)
    is_road &= ~in_doubt | (length >= 4 * widest)
    return paths if is_road.all() else paths.retraced(is_road[component])


def _merge_crossings(paths: Paths, edge: KDTree, gsd_m: float) -> Paths:
    if len(paths.junctions) == 0:
        return paths
    half_width = _half_widths(paths.junctions[:, 0], paths.junctions[:, 1], edge)
    widest = np.where(paths.ends == NOWHERE, 0.0, half_width[paths.ends]).max(axis=1)
    return merge_crossings(paths, np.minimum(2 * _CROSSING * widest, CROSSING_M / gsd_m))
