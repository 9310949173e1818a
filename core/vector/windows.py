"""Which windows of a raster are vectorised together, and where networks are cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

WINDOW_PX = 2560  # about half a second's work, and some 150 MB


@dataclass(frozen=True)
class Window:
    """A rectangle of the grid, in pixels."""

    row: int
    col: int
    height: int
    width: int

    def cells(self, cut_px: int) -> Iterator[Window]:
        """The parts of the window between the lines, row by row; the window itself where there are none."""
        rows, cols = self.row_lines(cut_px), self.col_lines(cut_px)
        for top, bottom in pairwise(rows):
            for left, right in pairwise(cols):
                yield Window(top, left, bottom - top, right - left)

    def row_lines(self, cut_px: int) -> list[int]:
        """Rows at which the window is cut, its own borders included."""
        return _lines(self.row, self.row + self.height, cut_px)

    def col_lines(self, cut_px: int) -> list[int]:
        """Columns at which the window is cut, its own borders included."""
        return _lines(self.col, self.col + self.width, cut_px)


@dataclass(frozen=True)
class BlockProgress:
    """How far the vectorising is: `done` of `total` windows; each may be reported more than once."""

    done: int
    total: int


def plan_windows(height: int, width: int, block_px: int) -> list[tuple[Window, ...]]:
    """Split a raster into batches of windows; features that cross windows of one batch are joined.

    A batch is one window of whole blocks where blocks are small, and one block of several windows where
    they are large. Blocks are counted from the grid's origin.

    Args:
        height: Rows of the raster.
        width: Columns of the raster.
        block_px: Side of a block; 0: the raster is one block.
    """
    side = block_px or max(height, width)
    batch_px = max(side, WINDOW_PX // side * side)
    parts = -(-side // WINDOW_PX)
    window_px = -(-side // parts) if parts > 1 else batch_px
    return [
        tuple(
            Window(
                row,
                col,
                min(window_px, batch.row + batch.height - row),
                min(window_px, batch.col + batch.width - col),
            )
            for row in range(batch.row, batch.row + batch.height, window_px)
            for col in range(batch.col, batch.col + batch.width, window_px)
        )
        for batch in Window(0, 0, height, width).cells(batch_px)
    ]


def plan_strips(height: int, width: int, rows: int) -> tuple[Window, ...]:
    """Split a raster into windows of at most `rows` rows and `WINDOW_PX` columns, row by row."""
    return tuple(
        Window(row, col, min(rows, height - row), min(WINDOW_PX, width - col))
        for row in range(0, height, rows)
        for col in range(0, width, WINDOW_PX)
    )


def _lines(begin: int, end: int, cut_px: int) -> list[int]:
    if cut_px == 0:
        return [begin, end]
    return [begin, *range((begin // cut_px + 1) * cut_px, end, cut_px), end]
