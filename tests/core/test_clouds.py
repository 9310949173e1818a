"""Cloud is not ground: it is found where it is larger than a roof, wherever the windows lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy import ndimage

from aftermap.core.raster.clouds import CloudFinder
from aftermap.core.raster.grid import plan_grid
from aftermap.core.raster.source import open_source

SIZE, GSD_M = 800, 1.0


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Ground with a cloud of 300 m and a white hall of 80 m."""
    rng = np.random.default_rng(1)
    pixels = ndimage.gaussian_filter(rng.uniform(40, 160, (3, SIZE, SIZE)), (0, 1.5, 1.5))
    rows, cols = np.ogrid[:SIZE, :SIZE]
    cloud = np.hypot(rows - 300, cols - 500) < 150
    pixels[:, cloud] = rng.uniform(235, 245, cloud.sum())
    pixels[:, 600:680, 100:180] = 240
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=SIZE,
        height=SIZE,
        count=3,
        dtype="uint8",
        crs="EPSG:32637",
        transform=Affine(GSD_M, 0, 500_000, 0, -GSD_M, 4_000_000),
    ) as file:
        file.write(pixels.astype(np.uint8))
    return path


def test_a_cloud_is_found_and_a_white_hall_is_not(scene: Path):
    with open_source(str(scene)) as source:
        found = CloudFinder(source, plan_grid(source, GSD_M)).mask(0, 0, SIZE, SIZE)
    rows, cols = np.ogrid[:SIZE, :SIZE]
    distance = np.hypot(rows - 300, cols - 500)
    assert found[distance < 140].all()
    assert not found[distance > 180].any()


def test_an_image_that_is_all_cloud_shows_nothing_else_up_to_its_corners(tmp_path: Path):
    path = tmp_path / "cloud.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=512,
        height=400,
        count=3,
        dtype="uint8",
        crs="EPSG:32637",
        transform=Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000),
    ) as file:
        file.write(np.full((3, 400, 512), 250, np.uint8))
    with open_source(str(path)) as source:
        grid = plan_grid(source, 0.5)
        assert CloudFinder(source, grid).mask(0, 0, grid.height, grid.width).all()


@pytest.mark.parametrize("gsd_m", [0.5, 1.0, 2.0])
def test_windows_agree_on_what_they_share(scene: Path, gsd_m: float):
    with open_source(str(scene)) as source:
        grid = plan_grid(source, gsd_m)
        whole = CloudFinder(source, grid).mask(-10, -10, grid.height + 20, grid.width + 20)
        part = CloudFinder(source, grid).mask(grid.height // 4, grid.width // 2, 120, 90)
    top, left = grid.height // 4 + 10, grid.width // 2 + 10
    np.testing.assert_array_equal(part, whole[top : top + 120, left : left + 90])
    assert 0.05 < whole.mean() < 0.3
