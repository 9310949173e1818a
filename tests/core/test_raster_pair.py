"""Two images read as one: the one before on the grid of the one after, moved, recoloured, or absent."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from aftermap.core.errors import RasterError
from aftermap.core.inference.pipeline import predict_raster, rows_file
from aftermap.core.raster.grid import Grid, plan_grid
from aftermap.core.raster.pair import PairSource, fit_pair
from aftermap.core.raster.placement import Placement
from aftermap.core.raster.region import Region
from aftermap.core.raster.source import open_source
from aftermap.core.raster.tiling import plan_tiles
from aftermap.core.raster.warping import WarpedSource

from .towns import NORTH_UP, UTM, draw_town, write_image

FILL = np.array([0.4, 0.5, 0.6], dtype=np.float32)


def open_pair(post: str, pre: str, **options: object) -> tuple[PairSource, Grid]:
    after = open_source(post, gsd_m=0.5)
    grid = plan_grid(after, 0.5)
    return fit_pair(after, open_source(pre, gsd_m=0.5), grid, FILL, **options), grid  # type: ignore[arg-type]


def read_all(pair: PairSource, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What it shows before and after, and whether something is seen before."""
    area = (0, 0, grid.height, grid.width)
    image, valid = pair.read(grid, *area)
    before, seen = pair.read_pre(*area)
    assert image.dtype == np.float32
    assert np.array_equal(image[:3], before)
    assert np.array_equal(valid, pair.post.read(grid, *area)[1])
    return image[:3], image[3:], seen


# ------------------------------------------------------------------------------------------- reading


