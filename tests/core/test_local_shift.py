"""A shift from place to place: whole neighbourhoods move what lies in them, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from scipy import ndimage

from aftermap.core.raster.alignment import ReadWindow, estimate_footprint_shift
from aftermap.core.raster.grid import Grid
from aftermap.core.raster.local_shift import ShiftField, describe_footprint_field, localize
from aftermap.core.raster.shift import Shift, WindowShift, describe_windows, find_consensus

SIZE, GSD_M = 1280, 0.5
GRID = Grid(
    SIZE, SIZE, Affine(GSD_M, 0, 500_000, 0, -GSD_M, 4_000_000), CRS.from_epsg(32637), GSD_M, (1.0, 1.0)
)
PLOT_PX = 46

Places = np.ndarray
"""(n, 2), columns and rows; or metres to the right and down."""


# ------------------------------------------------------------------------------ footprints and an image


def town(away_m: Callable[[Places], Places]) -> tuple[np.ndarray, Places, Places, ReadWindow]:
    """Footprints that lie `away_m` (right, down) from where a mediocre network sees the buildings.

    Returns:
        The footprints in pixels, their centres, how far they lie from their buildings in pixels, and what
        the network says.
    """
    random = np.random.default_rng(0)
    corners = np.arange(20.0, SIZE - 60, PLOT_PX)
    corners = np.stack(np.meshgrid(corners, corners), axis=-1).reshape(-1, 2)
    corners = corners[random.uniform(size=len(corners)) < 0.6]
    corners += random.uniform(0, 12, corners.shape)
    sides = random.uniform(14, 32, corners.shape)
    away = away_m(corners + sides / 2) / GSD_M
    buildings = shapely.box(*(corners - away).T, *(corners - away + sides).T)
    seen = np.zeros((SIZE, SIZE))
    certainty = random.choice([1.0, 0.6, 0.0], p=[0.5, 0.3, 0.2], size=len(corners))
    rasterize(zip(buildings, certainty, strict=True), out=seen)
    seen = np.clip(ndimage.gaussian_filter(seen + random.normal(0, 0.4, seen.shape), 2.0), 0, 1)
    padded = np.pad(seen, SIZE).astype(np.float32)[None]
    inside = np.pad(np.ones((SIZE, SIZE), bool), SIZE)

    def read(row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        part = np.s_[row + SIZE : row + SIZE + height, col + SIZE : col + SIZE + width]
        return padded[:, part[0], part[1]], inside[part]

    return np.array(shapely.box(*corners.T, *(corners + sides).T)), corners + sides / 2, away, read


def two_halves(centres: Places) -> Places:
    return np.where(centres[:, :1] < SIZE / 2, (2.0, 0.0), (6.0, 0.0))


def ramp(centres: Places) -> Places:
    return np.column_stack((centres[:, 0] / SIZE * 8.0, np.full(len(centres), -1.0)))


def one_corner(centres: Places) -> Places:
    return np.where((centres > SIZE / 2).all(axis=1)[:, None], (0.0, 6.0), (0.0, 2.0))


@pytest.mark.parametrize(
    ("away_m", "rigid_m", "local_m"), [(two_halves, 1.9, 0.7), (ramp, 1.9, 0.7), (one_corner, 0.9, 0.7)]
)
def test_footprints_come_nearer_to_their_buildings_than_by_one_shift_for_all(away_m, rigid_m, local_m):
    """Mean distance in metres: measured 2.02 → 0.56, 2.09 → 0.54 and 1.02 → 0.52."""
    footprints, centres, away, read = town(away_m)
    shift = estimate_footprint_shift(footprints, read, GRID)
    shifts = localize(shift, GRID)

    def mean_distance_m(found: Places) -> float:
        return float(np.linalg.norm(away - found, axis=1).mean()) * GSD_M

    rigid, local = mean_distance_m(np.array(shift.offset_px[::-1])), mean_distance_m(shifts.at(centres))
    assert shift.is_consistent
    assert rigid > rigid_m
    assert local < local_m


def test_one_shift_for_all_stays_exactly_that():
    footprints, centres, _, read = town(lambda centres: np.full_like(centres, 1.5))
    shift = estimate_footprint_shift(footprints, read, GRID)
    shifts = localize(shift, GRID)
    assert not shifts.is_local
    assert (shifts.at(centres) == shift.offset_px[::-1]).all()


# -------------------------------------------------------------------------------------- votes alone


def field_of(votes: np.ndarray, step: int = 256) -> ShiftField:
    """Of windows on a square, (n, n, 2) in columns and rows of the grid."""
    windows = [
        WindowShift((r + 0.5) * step, (c + 0.5) * step, votes[r, c, 1], votes[r, c, 0], is_sure=True)
        for r, c in np.ndindex(votes.shape[:2])
    ]
    return localize(find_consensus(windows, GRID), GRID)


def quiet(seed: int = 0, size: int = 6) -> np.ndarray:
    """Windows that agree on (4, −2) to half a metre."""
    return np.random.default_rng(seed).normal((4, -2), 0.7, (size, size, 2))


def test_windows_that_stand_alone_move_nothing():
    votes = quiet()
    for row, col, vote in ((1, 1, (18, 3)), (1, 4, (-9, 9)), (4, 2, (16, 12)), (0, 5, (19, 19))):
        votes[row, col] = vote
    assert not field_of(votes).is_local
    votes[0, :3] = (16, 12)  # three beside each other may do so by chance
    assert not field_of(votes).is_local


def test_a_neighbourhood_that_differs_is_followed_there_and_the_consensus_elsewhere():
    votes = quiet()
    votes[3:, 3:] = (16, 4)
    shifts = field_of(votes)
    assert shifts.consensus.is_consistent
    there, far, nowhere = shifts.at(np.array([[1300.0, 1300.0], [200.0, 200.0], [9e4, 9e4]]))
    assert there == pytest.approx((16, 4), abs=0.5)
    assert far == pytest.approx((4, -2), abs=0.7)
    assert nowhere == pytest.approx(shifts.consensus.offset_px[::-1])
    assert (shifts.at(np.array([[np.nan, np.nan]])) == shifts.consensus.offset_px[::-1]).all()


def test_the_field_is_smooth():
    votes = quiet()
    votes[:, 3:] = (16, -2)
    along = field_of(votes).at(np.column_stack((np.arange(0.0, 1536.0), np.full(1536, 700.0))))
    assert along[0, 0] < 6
    assert along[-1, 0] > 14
    assert np.abs(np.diff(along, axis=0)).max() < 0.1


def test_two_groups_apart_are_followed_without_consensus_and_mixed_ones_are_not():
    votes = quiet()
    votes[:, 3:] = (20, 15)
    apart = field_of(votes)
    assert not apart.consensus.is_consistent
    assert apart.at(np.array([[200.0, 700.0], [1300.0, 700.0]])) == pytest.approx(
        np.array([[4, -2], [20, 15]]), abs=0.7
    )
    for seed in range(20):
        mixed = quiet(seed)
        mixed[np.random.default_rng(seed).permutation(36).reshape(6, 6) < 18] = (20, 15)
        assert not field_of(mixed).is_local


def test_windows_that_say_anything_move_nothing():
    for seed in range(20):
        shifts = field_of(np.random.default_rng(seed).uniform(-20, 20, (7, 7, 2)))
        assert not shifts.is_local
        assert (shifts.at(np.ones((1, 2))) == 0).all()


def test_no_windows_give_no_shift():
    shifts = localize(Shift(), GRID)
    assert not shifts.is_local
    assert (shifts.at(np.ones((3, 2))) == 0).all()


def test_the_sentence_says_how_far_they_were_moved():
    votes = quiet()
    votes[:, 3:] = (16, -2)
    said = describe_footprint_field(field_of(votes), np.array([2.04, np.nan, 7.96]))
    assert "were moved by 2.0 to 8.0 m" in said
    assert "of 36 agree with their neighbours" in said
    said = describe_footprint_field(field_of(quiet()), np.full(3, 2.2))
    assert said.startswith("The footprints lie ")
    assert "were moved to fit (36 of 36 windows agree" in said


def test_a_manifest_shows_the_windows_on_the_map():
    windows = [WindowShift(100.0, 200.0, 2.0, -4.0, True), WindowShift(0.0, 0.0, 20.0, 20.0, False)]
    described = describe_windows(find_consensus(windows, GRID), GRID)
    assert json.loads(json.dumps(described)) == described
    assert [(w["x"], w["y"], w["sure"]) for w in described] == [
        (500_100.0, 3_999_950.0, True),
        (500_000.0, 4_000_000.0, False),
    ]
    assert (described[0]["east_m"], described[0]["north_m"]) == pytest.approx((-2.0, -1.0), abs=0.03)
