"""The encoding of probabilities and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from aftermap.core.errors import OutputError, RasterError
from aftermap.core.raster.gdal import bounded_gdal
from aftermap.core.raster.grid import Grid
from aftermap.core.raster.probability import (
    NODATA,
    ProbabilityTags,
    decode_probabilities,
    encode_probabilities,
    read_tags,
    write_cog,
    write_vrt,
)

TAGS = ProbabilityTags(
    task="roads",
    class_name="road",
    gsd_m=0.7003,
    threshold=0.37,
    threshold_low=0.2,
    model="starter",
    model_sha256="ab" * 32,
    source="/data/Şehir & <name>.tif",
    date="2026-01-02T03:04:05Z",
    manifest={"extent": [1, 2.5], "name": 'quotes " and é'},
)


def grid_of(height: int, width: int, transform: Affine, crs: str | None = "EPSG:32637") -> Grid:
    return Grid(width, height, transform, CRS.from_string(crs) if crs else None, 0.7003, (1.0, 1.0))


def write_rows(folder: Path, height: int, width: int) -> tuple[Path, np.ndarray]:
    codes = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)
    codes[: height // 4] = NODATA
    path = folder / "rows.raw"
    codes.tofile(path)
    return path, codes


def test_codes_are_rounded_and_come_back() -> None:
    codes = np.arange(256, dtype=np.uint8)
    p, valid = decode_probabilities(codes)
    assert p.dtype == np.float32
    assert np.array_equal(encode_probabilities(p, valid), codes)
    assert not valid[NODATA]
    fine = np.linspace(0, 1, 10_001, dtype=np.float32)
    back, _ = decode_probabilities(encode_probabilities(fine, np.ones(fine.shape, bool)))
    assert np.abs(back - fine).max() <= 0.5 / 254 + 1e-6


def test_invalid_pixels_may_hold_anything() -> None:
    p = np.array([np.nan, np.inf, -3.0, 0.5], dtype=np.float32)
    assert encode_probabilities(p, np.array([False, False, False, True])).tolist() == [255, 255, 255, 127]


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(0.7, 0, 500_000.123456789, 0, -0.7, 4_000_000), "EPSG:32637"),
        (Affine.translation(5e5, 4e6) * Affine.rotation(30) * Affine.scale(0.7, -0.7), "EPSG:32637"),
        (Affine(1e-5, 0, 37.0, 0, -0.8e-5, 36.0), "EPSG:4326"),
        (Affine(2, 0, 0, 0, -2, 0), None),
    ],
)
def test_cog_holds_pixels_place_and_tags(tmp_path: Path, transform: Affine, crs: str | None) -> None:
    rows, codes = write_rows(tmp_path, 700, 1100)
    path = tmp_path / "p.tif"
    write_cog(rows, grid_of(700, 1100, transform, crs), path, TAGS)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), codes)
        assert file.nodata == NODATA
        assert file.transform.almost_equals(transform, 1e-9)
        assert file.crs == (CRS.from_string(crs) if crs else None)
        assert file.overviews(1)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        coarse = file.read(1, out_shape=(700 // 4, 1100 // 4))
        assert (coarse[: 700 // 16 - 1] == NODATA).all()
        assert abs(float(coarse[60:].mean()) - 127) < 5  # averaged, nodata left out
    assert read_tags(path) == TAGS


def test_small_raster_becomes_a_cog_too(tmp_path: Path) -> None:
    rows, codes = write_rows(tmp_path, 3, 2)
    write_cog(rows, grid_of(3, 2, Affine.identity()), tmp_path / "p.tif", TAGS)
    with rasterio.open(tmp_path / "p.tif") as file:
        assert np.array_equal(file.read(1), codes)


def test_the_cache_is_bounded_by_megabytes() -> None:
    with bounded_gdal():
        bound = rasterio.env.get_gdal_config("GDAL_CACHEMAX")
    assert 16_000_000 <= bound <= 256_000_000


def test_vrt_beside_the_rows_is_a_raster_while_they_grow(tmp_path: Path) -> None:
    rows, codes = write_rows(tmp_path, 30, 20)
    grid = grid_of(30, 20, Affine(1, 0, 0, 0, -1, 0))
    with rasterio.open(write_vrt(rows, grid)) as file:
        assert np.array_equal(file.read(1), codes)
    assert read_tags(write_vrt(rows, grid, TAGS)) == TAGS


def test_other_rasters_are_not_taken_for_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=2, height=2, count=1, dtype="uint8") as file:
        file.write(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(RasterError, match=r"a\.tif is no probability raster"):
        read_tags(path)
    with pytest.raises(RasterError, match=r"gone\.tif"):
        read_tags(tmp_path / "gone.tif")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    rows, _ = write_rows(tmp_path, 10, 10)
    with pytest.raises(OutputError, match=r"no folder .*gone"):
        write_cog(rows, grid_of(10, 10, Affine.identity()), tmp_path / "gone" / "p.tif", TAGS)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Make writes beyond `size` fail in this process, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [20_000, 200_000, 600_000])
def test_full_disk_is_told_and_leaves_no_file(tmp_path: Path, size: int) -> None:
    rows, _ = write_rows(tmp_path, 700, 1100)
    grid = grid_of(700, 1100, Affine.identity())
    with files_of_at_most(size), pytest.raises(OutputError, match=r"p\.tif cannot be written .* make room"):
        write_cog(rows, grid, tmp_path / "p.tif", TAGS)
    assert not (tmp_path / "p.tif").exists()
