"""Buildings of one window as polygons along pixel edges, and their joining across the seams of windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from .building_split import Labels
from .components import Bools, Components, Ints
from .polygons import polygonize_mask, unite_polygons
from .windows import Window

_NOTHING = -1


@dataclass(frozen=True)
class Pieces:
    """Buildings, or the parts of them that lie in one window.

    Attributes:
        polygons: Along pixel edges, in grid pixels, shape (n,).
        sizes_px: Number of pixels of each.
        totals: Sum of the encoded probabilities of its pixels.
    """

    polygons: NDArray[np.object_]
    sizes_px: Ints
    totals: Ints

    def __len__(self) -> int:
        return len(self.polygons)

    def chosen(self, which: Bools) -> Pieces:
        """Some of them."""
        return Pieces(self.polygons[which], self.sizes_px[which], self.totals[which])

    def followed_by(self, others: Pieces) -> Pieces:
        """These, then the others."""
        return Pieces(
            np.concatenate([self.polygons, others.polygons]),
            np.concatenate([self.sizes_px, others.sizes_px]),
            np.concatenate([self.totals, others.totals]),
        )


def no_pieces() -> Pieces:
    """None at all."""
    return Pieces(np.zeros(0, object), np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class WindowPieces:
    """What `outline_labels` finds.

    Attributes:
        pieces: Of the window.
        top: Which of them each pixel of the window's first row belongs to, -1 for none.
        bottom: Likewise of its last row.
        left: Likewise of its first column.
        right: Likewise of its last column.
    """

    pieces: Pieces
    top: Ints
    bottom: Ints
    left: Ints
    right: Ints


def outline_labels(labels: Labels, values: NDArray[np.uint8], corner: tuple[int, int]) -> WindowPieces:
    """Outline the 4-connected parts of each label along their pixel edges.

    Args:
        labels: int32 (height, width), 0 is nothing.
        values: uint8 (height, width), encoded probabilities.
        corner: Row and column in the grid of the arrays' first pixel.
    """
    height, width = labels.shape
    found = no_pieces()
    top, bottom = np.full((2, width), _NOTHING)
    left, right = np.full((2, height), _NOTHING)
    colours = _colour(labels)
    painted = colours[labels]
    for colour in range(1, int(colours.max(initial=0)) + 1):
        outlines = polygonize_mask(painted == colour)
        components, offset = outlines.components, len(found)
        if components.count == 0:
            continue
        in_left, in_right = components.in_border_columns()
        for side, numbers in (
            (top, components.in_row(0)),
            (bottom, components.in_row(height - 1)),
            (left, in_left),
            (right, in_right),
        ):
            side[numbers != _NOTHING] = numbers[numbers != _NOTHING] + offset
        shift = np.array([corner[1], corner[0]], float)
        polygons = shapely.transform(outlines.polygons, lambda points, by=shift: points + by)
        found = found.followed_by(Pieces(polygons, components.sizes_px(), _totals(components, values)))
    return WindowPieces(found, top, bottom, left, right)


def _colour(labels: Labels) -> NDArray[np.uint8]:
    """A colour from 1 for each label, such that labels that touch have different ones.

    Returns:
        uint8 (labels + 1,), 0 for label 0.
    """
    pairs = []
    for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        touches = (one != other) & (one > 0) & (other > 0)
        pairs.append(np.column_stack([one[touches], other[touches]]))
    pair = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    colours = np.ones(int(labels.max(initial=0)) + 1, np.uint8)
    colours[0] = 0
    lower_neighbours: dict[int, list[int]] = {}
    for low, high in pair.tolist():
        lower_neighbours.setdefault(high, []).append(low)
    for label in sorted(lower_neighbours):
        taken = {int(colours[neighbour]) for neighbour in lower_neighbours[label]}
        colours[label] = next(colour for colour in range(1, len(taken) + 2) if colour not in taken)
    return colours


def _totals(components: Components, values: NDArray[np.uint8]) -> Ints:
    value = values.ravel()[components.pixels()]
    begins = np.cumsum(components.lengths_px) - components.lengths_px
    runs = np.add.reduceat(value, begins, dtype=np.int64)
    return np.bincount(components.label, weights=runs, minlength=components.count).astype(np.int64)


class SeamJoiner:
    """Joins the pieces of buildings that windows cut; it takes windows row by row, from left to right.

    Whether pixels on both sides of a seam are one building is what both windows say of them, each with
    its view across the seam; where they differ, the seam parts them. A building is complete once the
    row of windows below has been seen. Memory: what touches the seams of one row of windows.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self._open = no_pieces()
        self._numbers = np.zeros(0, np.int64)  # of the open pieces, ascending
        self._waits = np.zeros(0, bool)  # those that touch the row of windows to come
        self._links: list[Ints] = []
        self._borders: dict[tuple[str, int, int], Ints] = {}
        self._next = 0

    def add(self, window: Window, found: WindowPieces, agrees: dict[str, Bools]) -> Pieces:
        """Take the pieces of a window.

        Args:
            window: Where.
            found: What is there.
            agrees: ``top``, ``bottom``, ``left``, ``right``: which pixels of that border the window
                takes for one building with their neighbours beyond; a side that is missing is the raster's.

        Returns:
            The pieces that touch no seam: they are complete.
        """
        numbers = np.full(len(found.pieces) + 1, _NOTHING)  # the last one answers for -1, which is no piece
        sides = {
            name: np.where(agrees[name], getattr(found, name), _NOTHING)
            for name in ("top", "bottom", "left", "right")
            if name in agrees
        }
        touching = np.unique(np.concatenate([np.zeros(0, np.int64), *sides.values()]))
        touching = touching[touching != _NOTHING]
        numbers[touching] = np.arange(self._next, self._next + len(touching))
        self._next += len(touching)
        is_open = numbers[:-1] != _NOTHING
        waits = np.zeros(len(is_open), bool)
        if "bottom" in sides:
            waits[sides["bottom"][sides["bottom"] != _NOTHING]] = True
        self._open = self._open.followed_by(found.pieces.chosen(is_open))
        self._numbers = np.concatenate([self._numbers, numbers[:-1][is_open]])
        self._waits = np.concatenate([self._waits, waits[is_open]])

        below, beyond = (window.row + window.height, window.col), (window.row, window.col + window.width)
        here = (window.row, window.col)
        for name, place in (("top", here), ("left", here)):
            if name in sides:
                self._link(self._borders.pop((name, *place)), sides[name], numbers)
        for name, opposite, place in (("bottom", "top", below), ("right", "left", beyond)):
            if name in sides:
                self._borders[(opposite, *place)] = numbers[sides[name]]
        return found.pieces.chosen(~is_open)

    def _link(self, other: Ints, side: Ints, numbers: Ints) -> None:
        meets = (other != _NOTHING) & (side != _NOTHING)
        self._links.append(np.column_stack([numbers[side[meets]], other[meets]]))

    def end_row(self) -> Pieces:
        """End a row of windows: the buildings that are complete now, in the order of their first piece."""
        count = len(self._open)
        if count == 0:
            return no_pieces()
        links = np.searchsorted(self._numbers, np.concatenate([np.zeros((0, 2), np.int64), *self._links]))
        graph = csr_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(count, count))
        groups, group = connected_components(graph, directed=False)
        is_waiting = np.zeros(groups, bool)
        is_waiting[group[self._waits]] = True
        stays = is_waiting[group]
        done, group = self._open.chosen(~stays), group[~stays]
        first, group = np.unique(group, return_index=True, return_inverse=True)[1:]
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        group = rank[group]
        united = Pieces(
            unite_polygons(done.polygons, group, len(first)),
            np.bincount(group, weights=done.sizes_px, minlength=len(first)).astype(np.int64),
            np.bincount(group, weights=done.totals, minlength=len(first)).astype(np.int64),
        )
        self._links = [self._numbers[links[stays[links[:, 0]]]]]
        self._open, self._numbers = self._open.chosen(stays), self._numbers[stays]
        # The row to come settles what has waited for this one.
        self._waits = np.zeros(len(self._numbers), bool)
        return united
