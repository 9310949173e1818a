"""How far one image lies from another, or footprints from an image, looked up in many small windows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy import ndimage, signal

from .grid import Grid
from .shift import Shift, WindowShift, find_consensus

IMAGE_SEARCH_M = 20.0
"""How far from its place an image is looked for."""

FOOTPRINT_SEARCH_M = 10.0
"""How far from their place footprints are looked for: less than from a house to the next."""

_WINDOW_PX, _MIN_WINDOW_PX = 256, 64
_PER_SIDE = 7  # windows along each side
_MIN_VALID = 0.5  # share of a window that has to be seen
_SIGMA_PX = 1.0  # of the gradients
_UNSURE_PX = 4  # what lies so close to invalid pixels has wrong gradients; and a peak is so wide
_TAPER = 0.125  # share of a window over which it fades, at each border
_PEAK_RATIO = 1.3  # of the highest peak to the second; 95 % of windows of unrelated images stay below
_MIN_CORRELATION = 0.3  # of footprints with probabilities
_MIN_FOOTPRINTS = 3  # in a window

ReadWindow = Callable[[int, int, int, int], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""(row, col, height, width) to values (bands, height, width) and valid (height, width)."""


class Window(NamedTuple):
    """A square of a grid, in pixels."""

    row: int
    col: int
    side: int


def spread_windows(bounds_px: tuple[int, int, int, int]) -> list[Window]:
    """Up to 49 windows that are spread over a part of a grid, and overlap by about half at most.

    Args:
        bounds_px: (top, left, bottom, right).
    """
    top, left, bottom, right = bounds_px
    side = _window_side(bottom - top, right - left)
    return [
        Window(row, col, side) for row in _spread(top, bottom, side) for col in _spread(left, right, side)
    ]


