"""Deep shadow shows nothing: it is found where it is dark and even for its image; dark things are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy import ndimage

from aftermap.core.raster.grid import plan_grid
from aftermap.core.raster.pair import fit_pair
from aftermap.core.raster.shadows import ShadowFinder
from aftermap.core.raster.source import open_source

SIZE, GSD_M = 600, 0.5
SHADOW = np.s_[100:260, 300:480]  # 80 m × 90 m
INSIDE, AROUND = np.s_[108:252, 308:472], np.s_[92:268, 292:488]


def ground() -> np.ndarray:
    """Values 0 to 1, (3, SIZE, SIZE): houses and gardens."""
    random = np.random.default_rng(1)
    coarse = ndimage.gaussian_filter(random.normal(0, 1, (3, SIZE, SIZE)), (0, 3, 3))
    return np.clip(0.4 + coarse / coarse.std() * 0.12, 0.05, 1.0)


def shaded(values: np.ndarray, light: float = 0.2) -> np.ndarray:
    values = values.copy()
    values[:, *SHADOW] *= light
    return values


def write(path: Path, values: np.ndarray, dtype: str = "uint8", full: float = 255) -> str:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=SIZE,
        height=SIZE,
        count=3,
        dtype=dtype,
        crs="EPSG:32637",
        transform=Affine(GSD_M, 0, 500_000, 0, -GSD_M, 4_000_000),
    ) as file:
        file.write((values * full).round().astype(dtype))
    return str(path)


def find(path: str) -> np.ndarray:
    with open_source(path) as source:
        return ShadowFinder(source, plan_grid(source, GSD_M)).mask(0, 0, SIZE, SIZE)


@pytest.mark.parametrize(
    ("dtype", "full"), [("uint8", 255), ("uint8", 90), ("uint16", 2047)], ids=["8 bit", "dark", "16 bit"]
)
def test_a_deep_shadow_is_found_and_nothing_else(tmp_path: Path, dtype: str, full: float):
    found = find(write(tmp_path / "a.tif", shaded(ground()), dtype, full))
    assert found[INSIDE].mean() > 0.99
    found[AROUND] = False
    assert not found.any()


def test_a_thin_shadow_in_which_things_can_be_made_out_is_not_found(tmp_path: Path):
    assert not find(write(tmp_path / "a.tif", shaded(ground(), light=0.6))).any()


def test_a_house_that_stands_out_of_a_shadow_is_seen(tmp_path: Path):
    values = shaded(ground(), light=0.1)
    values[:, 170:200, 380:410] = 0.16  # as dark as the rest, for this image, but lighter
    found = find(write(tmp_path / "a.tif", values))
    assert found[108:160, 308:472].mean() > 0.99
    assert found[170:200, 380:410].mean() < 0.5


def test_dark_forest_shadows_of_houses_and_black_roofs_are_not_found(tmp_path: Path):
    values = ground()
    values[:, 300:500, 50:250] = 0.15 + (values[:, 300:500, 50:250] - 0.4) * 0.6  # crowns and gaps
    values[:, 90:190, 100:200] = 0.06  # a black roof of 50 m
    values[:, 50:60, 300:500] = 0.06  # the shadow of a row of houses
    assert not find(write(tmp_path / "a.tif", values)).any()


@pytest.mark.parametrize("level", [0.0, 0.05, 0.5])
def test_an_image_that_is_even_all_over_is_no_shadow(tmp_path: Path, level: float):
    assert not find(write(tmp_path / "a.tif", np.full((3, SIZE, SIZE), level))).any()


def test_bright_cloud_over_much_of_the_image_makes_no_shadow_of_the_ground(tmp_path: Path):
    values = ground()
    values[:, :, :330] = 0.95
    found = find(write(tmp_path / "a.tif", values))
    assert not found.any()


@pytest.mark.parametrize("gsd_m", [0.5, 1.0, 2.0])
def test_windows_agree_on_what_they_share(tmp_path: Path, gsd_m: float):
    with open_source(write(tmp_path / "a.tif", shaded(ground()))) as source:
        grid = plan_grid(source, gsd_m)
        whole = ShadowFinder(source, grid).mask(-10, -10, grid.height + 20, grid.width + 20)
        part = ShadowFinder(source, grid).mask(grid.height // 5, grid.width // 2, 90, 70)
    top, left = grid.height // 5 + 10, grid.width // 2 + 10
    np.testing.assert_array_equal(part, whole[top : top + 90, left : left + 70])
    assert 0.05 < whole.mean() < 0.1


def test_a_run_takes_it_for_not_seen(tmp_path: Path):
    with open_source(write(tmp_path / "a.tif", shaded(ground()))) as source:
        grid = plan_grid(source, GSD_M)
        _, valid = fit_pair(source, None, grid, [0.4] * 3).read(grid, 0, 0, SIZE, SIZE)
    assert valid[INSIDE].mean() < 0.01
    valid[AROUND] = True
    assert valid.all()
