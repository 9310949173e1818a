"""Opening and reading rasters: bands, radiometry, validity, agreement of windows, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from scipy import ndimage

from aftermap.core.errors import GroundResolutionError, JobError, ModelError, RasterError
from aftermap.core.raster.collar import find_collar
from aftermap.core.raster.grid import Grid, plan_grid
from aftermap.core.raster.radiometry import sample_windows
from aftermap.core.raster.source import RasterSource, open_source

UTM = "EPSG:32637"
NORTH_UP = Affine(1, 0, 500_000, 0, -1, 4_000_000)
COLOURS = {"r": ColorInterp.red, "g": ColorInterp.green, "b": ColorInterp.blue, "a": ColorInterp.alpha}


def write(path: Path, pixels: np.ndarray, colours: str = "", **profile: object) -> str:
    settings = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP, **profile}
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", width=width, height=height, count=count, dtype=pixels.dtype, **settings
    ) as file:
        if colours:
            file.colorinterp = [COLOURS[c] for c in colours]
        file.write(pixels)
    return str(path)


def bands_of(*values: int, dtype: str = "uint8", size: int = 40) -> np.ndarray:
    """An image whose bands are constant."""
    return np.stack([np.full((size, size), value, dtype) for value in values])


def read_all(source: RasterSource) -> tuple[np.ndarray, np.ndarray, Grid]:
    """The raster at (nearly) its own pixels."""
    grid = plan_grid(source, source.gsd_m[0])
    return *source.read(grid, 0, 0, grid.height, grid.width), grid


# ------------------------------------------------------------------------------------------- bands


def test_bands_follow_their_colours(tmp_path: Path) -> None:
    path = write(tmp_path / "bgra.tif", bands_of(30, 20, 10, 255), "bgra")
    with open_source(path) as source:
        image, valid, _ = read_all(source)
        assert source.bands == (3, 2, 1)
    assert np.allclose(image[:, 5, 5] * 255, (10, 20, 30))
    assert valid.all()


def test_chosen_bands_come_in_the_order_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", bands_of(10, 20, 30, 40), "rgb" + "b")
    with open_source(path, bands=(4, 2, 2)) as source:
        assert np.allclose(read_all(source)[0][:, 5, 5] * 255, (40, 20, 20))


@pytest.mark.parametrize("count", [1, 3])
def test_one_band_is_shown_as_equal_bands(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "a.tif", bands_of(*range(50, 50 + count)))
    with open_source(path, bands=(1,)) as source:
        assert np.allclose(read_all(source)[0][:, 5, 5] * 255, (50, 50, 50))
        assert "equal bands" in source.notices[0]


def test_bands_that_are_not_named_are_taken_in_order_with_a_notice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", bands_of(1, 2, 3, 4, dtype="uint8"), photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * 3
    with open_source(path) as source:
        assert source.bands == (1, 2, 3)
        assert "does not say" in source.notices[0]


def test_palette_is_expanded(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    pixels = np.tile(np.arange(4, dtype=np.uint8).repeat(10), (40, 1))[None]
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=40, count=1, dtype="uint8", crs=UTM, transform=NORTH_UP
    ) as file:
        file.write(pixels)
        file.write_colormap(1, {0: (255, 0, 0), 1: (0, 255, 0), 2: (9, 8, 7), 3: (1, 2, 3, 255)})
    with open_source(str(path)) as source:
        image, valid, _ = read_all(source)
    assert np.allclose(image[:, 20, [5, 15, 25]].T * 255, [(255, 0, 0), (0, 255, 0), (9, 8, 7)])
    assert valid.all()


def test_too_few_bands_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "two.tif", bands_of(1, 2))
    with pytest.raises(ModelError, match=r"sees 3 bands and .*two\.tif offers 2"):
        open_source(path)


@pytest.mark.parametrize(("bands", "reason"), [((1, 2, 9), "no band 9"), ((4, 2, 3), "transparency")])
def test_impossible_bands_are_refused(tmp_path: Path, bands: tuple[int, ...], reason: str) -> None:
    path = write(tmp_path / "a.tif", bands_of(1, 2, 3, 255), "rgba")
    with pytest.raises(JobError, match=reason):
        open_source(path, bands=bands)


# ---------------------------------------------------------------------------------------- validity


def test_transparent_pixels_are_invalid(tmp_path: Path) -> None:
    pixels = bands_of(90, 90, 90, 255)
    pixels[3, :, :15] = 0
    with open_source(write(tmp_path / "a.tif", pixels, "rgba")) as source:
        image, valid, _ = read_all(source)
    assert not valid[:, :15].any()
    assert valid[:, 15:].all()
    assert not image[:, ~valid].any()


def test_nodata_is_invalid_only_where_all_bands_have_it(tmp_path: Path) -> None:
    pixels = bands_of(90, 0, 90)
    pixels[:, :, :15] = 0
    with open_source(write(tmp_path / "a.tif", pixels, nodata=0)) as source:
        valid = read_all(source)[1]
    assert not valid[:, :15].any()
    assert valid[:, 15:].all()


def test_mask_of_the_file_is_heeded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", bands_of(90, 90, 90))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        mask = np.full((40, 40), 255, np.uint8)
        mask[:7] = 0
        file.write_mask(mask)
    with open_source(path) as source:
        valid = read_all(source)[1]
    assert not valid[:7].any()
    assert valid[7:].all()


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_invalid(tmp_path: Path, hole: float) -> None:
    pixels = np.random.default_rng(0).uniform(0, 0.3, (3, 40, 40)).astype(np.float32)
    pixels[1, 10:20, 10:20] = hole
    with open_source(write(tmp_path / "a.tif", pixels)) as source:
        image, valid, _ = read_all(source)
    assert np.isfinite(image).all()
    assert (~valid).sum() == 100
    assert image[:, valid].max() > 0.95  # reflectance is stretched


@pytest.mark.parametrize("shade", [0, 255])
def test_collar_without_nodata_is_invalid(tmp_path: Path, shade: int) -> None:
    pixels = np.random.default_rng(0).integers(20, 230, (3, 300, 300), dtype=np.uint8)
    rows, columns = np.mgrid[:300, :300]
    wedge = columns < 90 - rows * 0.2
    pixels[:, wedge] = shade
    pixels[:, 200:220, 200:220] = shade  # a roof, or a shadow
    pixels[:, 100:200, 200:300] = 255 - shade  # sand or water, which fill no corner
    with open_source(write(tmp_path / "a.tif", pixels)) as source:
        valid = read_all(source)[1]
    assert np.array_equal(valid, ~wedge)


def test_jpeg_ringing_at_the_collar_is_invalid_too(tmp_path: Path) -> None:
    pixels = ndimage.zoom(np.random.default_rng(0).uniform(40, 200, (3, 40, 40)), (1, 8, 8), order=1).astype(
        np.uint8
    )
    wedge = np.mgrid[:320, :320][1] < 101
    pixels[:, wedge] = 255
    path = write(tmp_path / "a.tif", pixels, compress="jpeg", photometric="ycbcr", jpeg_quality=90)
    with open_source(path) as source:
        valid = read_all(source)[1]
    assert (valid != ~wedge)[:, :97].mean() < 0.001
    assert valid[:, 105:].all()


def test_collar_is_the_same_in_any_window(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 400, 400), dtype=np.uint8)
    blobs = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(400, 400)), 25)
    pixels[:, blobs > 0.005] = 255
    pixels[:, -9:, :9] = 255
    with open_source(write(tmp_path / "a.tif", pixels)) as source:
        grid = plan_grid(source, 1.0)
        whole = source.read(grid, 0, 0, 400, 400)[1]
        assert 0.05 < (~whole).mean() < 0.6
        for row, col in [(0, 0), (33, 71), (150, 201), (300, 300)]:
            assert np.array_equal(
                source.read(grid, row, col, 100, 100)[1], whole[row : row + 100, col : col + 100]
            )


def test_opening_keeps_exactly_what_the_square_covers() -> None:
    image = np.full((1, 200, 200), 100, np.uint8)
    image[:, 50:82, 60:92] = 0  # exactly the square
    image[:, 120:151, 60:91] = 0  # one pixel less
    collar = find_collar(image)
    assert collar[50:82, 60:92].all()
    assert collar.sum() == 32 * 32


def test_declared_nodata_means_that_white_is_imagery(tmp_path: Path) -> None:
    with open_source(write(tmp_path / "a.tif", bands_of(255, 255, 255, size=100), nodata=0)) as source:
        assert read_all(source)[1].all()


# -------------------------------------------------------------------------------------- radiometry


def test_uint8_is_divided_by_255(tmp_path: Path) -> None:
    with open_source(write(tmp_path / "a.tif", bands_of(0, 51, 255))) as source:
        assert np.allclose(read_all(source)[0][:, 3, 3], (0, 0.2, 1.0))


def test_sixteen_bits_are_stretched_between_percentiles(tmp_path: Path) -> None:
    """11 bits of imagery, a nodata border and a few glints: neither may flatten the rest."""
    pixels = np.random.default_rng(0).uniform(200, 1200, (3, 200, 200)).astype(np.uint16)
    pixels[:, :20] = 0
    pixels[:, 100, 100:104] = 60_000
    with open_source(write(tmp_path / "a.tif", pixels, nodata=0)) as source:
        image, valid, _ = read_all(source)
    assert not valid[:20].any()
    assert np.percentile(image[:, valid], (5, 50, 95)) == pytest.approx((0.05, 0.5, 0.95), abs=0.02)


def test_large_raster_without_overviews_is_sampled_in_patches(tmp_path: Path) -> None:
    """A decimated read would decode all of it; the patches see all of its brightness nevertheless."""
    slope = np.broadcast_to(np.linspace(100, 1100, 4200), (1, 4200, 4200)).astype(np.uint16)
    path = write(tmp_path / "a.tif", slope, tiled=True, compress="deflate", nodata=0)
    with rasterio.open(path) as file:
        windows = [window for window, _ in sample_windows(file)]
        assert sum(w.width * w.height for w in windows) < 4200 * 4200 / 10
        assert all(w.col_off + w.width <= 4200 and w.row_off + w.height <= 4200 for w in windows)
    with open_source(path) as source:
        image, _ = source.read(plan_grid(source, 1.0), 0, 0, 1, 4200)
    assert np.abs(image[0, 0] - np.linspace(0, 1, 4200)).max() < 0.03


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_constant_raster_is_read(tmp_path: Path, dtype: str) -> None:
    with open_source(write(tmp_path / "a.tif", bands_of(7, 7, 7, dtype=dtype))) as source:
        image, valid, _ = read_all(source)
    assert np.isfinite(image).all()
    assert valid.all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_raster_of_nodata_only_is_read(tmp_path: Path, dtype: str) -> None:
    with open_source(write(tmp_path / "a.tif", bands_of(0, 0, 0, dtype=dtype), nodata=0)) as source:
        assert not read_all(source)[1].any()


# ------------------------------------------------------------------------------------- resampling


@pytest.mark.parametrize("gsd_m", [0.37, 0.7, 1.0, 1.3, 2.0, 3.7])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_windows_agree_on_what_they_share(tmp_path: Path, gsd_m: float, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(1, 250, (3, 150, 170)).astype(dtype)
    pixels[:, 40:90, 50:80] = 0
    with open_source(write(tmp_path / "a.tif", pixels, nodata=0)) as source:
        grid = plan_grid(source, gsd_m)
        image, valid = source.read(grid, -8, -8, grid.height + 16, grid.width + 16)
        rng = np.random.default_rng(1)
        for _ in range(10):
            row, col = (int(rng.integers(-8, size - 8)) for size in (grid.height, grid.width))
            part, part_valid = source.read(grid, row, col, 17, 16)
            inside = np.s_[row + 8 : row + 25, col + 8 : col + 24]
            shared = valid[inside].shape
            assert np.array_equal(part_valid[: shared[0], : shared[1]], valid[inside])
            assert np.abs(part[:, : shared[0], : shared[1]] - image[:, *inside]).max() < 1e-6


def test_shrinking_averages_and_leaves_invalid_pixels_out(tmp_path: Path) -> None:
    pixels = np.zeros((3, 4, 6), np.uint8)
    pixels[:, :2] = (10, 30, 50, 50, 0, 0)
    pixels[:, 2:] = (20, 20, 0, 80, 0, 9)
    with open_source(write(tmp_path / "a.tif", pixels, nodata=0)) as source:
        grid = plan_grid(source, 2.0)
        image, valid = source.read(grid, 0, 0, grid.height, grid.width)
    assert (grid.height, grid.width) == (2, 3)
    assert np.allclose(image[0] * 255, [(20, 50, 0), (20, 80, 9)], atol=1e-4)
    assert np.array_equal(valid, [(True, True, False), (True, True, True)])


def test_shrinking_keeps_the_mean_at_any_ratio(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 270, 270), dtype=np.uint8)
    with open_source(write(tmp_path / "a.tif", pixels)) as source:
        grid = plan_grid(source, 2.7)
        image, _ = source.read(grid, 0, 0, grid.height, grid.width)
    assert image.mean() == pytest.approx(pixels.mean() / 255, abs=1e-4)


def test_enlarging_follows_a_slope(tmp_path: Path) -> None:
    slope = np.broadcast_to(np.arange(20, 220, 2, dtype=np.uint8), (3, 20, 100))
    with open_source(write(tmp_path / "a.tif", np.ascontiguousarray(slope))) as source:
        grid = plan_grid(source, 0.4)
        image, _ = source.read(grid, 0, 0, grid.height, grid.width)
    x_m = (np.arange(grid.width) + 0.5) * grid.source_px[0]
    assert np.allclose(image[0, 10, 4:-4] * 255, (20 + 2 * (x_m - 0.5))[4:-4], atol=0.01)


def test_overviews_are_used_and_agree_with_the_pixels(tmp_path: Path) -> None:
    pixels = ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 255, (3, 600, 601)), (0, 9, 9))
    pixels = ((pixels - pixels.min()) * 10 % 250).astype(np.uint8)
    path = write(tmp_path / "a.tif", ndimage.gaussian_filter(pixels, (0, 3, 3)))
    with open_source(path) as source:
        grid = plan_grid(source, 7.3)
        without, _ = source.read(grid, 0, 0, grid.height, grid.width)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
        file.write(np.zeros_like(pixels))  # the full resolution is now another image …
        file.update_tags(ns="rio_overview", resampling="average")
    with open_source(path) as source:
        with_overviews, _ = source.read(grid, 0, 0, grid.height, grid.width)
    assert np.abs(with_overviews - without)[:, :-1, :-1].max() < 0.03  # … which was not read


def test_windows_outside_are_invalid(tmp_path: Path) -> None:
    with open_source(write(tmp_path / "a.tif", bands_of(9, 9, 9))) as source:
        grid = plan_grid(source, 1.0)
        for row, col in [(-50, 0), (0, 40), (500, 500), (0, -32)]:
            image, valid = source.read(grid, row, col, 32, 32)
            assert not image.any()
            assert not valid.any()


# ------------------------------------------------------------------------------ ground resolution


@pytest.mark.parametrize(
    ("crs", "transform", "expected_m"),
    [
        ("EPSG:3857", Affine(1, 0, 2_000_000, 0, -1, 8_399_737.9), (0.5015, 0.5005)),  # 60° N
        ("EPSG:4326", Affine(1e-5, 0, 18.0, 0, -1e-5, 60.0), (0.5580, 1.1141)),
        (UTM, Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000), (0.5002, 0.5002)),
        (UTM, Affine(0.5, 0, 500_000, 0, 0.5, 4_000_000), (0.5002, 0.5002)),  # south up
        (UTM, Affine.translation(5e5, 4e6) * Affine.rotation(30) * Affine.scale(0.5, -0.7), (0.5002, 0.7003)),
        ("EPSG:2263", Affine(1, 0, 980_000, 0, -1, 200_000), (0.3048, 0.3048)),  # US survey feet
        ('LOCAL_CS["site",UNIT["foot",0.3048]]', Affine(2, 0, 0, 0, -2, 0), (0.6096, 0.6096)),
    ],
)
def test_ground_resolution_is_true(
    tmp_path: Path, crs: str, transform: Affine, expected_m: tuple[float, float]
) -> None:
    with open_source(write(tmp_path / "a.tif", bands_of(1, 2, 3), crs=crs, transform=transform)) as source:
        assert source.gsd_m == pytest.approx(expected_m, rel=1e-3)
        grid = plan_grid(source, 0.3)
        x_m, y_m = (px * m for px, m in zip(grid.source_px, source.gsd_m, strict=True))
        assert (x_m, y_m) == pytest.approx((grid.gsd_m, grid.gsd_m), rel=1e-6)
        assert grid.gsd_m == pytest.approx(0.3, rel=0.006)
        corner = grid.transform @ (0, 0) if hasattr(Affine, "__matmul__") else grid.transform * (0, 0)
        assert corner == pytest.approx((transform.c, transform.f))


def test_resolution_within_half_a_percent_keeps_the_pixels(tmp_path: Path) -> None:
    """UTM's scale factor must not blur imagery that has the model's resolution."""
    path = write(tmp_path / "a.tif", bands_of(1, 2, 3), transform=Affine(0.5, 0, 5e5, 0, -0.5, 4e6))
    with open_source(path) as source:
        grid = plan_grid(source, 0.5)
    assert grid.source_px == (1.0, 1.0)
    assert grid.gsd_m == pytest.approx(0.5002, abs=1e-4)


def test_control_points_place_a_raster(tmp_path: Path) -> None:
    corners = [(0, 0), (0, 40), (40, 0), (40, 40)]
    path = write(tmp_path / "a.tif", bands_of(1, 2, 3), crs=None, transform=None)
    with rasterio.open(path, "r+") as file:
        file.gcps = (
            [
                GroundControlPoint(row=r, col=c, x=500_000 + 0.5 * c, y=4_000_000 - 0.6 * r)
                for r, c in corners
            ],
            rasterio.CRS.from_string(UTM),
        )
    with open_source(path) as source:
        assert source.gsd_m == pytest.approx((0.5002, 0.6002), rel=1e-3)
        assert source.transform.almost_equals(Affine(0.5, 0, 500_000, 0, -0.6, 4_000_000), 1e-6)
        assert source.notices == ()


def test_raster_without_crs_needs_the_resolution(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", bands_of(1, 2, 3), driver="PNG", crs=None, transform=None)
    with (
        open_source(path) as source,
        pytest.raises(GroundResolutionError, match=r"a\.png .* state the ground"),
    ):
        plan_grid(source, 1.0)
    with open_source(path, gsd_m=0.5) as source:
        grid = plan_grid(source, 1.0)
    assert grid.crs is None
    assert (grid.width, grid.height, grid.source_px) == (20, 20, (2.0, 2.0))
    assert grid.transform == Affine(2, 0, 0, 0, -2, 0)  # where QGIS shows it: rows go down


def test_world_file_places_a_raster_without_crs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", bands_of(1, 2, 3), driver="PNG", crs=None, transform=None)
    (tmp_path / "a.pgw").write_text("0.6\n0\n0\n-0.6\n1000.3\n1999.7\n")
    with open_source(path, gsd_m=0.6) as source:
        assert source.crs is None
        assert source.transform.almost_equals(Affine(0.6, 0, 1000, 0, -0.6, 2000))
    with open_source(path, crs=UTM) as source:
        assert source.gsd_m[0] == pytest.approx(0.6, rel=0.01)


# ----------------------------------------------------------------------------------------- refusals


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"no file .*gone\.tif"):
        open_source(str(tmp_path / "gone.tif"))


@pytest.mark.parametrize("content", [b"", b"not a raster", b"II*\0" + b"\0" * 50])
def test_what_is_no_raster_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(RasterError, match=r"a\.tif is no raster"):
        open_source(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_truncated_file_is_refused(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 300, 300)).astype(dtype)
    path = Path(write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RasterError, match=r"a\.tif .* damaged"), open_source(str(path)) as source:
        read_all(source)


def test_damaged_block_is_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 300, 300), dtype=np.uint8)
    path = Path(
        write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = b"\xff" * 3000
    path.write_bytes(content)
    with pytest.raises(RasterError, match=r"a\.tif .* damaged"), open_source(str(path)) as source:
        read_all(source)


def test_mosaic_with_missing_parts_is_refused(tmp_path: Path) -> None:
    part = write(tmp_path / "part.tif", bands_of(1, 2, 3))
    from rasterio.shutil import copy

    copy(part, tmp_path / "mosaic.vrt", driver="VRT")
    open_source(str(tmp_path / "mosaic.vrt")).close()
    Path(part).unlink()
    with pytest.raises(RasterError, match=r"missing.*part\.tif"):
        open_source(str(tmp_path / "mosaic.vrt"))


@pytest.mark.parametrize("gsd_m", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_resolution_is_refused(tmp_path: Path, gsd_m: float) -> None:
    with pytest.raises(JobError, match="makes no sense"):
        open_source(write(tmp_path / "a.tif", bands_of(1, 2, 3)), gsd_m=gsd_m)


def test_pixels_without_size_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", bands_of(1, 2, 3), transform=Affine(0, 0, 5e5, 0, 0, 4e6))
    with open_source(path) as source, pytest.raises(GroundResolutionError, match=r"a\.tif have no size"):
        plan_grid(source, 1.0)


def test_place_outside_of_the_crs_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", bands_of(1, 2, 3), transform=Affine(1, 0, 5e9, 0, -1, 4e12))
    with open_source(path) as source, pytest.raises(GroundResolutionError, match=r"a\.tif lies outside"):
        plan_grid(source, 1.0)


def test_unknown_crs_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", bands_of(1, 2, 3), crs=None)
    with pytest.raises(JobError, match="is no CRS"):
        open_source(path, crs="EPSG:nonsense")


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="complex"):
        open_source(write(tmp_path / "a.tif", bands_of(1, 2, 3, dtype="complex64")))
