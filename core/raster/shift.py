"""How far something lies from where it belongs: windows vote, and what most of them say is the shift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from .georeference import UNREFERENCED
from .grid import Grid

NOTICED_M = 0.3
"""Nobody sees a shorter shift."""

MIN_AGREEING = 4
"""Three sure windows of unrelated images may agree by chance."""

_AGREE_M = 3.0  # windows that differ less from the consensus agree with it: roofs lean, slopes slide
_AGREE_PX = 1.5
_MIN_SHARE = 0.4  # of the sure windows; on slopes an oblique view shifts each window differently
_MAX_RIVALS = 0.75  # another group as large is ambiguous: the crowns of a forest lean, its houses do not
_MOST = 0.7  # a share of windows below which the rest is worth a word
_STEP_PX = 16.0  # over which pixels are measured
_DIGITS = 7  # of a coordinate: a centimetre, in degrees


@dataclass(frozen=True)
class WindowShift:
    """What one window says.

    Attributes:
        row: Of its centre, in pixels of the grid.
        col: Likewise.
        rows_px: The shift there, positive down.
        cols_px: The shift there, positive to the right.
        is_sure: Whether its match stands out.
    """

    row: float
    col: float
    rows_px: float
    cols_px: float
    is_sure: bool


@dataclass(frozen=True)
class Shift:
    """How far something lies from where it belongs; a correction moves it the other way.

    Attributes:
        rows_px: Rows of the grid, positive down.
        cols_px: Columns of the grid, positive to the right.
        east_m: The same in metres on the ground.
        north_m: Likewise.
        is_consistent: Whether enough windows agree and no other group is as large; if not, nothing should
            be moved by it.
        agreeing: How many of the sure windows agree.
        sure: How many windows have a match that stands out.
        spread_m: Root mean square of how far the windows that agree lie from the shift.
        windows: All windows that were looked at.
    """

    rows_px: float = 0.0
    cols_px: float = 0.0
    east_m: float = 0.0
    north_m: float = 0.0
    is_consistent: bool = False
    agreeing: int = 0
    sure: int = 0
    spread_m: float = 0.0
    windows: tuple[WindowShift, ...] = ()

    @property
    def length_m(self) -> float:
        """Its length on the ground."""
        return math.hypot(self.east_m, self.north_m)

    @property
    def inlier_share(self) -> float:
        """Share of the sure windows that agree, 0 to 1."""
        return self.agreeing / self.sure if self.sure else 0.0

    @property
    def offset_px(self) -> tuple[float, float]:
        """(rows, columns) at which it is to be read instead; none where the windows do not agree."""
        return (self.rows_px, self.cols_px) if self.is_consistent else (0.0, 0.0)

    @property
    def moved_m(self) -> tuple[float, float]:
        """(east, north) by which the correction moves it; none where the windows do not agree."""
        return (-self.east_m, -self.north_m) if self.is_consistent else (0.0, 0.0)


def find_consensus(windows: Sequence[WindowShift], grid: Grid) -> Shift:
    """What most of the sure windows say.

    The start is the window with which most others agree, so that more than half may be wrong in different
    ways; then the median of those that agree, until they stay the same.

    Args:
        windows: All windows that were looked at.
        grid: In whose pixels they are.
    """
    votes = np.array([(w.rows_px, w.cols_px) for w in windows if w.is_sure]).reshape(-1, 2)
    if not len(votes):
        return Shift(windows=tuple(windows))
    agree, is_consistent = find_agreement(votes, tolerance_px(grid))
    rows, cols = np.median(votes[agree], axis=0)
    axes = ground_axes(grid)
    east, north = axes @ (cols, rows)
    deviations = (votes[agree] - (rows, cols))[:, ::-1] @ axes.T
    return Shift(
        rows_px=float(rows),
        cols_px=float(cols),
        east_m=float(east),
        north_m=float(north),
        is_consistent=is_consistent,
        agreeing=int(agree.sum()),
        sure=len(votes),
        spread_m=float(np.sqrt((deviations**2).sum(axis=1).mean())),
        windows=tuple(windows),
    )


def tolerance_px(grid: Grid) -> float:
    """How far apart, in pixels of a grid, shifts may lie that agree."""
    return max(_AGREE_M / grid.gsd_m, _AGREE_PX)


def find_agreement(votes: NDArray[np.float64], tolerance: float) -> tuple[NDArray[np.bool_], bool]:
    """Which votes agree with what most of them say, and whether they are enough for it to be believed.

    Args:
        votes: (n, 2), at least one.
        tolerance: How far from their median those lie that agree.

    Returns:
        bool (n,), and whether these are at least `MIN_AGREEING`, not too few of all, and no other group is
        nearly as large.
    """
    agree = _largest_group(votes, tolerance)
    for _ in range(len(votes)):
        closer = np.linalg.norm(votes - np.median(votes[agree], axis=0), axis=1) <= tolerance
        if not closer.any() or (closer == agree).all():
            break
        agree = closer
    count, others = int(agree.sum()), votes[~agree]
    rivals = int(_largest_group(others, tolerance).sum()) if len(others) else 0
    return agree, count >= max(MIN_AGREEING, _MIN_SHARE * len(votes)) and rivals < _MAX_RIVALS * count


def _largest_group(votes: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Which votes are near the one that most others are near."""
    near = np.linalg.norm(votes[:, None] - votes[None], axis=2) <= tolerance
    return np.asarray(near[near.sum(axis=1).argmax()])