def estimate_image_shift(
    moved: ReadWindow,
    fixed: ReadWindow,
    grid: Grid,
    bounds_px: tuple[int, int, int, int],
    search_m: float = IMAGE_SEARCH_M,
) -> Shift:
    """Estimate how far an image lies from another one of the same place, of another day.

    Each window is correlated by the orientation of its gradients alone (A. J. Fitch et al., "Orientation
    Correlation", BMVC 2002), so that other light, colours, sensors and smoke matter little. Where
    buildings are gone the peak comes from streets and what still stands, or does not stand out.

    Memory: two windows of 256 px.

    Args:
        moved: Reads the image whose shift is wanted, on the grid.
        fixed: Reads the other one, on the grid.
        grid: Of both.
        bounds_px: (top, left, bottom, right) of where to look.
        search_m: Longest shift along each axis that is looked for.
    """
    found = []
    for window in spread_windows(bounds_px):
        area = (window.row, window.col, window.side, window.side)
        here, here_valid = fixed(*area)
        if here_valid.mean() < _MIN_VALID:
            continue
        there, there_valid = moved(*area)
        if there_valid.mean() < _MIN_VALID:
            continue
        reach = min(math.ceil(search_m / grid.gsd_m), window.side // 4)
        surface = _correlate_orientations(
            _orientations(here.mean(axis=0), here_valid),
            _orientations(there.mean(axis=0), there_valid),
            reach,
        )
        rows, cols = _peak(surface)
        found.append(_vote(window, rows, cols, is_sure=_stands_out(surface)))
    return find_consensus(found, grid)


def estimate_footprint_shift(
    footprints: NDArray[np.object_],
    probability: ReadWindow,
    grid: Grid,
    search_m: float = FOOTPRINT_SEARCH_M,
) -> Shift:
    """Estimate how far footprints lie from the buildings that an image shows.

    In windows with many of them, the footprints are correlated with the probability of buildings.

    Memory: a window of 256 px and the search around it.

    Args:
        footprints: Polygons in pixels of the grid (column, row), shape (n,), as `region.onto_grid` gives.
        probability: Reads the probability that a pixel is building, (1, height, width).
        grid: Of both.
        search_m: Longest shift along each axis that is looked for.
    """
    footprints = footprints[~(shapely.is_missing(footprints) | shapely.is_empty(footprints))]
    tree = shapely.STRtree(footprints)
    reach = math.ceil(search_m / grid.gsd_m)
    found = []
    for window in _dense_windows(footprints, grid):
        side = window.side + 2 * reach
        values, valid = probability(window.row - reach, window.col - reach, side, side)
        if valid[reach:-reach, reach:-reach].mean() < _MIN_VALID:
            continue
        frame = shapely.box(window.col, window.row, window.col + window.side, window.row + window.side)
        mask = _rasterize(footprints[np.sort(tree.query(frame, predicate="intersects"))], window)
        surface = _correlate_mask(mask, np.where(valid, values[0], 0.0))
        rows, cols = _peak(surface)
        is_sure = float(surface.max()) >= _MIN_CORRELATION and max(abs(rows), abs(cols)) < reach
        found.append(_vote(window, -rows, -cols, is_sure=is_sure))  # the buildings lie the other way
    return find_consensus(found, grid)


def _vote(window: Window, rows: float, cols: float, *, is_sure: bool) -> WindowShift:
    half = window.side / 2.0
    return WindowShift(window.row + half, window.col + half, rows, cols, is_sure)


def _window_side(height: int, width: int) -> int:
    return max(_MIN_WINDOW_PX, min(_WINDOW_PX, min(height, width) // 2))


def _spread(start: int, stop: int, side: int) -> list[int]:
    """First pixels of windows along an axis."""
    room = stop - start - side
    if room < 0:
        return []
    count = min(_PER_SIDE, 1 + math.ceil(2 * room / side))
    return (
        [int(first) for first in np.linspace(start, stop - side, count)] if count > 1 else [start + room // 2]
    )


def _dense_windows(footprints: NDArray[np.object_], grid: Grid) -> list[Window]:
    """For each part of the footprints' area the window with the most footprints."""
    if not len(footprints):
        return []
    centres = shapely.get_coordinates(shapely.centroid(footprints))
    inside = ((centres >= 0.0) & (centres < (grid.width, grid.height))).all(axis=1)
    if inside.sum() < _MIN_FOOTPRINTS:
        return []
    centres = centres[inside]
    low, span = centres.min(axis=0), np.maximum(np.ptp(centres, axis=0), 1.0)
    side = _window_side(int(span[1]), int(span[0]))
    cells, counts = np.unique((centres // side).astype(int), axis=0, return_counts=True)
    parts = np.minimum(((cells + 0.5) * side - low) / span * _PER_SIDE, _PER_SIDE - 1).astype(int)
    chosen: dict[tuple[int, ...], Window] = {}
    for i in np.argsort(-counts, kind="stable"):
        if counts[i] >= _MIN_FOOTPRINTS:
            chosen.setdefault(tuple(parts[i]), Window(int(cells[i, 1]) * side, int(cells[i, 0]) * side, side))
    return sorted(chosen.values())


def _rasterize(footprints: NDArray[np.object_], window: Window) -> NDArray[np.float64]:
    """1 within footprints, else 0."""
    shapes = shapely.get_parts(shapely.get_parts(footprints))  # a collection may hold multi-polygons
    shapes = shapes[shapely.get_dimensions(shapes) == 2]
    mask = np.zeros((window.side, window.side), dtype=np.uint8)
    if len(shapes):
        rasterize(shapes, out=mask, transform=Affine.translation(window.col, window.row))
    return mask.astype(np.float64)


def _orientations(grey: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.complex128]:
    """Direction of the gradient at each pixel as a complex number of length 1, faded to 0 at the borders."""
    filled = grey if valid.all() else np.where(valid, grey, grey[valid].mean())
    across = ndimage.gaussian_filter(filled, _SIGMA_PX, order=(0, 1), output=np.float64)
    down = ndimage.gaussian_filter(filled, _SIGMA_PX, order=(1, 0), output=np.float64)
    length = np.hypot(across, down)
    known = ndimage.minimum_filter(valid, size=2 * _UNSURE_PX + 1) & (length > 0)
    directions = np.divide(across + 1j * down, length, out=np.zeros(grey.shape, np.complex128), where=known)
    directions[known] -= directions[known].mean() if known.any() else 0.0
    taper = signal.windows.tukey(len(grey), 2 * _TAPER)
    return np.asarray(directions * taper[:, None] * taper)


def _correlate_orientations(
    here: NDArray[np.complex128], there: NDArray[np.complex128], reach: int
) -> NDArray[np.float64]:
    """Circular cross-correlation of squares, (2 reach + 1) squared, no shift in the middle."""
    product = np.fft.fft2(there) * np.conj(np.fft.fft2(here))
    surface = np.roll(np.fft.ifft2(product).real, (reach, reach), axis=(0, 1))
    return np.asarray(surface[: 2 * reach + 1, : 2 * reach + 1])


def _correlate_mask(mask: NDArray[np.float64], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Correlation coefficient (−1 to 1) of a mask with each part of its size of a larger square."""
    ones, values = np.ones_like(mask), values.astype(np.float64)
    count = mask.size
    mean = signal.correlate(values, ones, mode="valid", method="fft") / count
    square = signal.correlate(values**2, ones, mode="valid", method="fft") / count
    product = signal.correlate(values, mask, mode="valid", method="fft") / count
    scale = np.sqrt(np.maximum(square - mean**2, 0.0)) * mask.std()
    flat = scale < 1e-6
    return np.where(flat, 0.0, (product - mean * mask.mean()) / np.where(flat, 1.0, scale))


def _peak(surface: NDArray[np.float64]) -> tuple[float, float]:
    """(rows, columns) of the highest peak from the middle, by parabolas through its neighbours."""
    row, col = _highest(surface)
    reach = surface.shape[0] // 2
    return row - reach + _vertex(surface[:, col], row), col - reach + _vertex(surface[row], col)


def _highest(surface: NDArray[np.float64]) -> tuple[int, int]:
    row, col = np.unravel_index(int(surface.argmax()), surface.shape)
    return int(row), int(col)


def _vertex(line: NDArray[np.float64], at: int) -> float:
    """Where between −½ and ½ from its highest value a line is highest."""
    if not 0 < at < len(line) - 1:
        return 0.0
    bend = line[at - 1] - 2.0 * line[at] + line[at + 1]
    return float(np.clip(0.5 * (line[at - 1] - line[at + 1]) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _stands_out(surface: NDArray[np.float64]) -> bool:
    """Whether the highest peak is well above the second, and not at the border of the search."""
    row, col = _highest(surface)
    last = surface.shape[0] - 1
    if not (0 < row < last and 0 < col < last):
        return False
    others = surface.copy()
    others[
        max(0, row - _UNSURE_PX) : row + _UNSURE_PX + 1, max(0, col - _UNSURE_PX) : col + _UNSURE_PX + 1
    ] = 0.0
    return bool(surface[row, col] > _PEAK_RATIO * max(float(others.max()), 0.0))
