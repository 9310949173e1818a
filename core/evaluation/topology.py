"""Topology scores of roads: clDice of masks, and APLS of road networks.

A gap of one car's length costs next to nothing in pixels, and cuts a route in two. These scores see it.
"""

from __future__ import annotations

import math

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from skimage.morphology import skeletonize

from ..vector.centrelines import find_centrelines
from ..vector.lines import cut_network
from ..vector.windows import Window
from .pixel_scores import RelaxedCounts, relaxed_f1

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Lines = NDArray[np.object_]

# The constants of APLS (Van Etten et al. 2018, section 4; the SpaceNet road challenges).
CONTROL_M = 50.0  # control points lie at most this far apart along a road
SNAP_M = 4.0  # and are looked for in the other network within this distance
SHORTEST_M = 10.0  # paths between control points that are shorter say nothing

_PAD_PX = 16  # a skeleton bends towards a border that cuts a road, unless it goes on beyond it
_CONTEXT_M = 32.0  # the same for centrelines: wider than any road
_TOLERANCE_PX = 1.0  # how far centrelines are simplified, so that their length is not that of pixel stairs
_MOST_SOURCES = 1000  # paths begin at no more control points than this, evenly chosen


def cldice_counts(prediction: Bools, truth: Bools) -> RelaxedCounts:
    """What clDice is made of, to be summed over tiles; `cldice` makes the score of it.

    Args:
        prediction: bool (h, w).
        truth: bool (h, w).

    Returns:
        Predicted skeleton inside the true mask, predicted skeleton, true skeleton inside the predicted
        mask, true skeleton; all in pixels.

    Reference: Shit et al., clDice: a Novel Topology-Preserving Loss Function for Tubular Structure
    Segmentation, CVPR 2021, equation 1.
    """
    predicted_lines, true_lines = _skeleton(prediction), _skeleton(truth)
    return (
        int((predicted_lines & truth).sum()),
        int(predicted_lines.sum()),
        int((true_lines & prediction).sum()),
        int(true_lines.sum()),
    )


def cldice(counts: RelaxedCounts) -> float:
    """Harmonic mean of the skeletons' precision and recall; NaN where there is neither."""
    return relaxed_f1(counts)


def trace_network(mask: Bools, probability: NDArray[np.float32], gsd_m: float) -> Lines:
    """The road network of a tile, traced and simplified as Segment Roads does it.

    Args:
        mask: bool (h, w), the roads.
        probability: float32 (h, w), for bridging gaps; 0 for a true mask.
        gsd_m: Side of a pixel in metres.

    Returns:
        Linestrings in metres (column, row), cut where roads meet; those that meet share that point.
    """
    if not mask.any():
        return np.zeros(0, dtype=object)
    pad = math.ceil(_CONTEXT_M / gsd_m)
    probability = np.pad(probability, pad, mode="symmetric")
    network = find_centrelines(np.pad(mask, pad, mode="symmetric"), probability, gsd_m)
    window = Window(0, 0, *mask.shape)
    lines = cut_network(network, probability, (-pad, -pad), window, cut_px=0).geometries(_TOLERANCE_PX)
    scaled: Lines = shapely.transform(lines, lambda points: points * gsd_m)
    return scaled


def apls(truth: Lines, proposal: Lines) -> float:
    """Average path length similarity of two road networks, 0 to 1.

    Control points are put on one network: the ends of its lines, and points along them at most `CONTROL_M`
    apart. Each is looked for in the other network within `SNAP_M`. The shortest path L between any two of
    them, from `SHORTEST_M` on, is compared to that between their counterparts: it costs min(1, |ΔL| / L),
    and 1 where a counterpart or the path is missing. Both networks take both parts, and the result is the
    harmonic mean of 1 − mean cost of each.

    Cost: 0.1 to 1 s for a square kilometre of dense streets; memory grows with the control points, up to
    8 kB for each.

    Args:
        truth: Linestrings in metres. Lines meet where they end in the same point, and nowhere else.
        proposal: The same of what is scored.

    Returns:
        NaN where the true network has no path of `SHORTEST_M`; 0 where only the other has none.

    Reference: Van Etten, Lindenbaum, Bacastow, SpaceNet: A Remote Sensing Dataset and Challenge Series,
    2018, section 4.
    """
    forth = _path_similarity(truth, proposal)
    back = _path_similarity(proposal, truth)
    if math.isnan(forth):
        return math.nan
    if math.isnan(back) or forth + back == 0:
        return 0.0
    return 2 * forth * back / (forth + back)