def ground_axes(grid: Grid) -> NDArray[np.float64]:
    """Metres (east, north) on the ground of a step of one (column, row) at the grid's centre.

    Without georeference, or a CRS that knows where north is, it is up on an upright grid.

    Returns:
        (2, 2), to be multiplied by (columns, rows); its inverse brings metres to pixels.
    """
    is_placed = grid.transform != UNREFERENCED * Affine.scale(*grid.source_px)
    projection = pyproj.CRS.from_wkt(grid.crs.to_wkt()) if grid.crs is not None and is_placed else None
    geod = projection.get_geod() if projection is not None else None
    if projection is None or geod is None or projection.geodetic_crs is None:
        t = grid.transform
        linear = np.array([[t.a, t.b], [t.d, t.e]])
        return np.asarray(linear / math.sqrt(abs(np.linalg.det(linear))) * grid.gsd_m)
    to_degrees = pyproj.Transformer.from_crs(projection, projection.geodetic_crs, always_xy=True)
    half, steps = _STEP_PX / 2.0, []
    for across, down in ((half, 0.0), (0.0, half)):
        x, y = grid.width / 2.0, grid.height / 2.0
        start = to_degrees.transform(*(grid.transform * (x - across, y - down)))
        end = to_degrees.transform(*(grid.transform * (x + across, y + down)))
        azimuth, _, metres = geod.inv(*start, *end)
        angle = math.radians(azimuth)
        steps.append((metres * math.sin(angle) / _STEP_PX, metres * math.cos(angle) / _STEP_PX))
    return np.array(steps).T


def metres_to_pixels(grid: Grid, east_m: float, north_m: float) -> tuple[float, float]:
    """(rows, columns) of the grid that a way on the ground is long, at the grid's centre."""
    cols, rows = np.linalg.solve(ground_axes(grid), (east_m, north_m))
    return float(rows), float(cols)


def describe_windows(shift: Shift, grid: Grid) -> list[dict[str, Any]]:
    """The windows, for a manifest: centre in the grid's CRS, shift in metres, whether it is sure."""
    axes = ground_axes(grid)
    described = []
    for window in shift.windows:
        x, y = grid.transform @ (window.col, window.row)
        east, north = axes @ (window.cols_px, window.rows_px)
        described.append(
            {
                "x": round(x, _DIGITS),
                "y": round(y, _DIGITS),
                "east_m": round(float(east), 2),
                "north_m": round(float(north), 2),
                "sure": window.is_sure,
            }
        )
    return described


def describe_image_shift(shift: Shift) -> str:
    """The sentence about an image before that was fitted to the one after."""
    if not shift.is_consistent:
        return (
            f"Whether the image before fits the one after cannot be told {_doubt(shift)}: it was not moved."
        )
    if shift.length_m < NOTICED_M:
        return f"The image before fits the one after ({_votes(shift)})."
    return (
        f"The image before lies {_way(shift)} of the one after; it was moved to fit ({_votes(shift)} to "
        f"{shift.spread_m:.1f} m).{_caution(shift)}"
    )


def describe_footprint_shift(shift: Shift) -> str:
    """The sentence about footprints that were fitted to the buildings in an image."""
    if not shift.is_consistent:
        return (
            f"Whether the footprints lie on the buildings cannot be told {_doubt(shift)}: they were not "
            "moved, so look, and nudge them if they do not."
        )
    if shift.length_m < NOTICED_M:
        return f"The footprints lie on the buildings in the image ({_votes(shift)})."
    return (
        f"The footprints lie {_way(shift)} of the buildings in the image; they were moved to fit "
        f"({_votes(shift)} to {shift.spread_m:.1f} m).{_caution(shift)}"
    )


def _votes(shift: Shift) -> str:
    return f"{shift.agreeing} of {shift.sure} windows agree"


def _doubt(shift: Shift) -> str:
    if not shift.windows:
        return "(they have too little in common to be compared)"
    return f"({_votes(shift)}, of {len(shift.windows)} that were compared)"


def _caution(shift: Shift) -> str:
    if shift.inlier_share >= _MOST:
        return ""
    return " The other windows differ, as on slopes and high roofs that were seen at an angle: look there."


def _way(shift: Shift) -> str:
    """Such as ``2.4 m east and 1.1 m north``."""
    parts = (
        (shift.east_m, "east" if shift.east_m > 0 else "west"),
        (shift.north_m, "north" if shift.north_m > 0 else "south"),
    )
    return " and ".join(f"{abs(metres):.1f} m {name}" for metres, name in parts if abs(metres) >= 0.05)
