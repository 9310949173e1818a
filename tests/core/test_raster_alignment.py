"""How far images and footprints lie from where they belong: found, or honestly not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from scipy import ndimage

from aftermap.core.raster.alignment import (
    ReadWindow,
    estimate_footprint_shift,
    estimate_image_shift,
    spread_windows,
)
from aftermap.core.raster.grid import Grid
from aftermap.core.raster.shift import (
    Shift,
    WindowShift,
    describe_footprint_shift,
    describe_image_shift,
    find_consensus,
    ground_axes,
    metres_to_pixels,
)

from .towns import draw_town

SIZE = 512
GRID = Grid(SIZE, SIZE, Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000), CRS.from_epsg(32637), 0.5, (1.0, 1.0))
WHOLE = (0, 0, SIZE, SIZE)


def reader(image: np.ndarray, valid: np.ndarray | None = None) -> ReadWindow:
    """Reads windows of an array (bands, height, width), which may stick out of it."""
    known = np.ones(image.shape[1:], dtype=bool) if valid is None else valid
    around = 256
    padded = np.pad(image.astype(np.float32), ((0, 0), (around, around), (around, around)))
    inside = np.pad(known, around)

    def read(row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        part = np.s_[row + around : row + around + height, col + around : col + around + width]
        return padded[:, part[0], part[1]], inside[part]

    return read


def town(seed: int = 0) -> np.ndarray:
    return draw_town(SIZE, seed)[0] / 255.0


def displaced(image: np.ndarray, rows: float, cols: float) -> np.ndarray:
    """What lies at (r, c) lies at (r + rows, c + cols) then."""
    return ndimage.shift(image, (0, rows, cols), order=1, mode="reflect")


# ------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("shift", [(0.0, 0.0), (6.0, -6.0), (2.5, 1.25), (-23.0, 17.0)])
def test_the_shift_is_found_to_a_part_of_a_pixel(shift: tuple[float, float]) -> None:
    found = estimate_image_shift(reader(displaced(town(), *shift)), reader(town()), GRID, WHOLE)
    assert found.is_consistent
    assert (found.rows_px, found.cols_px) == pytest.approx(shift, abs=0.3)
    assert (found.east_m, found.north_m) == pytest.approx((shift[1] / 2, -shift[0] / 2), abs=0.2)


def test_other_light_and_colours_change_nothing() -> None:
    dark = displaced(town(), 4, 3) ** 2.2 * 0.6
    found = estimate_image_shift(reader(dark[[2, 0, 1]]), reader(town()), GRID, WHOLE)
    assert found.is_consistent
    assert (found.rows_px, found.cols_px) == pytest.approx((4, 3), abs=0.3)


def test_destruction_of_most_houses_and_smoke_are_survived() -> None:
    after, houses = draw_town(SIZE)
    after = after / 255.0
    rubble = np.random.default_rng(1).uniform(0, 1, after.shape)
    after = np.where(houses & (np.arange(SIZE) % 500 < 400), rubble, after)
    after[:, 150:350, :300] = 0.7 + 0.05 * after[:, 150:350, :300]
    found = estimate_image_shift(reader(displaced(town(), -5, 8)), reader(after), GRID, WHOLE)
    assert found.is_consistent
    assert (found.rows_px, found.cols_px) == pytest.approx((-5, 8), abs=0.5)


def test_images_of_different_places_do_not_fit() -> None:
    for seed in range(1, 5):
        found = estimate_image_shift(reader(town(seed)), reader(town()), GRID, WHOLE)
        assert not found.is_consistent
        assert found.offset_px == found.moved_m == (0.0, 0.0)
        assert "cannot be told" in describe_image_shift(found)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_an_image_that_shows_nothing_is_not_moved(level: float) -> None:
    found = estimate_image_shift(reader(town()), reader(np.full_like(town(), level)), GRID, WHOLE)
    assert not found.is_consistent


def test_invalid_pixels_have_no_say() -> None:
    """A black wedge lies at the same place in both images, and would vote for no shift."""
    valid = np.tri(SIZE, SIZE, 100, dtype=bool)
    one, other = (np.where(valid, image, 0.0) for image in (town(), displaced(town(), 7, -2)))
    found = estimate_image_shift(reader(other, valid), reader(one, valid), GRID, WHOLE)
    assert found.is_consistent
    assert (found.rows_px, found.cols_px) == pytest.approx((7, -2), abs=0.3)
    nothing = np.zeros_like(valid)
    assert estimate_image_shift(reader(other, nothing), reader(one), GRID, WHOLE) == Shift()


def test_windows_lie_inside_and_are_few() -> None:
    for bounds in ((0, 0, 20_000, 30_000), (5, 7, 600, 400), (10, 10, 74, 74)):
        windows = spread_windows(bounds)
        assert 1 <= len(windows) <= 49
        assert len(set(windows)) == len(windows)
        for row, col, side in windows:
            assert bounds[0] <= row <= row + side <= bounds[2]
            assert bounds[1] <= col <= col + side <= bounds[3]
    assert spread_windows((0, 0, 50, 500)) == spread_windows((9, 9, 3, 3)) == []


# ---------------------------------------------------------------------------------------- consensus


def votes(*shifts: tuple[float, float], is_sure: bool = True) -> list[WindowShift]:
    return [WindowShift(0.0, 0.0, rows, cols, is_sure) for rows, cols in shifts]


def test_more_than_half_of_the_windows_may_be_wrong_in_different_ways() -> None:
    found = find_consensus(votes((3, 4), (3.4, 4), (2.6, 4), (3, 4.4), (-20, 9), (15, -8), (30, 2)), GRID)
    assert found.is_consistent
    assert (found.agreeing, found.sure) == (4, 7)
    assert (found.rows_px, found.cols_px) == pytest.approx((3, 4))
    assert 0.0 < found.spread_m < 0.5


def test_windows_that_all_differ_give_no_shift() -> None:
    found = find_consensus(votes(*((12.0 * i, -9.0 * i) for i in range(8))), GRID)
    assert not found.is_consistent


def test_two_groups_as_large_are_ambiguous() -> None:
    ground, crowns = votes(*[(3, 2)] * 9), votes(*[(-27, -19)] * 10)
    assert not find_consensus(ground + crowns, GRID).is_consistent
    assert find_consensus(ground[:6] + crowns, GRID).is_consistent


def test_unsure_windows_do_not_count() -> None:
    assert not find_consensus(
        votes((1, 1), (1, 1), (1, 1), (1, 1), (1, 1), is_sure=False), GRID
    ).is_consistent
    assert find_consensus(votes(*[(1, 1)] * 4) + votes(*[(9, 9)] * 40, is_sure=False), GRID).is_consistent


@pytest.mark.parametrize("epsg", [32637, 3857, 4326])
@pytest.mark.parametrize("degrees", [0, 30, 180])
def test_metres_are_true_and_north_is_up(epsg: int, degrees: int) -> None:
    crs = CRS.from_epsg(epsg)
    x, y, size = {32637: (500_000, 6_650_000, 0.5), 3857: (4_341_000, 8_399_700, 1.0), 4326: (39, 60, 1e-5)}[
        epsg
    ]
    transform = Affine.translation(x, y) * Affine.rotation(degrees) * Affine.scale(size, -size)
    grid = Grid(100, 100, transform, crs, 0.5, (1.0, 1.0))
    rows, cols = metres_to_pixels(grid, 0.0, 10.0)
    dx, dy = transform * (cols, rows)
    assert abs(dx - x) < 0.01 * abs(dy - y)
    assert dy > y
    latitude = 60.0
    true = {32637: 10.0, 3857: 10.0 / math.cos(math.radians(latitude)), 4326: 10 / 111_412}[epsg]
    assert dy - y == pytest.approx(true, rel=0.01)
    assert ground_axes(grid) @ (cols, rows) == pytest.approx((0.0, 10.0), abs=1e-9)


@pytest.mark.parametrize("crs", [None, CRS.from_epsg(4326)])
def test_without_georeference_up_is_north(crs: CRS | None) -> None:
    grid = Grid(100, 100, Affine(1, 0, 0, 0, -1, 0), crs, 0.6, (1.0, 1.0))
    assert metres_to_pixels(grid, 6.0, -3.0) == pytest.approx((5.0, 10.0))


def test_sentences_say_where_and_how_sure() -> None:
    shift = find_consensus(votes(*[(-2.2, 4.8)] * 31, *((9.0 * i, 60.0) for i in range(5))), GRID)
    said = describe_image_shift(shift)
    assert said.startswith("The image before lies 2.4 m east and 1.1 m north of the one after; it was moved")
    assert "31 of 36 windows agree" in said
    assert "2.4 m east and 1.1 m north of the buildings" in describe_footprint_shift(shift)
    assert "fits the one after" in describe_image_shift(find_consensus(votes(*[(0.2, 0.2)] * 9), GRID))
    assert "too little in common" in describe_image_shift(Shift())


# --------------------------------------------------------------------------------------- footprints


def footprints_and_probability(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in pixels, and the probability (1, SIZE, SIZE) by which a mediocre network sees them."""
    random = np.random.default_rng(seed)
    corners = random.uniform(20, SIZE - 60, (120, 2)).round()
    sides = random.uniform(14, 40, (120, 2)).round()
    boxes = np.array(shapely.box(*corners.T, *(corners + sides).T))
    seen = np.zeros((SIZE, SIZE))
    for (col, row), (width, height) in zip(corners.astype(int), sides.astype(int), strict=True):
        seen[row : row + height, col : col + width] = random.choice([1.0, 0.6, 0.0], p=[0.5, 0.3, 0.2])
    seen = ndimage.gaussian_filter(seen + random.normal(0, 0.4, seen.shape), 2.0)
    return boxes, np.clip(seen, 0, 1)[None]


@pytest.mark.parametrize("move", [(0.0, 0.0), (8.0, -5.0), (-13.0, 11.0)])
def test_footprints_find_their_buildings(move: tuple[float, float]) -> None:
    boxes, probability = footprints_and_probability()
    moved = shapely.transform(boxes, lambda points: points + move[::-1])
    found = estimate_footprint_shift(moved, reader(probability), GRID)
    assert found.is_consistent
    assert (found.rows_px, found.cols_px) == pytest.approx(move, abs=0.6)


def test_footprints_of_another_place_are_not_moved() -> None:
    boxes, _ = footprints_and_probability(1)
    _, probability = footprints_and_probability(2)
    found = estimate_footprint_shift(boxes, reader(probability), GRID)
    assert not found.is_consistent
    assert "were not moved" in describe_footprint_shift(found)


def test_no_empty_missing_or_far_footprints_trouble_it() -> None:
    _, probability = footprints_and_probability()
    for shapes in ([], [None, shapely.Polygon()], [shapely.box(9e5, 9e5, 9e5 + 9, 9e5 + 9)] * 5):
        found = estimate_footprint_shift(np.array(shapes, dtype=object), reader(probability), GRID)
        assert found == Shift()