def test_an_image_beside_itself_is_itself(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", draw_town(300)[0])
    pair, grid = open_pair(path, path)
    before, after, seen = read_all(pair, grid)
    assert seen.all()
    assert np.allclose(before, after, atol=1e-5)
    assert pair.bands == (1, 2, 3, 1, 2, 3)
    assert pair.notices == ()


def test_without_an_image_before_all_of_it_is_fill(tmp_path: Path) -> None:
    after = open_source(write_image(tmp_path / "a.tif", draw_town(100)[0]))
    grid = plan_grid(after, 0.5)
    before, _, seen = read_all(fit_pair(after, None, grid, FILL), grid)
    assert (before == FILL[:, None, None]).all()
    assert not seen.any()


def test_where_nothing_is_known_before_there_is_exactly_the_fill(tmp_path: Path) -> None:
    pixels = draw_town(300)[0]
    post = write_image(tmp_path / "post.tif", pixels)
    pixels[:, 100:150, 40:80] = 0
    there = NORTH_UP * Affine.translation(20, 0)
    pre = write_image(tmp_path / "pre.tif", pixels[:, :, 20:], nodata=0, transform=there)
    pair, grid = open_pair(post, pre)
    before, after, seen = read_all(pair, grid)
    assert not seen[:, :20].any()
    assert not seen[101:149, 41:79].any()
    assert seen[:100, 21:].all()
    assert (before[:, ~seen] == FILL[:, None]).all()
    assert np.abs(before - after)[:, seen].mean() < 0.01
    assert any("covers 9" in notice for notice in pair.notices)


def test_windows_agree_to_the_bit(tmp_path: Path) -> None:
    pixels = draw_town(400)[0]
    post = write_image(tmp_path / "post.tif", pixels)
    rotated = Affine.translation(500_100, 3_999_990) * Affine.rotation(20) * Affine.scale(0.7, -0.7)
    pre = write_image(tmp_path / "pre.tif", pixels, transform=rotated, crs="EPSG:32637")
    pair, grid = open_pair(post, pre, align=False)
    whole, _ = pair.read(grid, -20, -20, 440, 440)
    for row, col in ((-7, 33), (101, 5), (250, 290)):
        part, _ = pair.read(grid, row, col, 90, 77)
        assert np.array_equal(part, whole[:, row + 20 : row + 110, col + 20 : col + 97])


def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A picture of the ground by UTM coordinates, (3, …), 0 to 255."""
    phases = (x / 11 + y / 17, x / 23 - y / 13, (x + y) / 29)
    return np.stack([127.5 + 100 * np.sin(phase) for phase in phases])


def picture(path: Path, crs: str, transform: Affine, size: int) -> str:
    columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    x, y = transform * (columns, rows)
    x, y = pyproj.Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y)
    return write_image(path, np.round(waves(x, y)).astype(np.uint8), crs=crs, transform=transform)


@pytest.mark.parametrize(
    ("crs", "transform", "size"),
    [
        (UTM, Affine(0.3, 0, 500_010, 0, -0.3, 3_999_990), 500),
        (UTM, Affine(1.0, 0, 499_990, 0, -1.0, 4_000_010), 250),
        (UTM, Affine.translation(499_980, 3_999_950) * Affine.rotation(35) * Affine.scale(0.6, -0.6), 400),
        ("EPSG:4326", Affine(6e-6, 0, 38.9999, 0, -5e-6, 36.1441), 400),
        ("EPSG:3857", Affine(0.7, 0, 4_341_450, 0, -0.7, 4_320_560), 300),
        ("EPSG:32638", Affine(0.5, 0, -40_120, 0, -0.5, 4_016_760), 800),
    ],
)
def test_each_place_on_the_ground_is_shown_where_it_lies(
    tmp_path: Path, crs: str, transform: Affine, size: int
) -> None:
    post = picture(tmp_path / "post.tif", UTM, NORTH_UP, 400)
    with open_source(post) as after, open_source(picture(tmp_path / "pre.tif", crs, transform, size)) as pre:
        grid = plan_grid(after, 0.5)
        expected, _ = after.read(grid, 0, 0, 400, 400)
        image, seen = WarpedSource(Placement(pre, grid, after)).read(0, 0, 400, 400)
    assert seen.mean() > 0.2
    assert np.abs(image - expected)[:, seen].max() < 0.02


def test_images_that_do_not_say_where_they_lie_show_the_same_area(tmp_path: Path) -> None:
    pixels = draw_town(300)[0]
    half = pixels.reshape(3, 150, 2, 150, 2).mean(axis=(2, 4)).astype(np.uint8)
    nowhere = {"crs": None, "transform": Affine.identity()}
    post = write_image(tmp_path / "post.tif", pixels, **nowhere)
    pair, grid = open_pair(post, write_image(tmp_path / "pre.tif", half, **nowhere))
    before, after, seen = read_all(pair, grid)
    assert seen.all()
    assert abs(pair.shift.rows_px) < 0.5
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9
    assert any("taken to show the same area" in notice for notice in pair.notices)


def test_only_the_window_is_in_memory(tmp_path: Path) -> None:
    size = 12_000
    for name in ("post.tif", "pre.tif"):
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", width=size, height=size, count=3, dtype="uint8", crs=UTM,
            transform=NORTH_UP, tiled=True, sparse_ok=True,
        ) as file:  # fmt: skip
            file.write(draw_town(512)[0], window=((6000, 6512), (6000, 6512)))
    tracemalloc.start()
    pair, grid = open_pair(str(tmp_path / "post.tif"), str(tmp_path / "pre.tif"))
    pair.read(grid, 6000, 6000, 512, 512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size * size * 3 / 10


# ------------------------------------------------------------------------------------------- fitting


def test_a_darker_coarser_shifted_image_in_another_crs_is_made_to_fit(tmp_path: Path) -> None:
    pixels, _ = draw_town(800)
    post = write_image(tmp_path / "post.tif", pixels)
    dark = np.zeros_like(pixels)
    dark[:, 6:, :-6] = ((pixels / 255.0) ** 1.6 * 200).astype(np.uint8)[:, :-6, 6:]
    moved = write_image(tmp_path / "moved.tif", dark)
    coarse = str(tmp_path / "pre.tif")
    with rasterio.open(moved) as file, rasterio.vrt.WarpedVRT(file, crs="EPSG:4326") as view:
        shape = (3, round(view.height * 0.6), round(view.width * 0.6))
        scale = Affine.scale(view.width / shape[2], view.height / shape[1])
        small = view.read(out_shape=shape, resampling=rasterio.enums.Resampling.average)
        write_image(Path(coarse), small, crs="EPSG:4326", transform=view.transform * scale, nodata=0)
    pair, grid = open_pair(post, coarse)
    assert pair.shift.is_consistent
    assert pair.shift.offset_px == pytest.approx((6, -6), abs=0.6)
    assert pair.shift.moved_m == pytest.approx((3.0, 3.0), abs=0.3)
    assert any("3.0 m west and 3.0 m south" in n or "moved to fit" in n for n in pair.notices)
    before, after, seen = read_all(pair, grid)
    assert np.corrcoef(before[:, seen].ravel(), after[:, seen].ravel())[0, 1] > 0.85
    assert np.abs(before[:, seen].mean(axis=1) - after[:, seen].mean(axis=1)).max() < 0.02


def test_what_does_not_fit_is_not_moved_and_said(tmp_path: Path) -> None:
    post = write_image(tmp_path / "post.tif", draw_town(500, 1)[0])
    pair, _ = open_pair(post, write_image(tmp_path / "pre.tif", draw_town(500, 2)[0]))
    assert pair.shift.offset_px == (0.0, 0.0)
    assert any("was not moved" in notice for notice in pair.notices)
    unaligned, _ = open_pair(post, str(tmp_path / "pre.tif"), align=False)
    assert unaligned.notices == ()


def test_the_fit_is_that_of_the_part_that_is_wanted(tmp_path: Path) -> None:
    """A mosaic of two parts that are shifted differently; the smaller one is not looked at."""
    pixels, _ = draw_town(2500)
    post = write_image(tmp_path / "post.tif", pixels)
    parts = np.roll(pixels[:, :900], 8, axis=2), np.roll(pixels[:, 900:], -12, axis=2)
    pre = write_image(tmp_path / "pre.tif", np.concatenate(parts, axis=1))
    pair, _ = open_pair(post, pre, bounds_px=(2350, 1200, 2450, 1300))
    assert pair.shift.offset_px == pytest.approx((0, -12), abs=0.3)


def test_the_same_twice(tmp_path: Path) -> None:
    post = write_image(tmp_path / "post.tif", draw_town(500)[0])
    pre = write_image(tmp_path / "pre.tif", np.roll(draw_town(500)[0], 3, axis=1))
    (one, grid), (other, _) = open_pair(post, pre), open_pair(post, pre)
    assert one.shift == other.shift
    assert np.array_equal(one.read(grid, 9, 9, 99, 99)[0], other.read(grid, 9, 9, 99, 99)[0])


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        ({"transform": Affine(0.5, 0, 700_000, 0, -0.5, 4_000_000)}, "do not overlap"),
        ({"crs": "EPSG:4326", "transform": Affine(5e-6, 0, -100, 0, -5e-6, 40)}, "do not overlap"),
        ({"crs": None}, "has no CRS"),
        ({"crs": None, "transform": Affine.identity()}, "does not say where it lies"),
    ],
)
def test_images_that_cannot_be_laid_over_each_other(
    tmp_path: Path, profile: dict[str, object], reason: str
) -> None:
    post = write_image(tmp_path / "post.tif", draw_town(100)[0])
    pre = write_image(tmp_path / "pre.tif", draw_town(100)[0], **profile)
    with pytest.raises(RasterError, match=rf"{reason}.*: "):
        open_pair(post, pre)


@pytest.mark.parametrize("size", [(100, 80), (98, 100), (197, 200), (50, 100)])
def test_images_without_georeference_of_other_proportions_are_not_stretched_onto_each_other(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    nowhere = {"crs": None, "transform": Affine.identity()}
    post = write_image(tmp_path / "post.tif", draw_town(100)[0], **nowhere)
    pre = write_image(tmp_path / "pre.tif", draw_town(200)[0][:, : size[0], : size[1]], **nowhere)
    with pytest.raises(RasterError, match=rf"proportions differ \({size[1]} x {size[0]} and 100 x 100 "):
        open_pair(post, pre)


@pytest.mark.parametrize("size", [(50, 50), (199, 200), (33, 34), (101, 100)])
def test_images_without_georeference_of_other_size_are_scaled_which_is_said(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    nowhere = {"crs": None, "transform": Affine.identity()}
    post = write_image(tmp_path / "post.tif", draw_town(100)[0], **nowhere)
    pre = write_image(tmp_path / "pre.tif", draw_town(200)[0][:, : size[0], : size[1]], **nowhere)
    pair, _ = open_pair(post, pre, align=False)
    assert any(
        f"sizes differ ({size[1]} x {size[0]} and 100 x 100 pixels)" in notice and "scaled" in notice
        for notice in pair.notices
    )
    same, _ = open_pair(post, post, align=False)
    assert not any("sizes differ" in notice for notice in same.notices)


def test_a_rotated_image_whose_box_alone_overlaps(tmp_path: Path) -> None:
    post = write_image(tmp_path / "post.tif", draw_town(100)[0])
    # its corner of the box that lies over the other image is empty
    turned = Affine.translation(499_990, 4_000_060) * Affine.rotation(-45) * Affine.scale(1, -1)
    pre = write_image(tmp_path / "pre.tif", draw_town(100)[0], transform=turned)
    with open_source(post) as after, open_source(pre) as before:
        grid = plan_grid(after, 0.5)
        covered = Placement(before, grid, after).coverage((0, 0, 100, 100))
    assert 0.0 < covered < 1.0
    far = Affine.translation(500_052, 4_000_140) * Affine.rotation(-45) * Affine.scale(1, -1)
    with pytest.raises(RasterError, match="do not overlap"):
        open_pair(post, write_image(tmp_path / "far.tif", draw_town(100)[0], transform=far))


# ----------------------------------------------------------------------------------------- pipeline


class Difference:
    """A network whose probability is how much brighter it is after than before."""

    device, precision = "cpu", "float32"
    fill = np.full(6, 0.5, dtype=np.float32)

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        return np.clip(0.5 + tiles[:, 3:].mean(axis=1) - tiles[:, :3].mean(axis=1), 0, 1)[:, None]


def test_the_pipeline_reads_pairs(tmp_path: Path) -> None:
    pixels = draw_town(200)[0] // 2
    post = write_image(tmp_path / "post.tif", pixels)
    with open_source(post) as after, open_source(post) as before:
        grid = plan_grid(after, 0.5)
        pair = fit_pair(after, before, grid, FILL)
        region = Region(grid)
        plan = plan_tiles(grid, region, tile_px=64, margin_px=16, stride_px=8)
        for _ in predict_raster(pair, grid, region, plan, Difference(), tmp_path / "work"):
            pass
    rows = np.frombuffer(rows_file(tmp_path / "work").read_bytes(), dtype=np.uint8)
    assert rows.size == grid.width * grid.height
    assert (np.abs(rows.astype(int) - 127) <= 1).all()


def test_a_pair_has_the_place_and_size_of_the_image_after(tmp_path: Path) -> None:
    post = write_image(tmp_path / "post.tif", draw_town(100)[0])
    smaller = Affine(0.7, 0, 500_000, 0, -0.7, 4_000_000)
    pair, _ = open_pair(post, write_image(tmp_path / "pre.tif", draw_town(80)[0], transform=smaller))
    assert (pair.crs, pair.transform, pair.path) == (CRS.from_string(UTM), NORTH_UP, post)
    assert (pair.width, pair.height, pair.dtype) == (100, 100, "uint8")
    assert pair.gsd_m == pytest.approx((0.5, 0.5), rel=1e-3)
