"""A shift that differs from place to place: roofs lean and slopes slide, each neighbourhood by its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .grid import Grid
from .shift import MIN_AGREEING, Shift, describe_footprint_shift, find_agreement, tolerance_px

Floats = NDArray[np.float64]

_NEIGHBOURS = 7  # sure windows around a place, that at its centre among them: four of them are most
_DIFFERS_M = 1.5  # on a real scene whose windows agree to 1.1 m, no neighbourhood's median lies 1.1 m apart
_DIFFERS_PX = 1.0
_MOST = 0.7  # of the sure windows; of two groups that are mixed at random, a third agree with those around
_REACH = 0.7  # of the way to the next window, over which the say of one falls to 0.6
_FALLBACK = 0.05  # weight of the consensus beside a window's 1: it takes over from 1.7 such ways


@dataclass(frozen=True)
class ShiftField:
    """How far something lies from where it belongs, at each place.

    Attributes:
        consensus: What most windows say: the shift wherever no neighbourhood is near.
        places: float64 (n, 2), columns and rows of the windows whose neighbourhoods have a say; none where
            they say no more than the consensus.
        shifts: float64 (n, 2), what these say, in columns and rows.
        reach_px: Over which their say fades.
    """

    consensus: Shift
    places: Floats = field(default_factory=lambda: np.empty((0, 2)))
    shifts: Floats = field(default_factory=lambda: np.empty((0, 2)))
    reach_px: float = 1.0

    @property
    def is_local(self) -> bool:
        """Whether it differs from place to place."""
        return len(self.places) > 0

    def at(self, points: Floats) -> Floats:
        """The shift at some points: the mean of the neighbourhoods around, by distance, and the consensus.

        Memory: a few numbers a point.

        Args:
            points: (n, 2), column and row in pixels of the grid; what is not a number gets the consensus.

        Returns:
            float64 (n, 2), columns and rows.
        """
        usual = np.array(self.consensus.offset_px[::-1])
        total, weights = np.zeros((len(points), 2)), np.full(len(points), _FALLBACK)
        for place, shift in zip(self.places, self.shifts, strict=True):
            squares = ((points - place) ** 2).sum(axis=1) / self.reach_px**2
            weight = np.nan_to_num(np.exp(-0.5 * squares))
            total += weight[:, None] * (shift - usual)
            weights += weight
        return np.asarray(usual + total / weights[:, None])


def localize(shift: Shift, grid: Grid) -> ShiftField:
    """Find where whole neighbourhoods differ from the consensus of all windows.

    A neighbourhood is a sure window and the six sure ones nearest to it. It has a say where they agree by the
    rule by which all windows do, the one at its centre included, and says their median: so at least four
    say it, and a window that stands alone moves nothing. The consensus holds everywhere unless at least four
    neighbourhoods differ from it by more than 1.5 m; and where there is none, unless most have a say.

    Args:
        shift: The consensus, with its windows.
        grid: In whose pixels they are.
    """
    sure = [w for w in shift.windows if w.is_sure]
    places = np.array([(w.col, w.row) for w in sure]).reshape(-1, 2)
    votes = np.array([(w.cols_px, w.rows_px) for w in sure]).reshape(-1, 2)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :_NEIGHBOURS]  # itself first
    said = np.array([_agreed(votes[around], tolerance_px(grid)) for around in nearest]).reshape(-1, 2)
    has_say = np.isfinite(said).all(axis=1)
    apart = np.linalg.norm(said - shift.offset_px[::-1], axis=1)
    differing = int((apart > max(_DIFFERS_M / grid.gsd_m, _DIFFERS_PX)).sum())
    is_clear = shift.is_consistent or has_say.sum() >= _MOST * len(sure)
    if differing < MIN_AGREEING or not is_clear:
        return ShiftField(shift)
    to_next = float(np.median(np.take_along_axis(distances, nearest[:, 1:2], axis=1)))
    return ShiftField(shift, places[has_say], said[has_say], _REACH * to_next)


def describe_footprint_field(shifts: ShiftField, moved_m: Floats) -> str:
    """The sentence about footprints that were fitted to the buildings in an image.

    Args:
        shifts: Of the footprints.
        moved_m: (n,), how far each of them was moved by it; not-a-number for those without a place.
    """
    if not shifts.is_local or np.isnan(moved_m).all():
        return describe_footprint_shift(shifts.consensus)
    least, most = np.nanmin(moved_m), np.nanmax(moved_m)
    return (
        "The footprints do not lie equally far from the buildings in the image, as where slopes or roofs "
        f"were seen at an angle: they were moved by {least:.1f} to {most:.1f} m, each as the windows around "
        f"it say ({len(shifts.places)} of {shifts.consensus.sure} agree with their neighbours). Look there."
    )


def _agreed(votes: Floats, tolerance: float) -> Floats:
    """Median of the votes that agree; not-a-number where they are too few, or the first is none of them."""
    agree, is_consistent = find_agreement(votes, tolerance)
    return np.median(votes[agree], axis=0) if is_consistent and agree[0] else np.full(2, np.nan)