def _path_similarity(network: Lines, other: Lines) -> float:
    """1 − the mean cost of the paths of a network, when they are looked for in another; NaN without any."""
    if len(network) == 0:
        return math.nan
    line, along, points = _control_points(network)
    sources = np.arange(0, len(points), -(-len(points) // _MOST_SOURCES))
    length = _path_lengths(network, line, along, sources)
    counts = np.isfinite(length) & (length >= SHORTEST_M)
    if not counts.any():
        return math.nan
    found = np.full_like(length, np.inf)
    if len(other):
        snapped, line, along = _snap(points, other)
        is_snapped = np.isin(sources, snapped)
        at = np.searchsorted(snapped, sources[is_snapped])
        found[np.ix_(is_snapped, snapped)] = _path_lengths(other, line, along, at)
    cost = np.minimum(1.0, np.abs(found[counts] - length[counts]) / length[counts])
    return float(1.0 - cost.mean())


def _control_points(network: Lines) -> tuple[Ints, Floats, Floats]:
    """Line and distance along it of each control point, and its coordinates, shape (n, 2)."""
    length = shapely.length(network)
    pieces = np.maximum(np.ceil(length / CONTROL_M - 1e-9), 1).astype(np.int64)
    line = np.repeat(np.arange(len(network)), pieces + 1)
    piece = np.arange(len(line)) - np.repeat(np.cumsum(pieces + 1) - (pieces + 1), pieces + 1)
    along = length[line] * piece / pieces[line]
    points = shapely.get_coordinates(shapely.line_interpolate_point(network[line], along))
    first = np.sort(np.unique(points, axis=0, return_index=True)[1])  # a junction is one point
    return line[first], along[first], points[first]


def _snap(points: Floats, network: Lines) -> tuple[Ints, Ints, Floats]:
    """Numbers of the points that lie near a network, ascending, and the line and distance of each there."""
    geometries = shapely.points(points)
    pairs = shapely.STRtree(network).query_nearest(geometries, max_distance=SNAP_M, all_matches=False)
    number, line = pairs[:, np.argsort(pairs[0], kind="stable")]
    return number, line, shapely.line_locate_point(network[line], geometries[number])


def _path_lengths(network: Lines, line: Ints, along: Floats, sources: Ints) -> Floats:
    """Shortest paths in metres between places on a network, shape (sources, places); inf where none is.

    Args:
        network: Linestrings.
        line: Line of each place.
        along: Distance of each place along its line.
        sources: Numbers of the places at which paths begin.
    """
    count, places = len(network), len(line)
    ends = shapely.get_coordinates(
        np.column_stack([shapely.get_point(network, 0), shapely.get_point(network, -1)]).ravel()
    )
    joint = np.unique(ends, axis=0, return_inverse=True)[1].reshape(count, 2) + places
    # Along each line: its beginning, its places, its end; what follows one another is linked.
    of = np.concatenate([np.arange(count), line, np.arange(count)])
    at = np.concatenate([np.zeros(count), along, shapely.length(network)])
    node = np.concatenate([joint[:, 0], np.arange(places), joint[:, 1]])
    order = np.lexsort((np.repeat([0, 1, 2], [count, places, count]), at, of))
    of, at, node = of[order], at[order], node[order]
    link = np.flatnonzero(of[1:] == of[:-1])
    graph = _shortest_links(node[link], node[link + 1], np.maximum(at[link + 1] - at[link], 0.0))
    lengths: Floats = dijkstra(graph, directed=False, indices=sources)[:, :places]
    return lengths


def _shortest_links(tails: Ints, heads: Ints, lengths: Floats) -> csr_array:
    """A graph of links; of several between the same two nodes the shortest."""
    low, high = np.minimum(tails, heads), np.maximum(tails, heads)
    order = np.lexsort((lengths, high, low))
    low, high, lengths = low[order], high[order], lengths[order]
    is_first = np.append(True, (np.diff(low) != 0) | (np.diff(high) != 0))
    size = int(high.max()) + 1
    return csr_array((lengths[is_first], (low[is_first], high[is_first])), shape=(size, size))


def _skeleton(mask: Bools) -> Bools:
    if not mask.any():
        return mask
    padded = skeletonize(np.pad(mask, _PAD_PX, mode="symmetric"))  # type: ignore[no-untyped-call]
    lines: Bools = padded[_PAD_PX:-_PAD_PX, _PAD_PX:-_PAD_PX]
    return lines
