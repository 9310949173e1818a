"""The pipeline from a raster to probabilities: seams, skipping, resuming, closing, errors."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy import ndimage

from aftermap.core.errors import ModelError, OutputError, RasterError
from aftermap.core.inference.pipeline import predict_raster, rows_file
from aftermap.core.raster.grid import Grid, plan_grid
from aftermap.core.raster.probability import NODATA, write_vrt
from aftermap.core.raster.region import Region, plan_region
from aftermap.core.raster.source import RasterSource, open_source
from aftermap.core.raster.tiling import plan_tiles

UTM = "EPSG:32637"
STRIDE, MARGIN, TILE = 8, 16, 64


class FakeNetwork:
    """A network by a function of one image (bands, h, w) → (h, w); it counts and remembers."""

    device = "cpu"
    precision = "float32"
    fill = np.array([0.4, 0.5, 0.6], dtype=np.float32)

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.function = function
        self.calls = 0
        self.pixels = 0

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        assert tiles.dtype == np.float32
        assert tiles.shape[-1] % STRIDE == 0
        assert tiles.shape[-2] % STRIDE == 0
        self.calls += len(tiles)
        self.pixels += tiles[:, 0].size
        return np.stack([self.function(t) for t in tiles])[:, None].astype(np.float32)


def red(tile: np.ndarray) -> np.ndarray:
    return tile[0]


def smooth(tile: np.ndarray) -> np.ndarray:
    return ndimage.uniform_filter(tile.mean(axis=0), 2 * (MARGIN // 2) + 1, mode="nearest")


def write_raster(path: Path, pixels: np.ndarray, **profile: object) -> Path:
    settings = {"crs": UTM, "transform": Affine(1, 0, 500_000, 0, -1, 4_000_000), **profile}
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count, dtype=pixels.dtype, **settings
    ) as file:
        file.write(pixels)
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(20, 230, (3, height, width))
    return ndimage.gaussian_filter(coarse, (0, 2, 2)).astype(np.uint8)


def predict(
    source: RasterSource,
    network: FakeNetwork,
    work: Path,
    region: Callable[[Grid], Region] = Region,
    *,
    stop_after: int | None = None,
    gsd_m: float = 1.0,
    **options: object,
) -> np.ndarray:
    grid = plan_grid(source, gsd_m)
    covered = region(grid)
    plan = plan_tiles(grid, covered, tile_px=TILE, margin_px=MARGIN, stride_px=STRIDE)
    run = predict_raster(source, grid, covered, plan, network, work, **options)
    for count, _progress in enumerate(run):
        if count == stop_after:
            run.close()
            return np.empty(0)
    return np.fromfile(rows_file(work), dtype=np.uint8).reshape(grid.height, grid.width)


def square(top: float, left: float, bottom: float, right: float) -> Callable[[Grid], Region]:
    """An extent in pixels of a raster of 1 m at (500 000, 4 000 000)."""
    box = (500_000 + left, 4_000_000 - bottom, 500_000 + right, 4_000_000 - top)
    return lambda grid: plan_region(grid, extent=box)


@pytest.mark.parametrize("size", [(200, 300), (64, 64), (17, 23), (65, 129), (1, 400)])
def test_every_pixel_is_predicted_once(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = noise(*size)
    with open_source(str(write_raster(tmp_path / "a.tif", pixels))) as source:
        found = predict(source, FakeNetwork(red), tmp_path / "work")
    assert np.array_equal(found, np.rint(pixels[0] / np.float32(255) * 254).astype(np.uint8))


@pytest.mark.parametrize("value", [0.0, 0.25, 0.3, 0.7501, 1.0])
def test_constant_network_gives_constant_map(tmp_path: Path, value: float) -> None:
    pixels = noise(300, 310)
    pixels[:, 100:180, 60:200] = 0  # whole tiles without data, and parts of others
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    network = FakeNetwork(lambda tile: np.full(tile.shape[1:], value, np.float32))
    with open_source(str(path)) as source:
        grid = plan_grid(source, 1.0)
        valid = source.read(grid, 0, 0, grid.height, grid.width)[1]
        region = square(20, 30, 280, 290)
        found = predict(source, network, tmp_path / "work", region)
    wanted = valid & region(grid).mask(0, 0, 300, 310)
    assert 0 < wanted.sum() < wanted.size
    expected = round(float(np.float32(value) * np.float32(254)))
    assert np.array_equal(found, np.where(wanted, expected, NODATA))


def test_local_network_leaves_no_seam(tmp_path: Path) -> None:
    pixels = noise(300, 260)
    with open_source(str(write_raster(tmp_path / "a.tif", pixels))) as source:
        found = predict(source, FakeNetwork(smooth), tmp_path / "work").astype(int)
    whole = np.rint(smooth(pixels.astype(np.float32) / 255) * 254).astype(int)
    # A filter of 8 px meets a tile's border only within the 8 px where that tile has little weight.
    assert np.abs(found - whole)[16:-16, 16:-16].mean() < 0.05
    assert np.abs(found - whole)[16:-16, 16:-16].max() <= 4


def test_small_extent_gives_what_the_whole_gives(tmp_path: Path) -> None:
    pixels = noise(300, 260)
    path = str(write_raster(tmp_path / "a.tif", pixels))
    with open_source(path) as source:
        whole = predict(source, FakeNetwork(smooth), tmp_path / "whole")
        part = predict(source, FakeNetwork(smooth), tmp_path / "part", square(101, 77, 141, 117))
    assert (part != NODATA).sum() == 40 * 40
    assert np.array_equal(part[101:141, 77:117] != NODATA, np.ones((40, 40), bool))
    assert np.array_equal(part[101:141, 77:117], whole[101:141, 77:117])


def test_small_extent_costs_little(tmp_path: Path) -> None:
    path = str(write_raster(tmp_path / "a.tif", noise(640, 640)))
    all_of_it, one_percent = FakeNetwork(red), FakeNetwork(red)
    with open_source(path) as source:
        predict(source, all_of_it, tmp_path / "whole")
        predict(source, one_percent, tmp_path / "part", square(300, 310, 364, 374))
    assert one_percent.pixels < all_of_it.pixels / 10


def test_tiles_without_data_are_not_computed(tmp_path: Path) -> None:
    pixels = np.zeros((3, 300, 300), dtype=np.uint8)
    pixels[:, 10:30, 10:30] = 90
    network = FakeNetwork(red)
    with open_source(str(write_raster(tmp_path / "a.tif", pixels, nodata=0))) as source:
        found = predict(source, network, tmp_path / "work")
    assert network.calls == 1
    assert (found != NODATA).sum() == 400


def test_raster_without_any_data_gives_nodata(tmp_path: Path) -> None:
    network = FakeNetwork(red)
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 90, 90), np.uint8), nodata=0)
    with open_source(str(path)) as source:
        found = predict(source, network, tmp_path / "work")
    assert network.calls == 0
    assert (found == NODATA).all()


def test_network_sees_fill_where_pixels_are_invalid(tmp_path: Path) -> None:
    pixels = np.full((3, 64, 64), 100, dtype=np.uint8)
    pixels[:, :, :32] = 0
    seen = []
    network = FakeNetwork(lambda tile: seen.append(tile.copy()) or tile[0])
    with open_source(str(write_raster(tmp_path / "a.tif", pixels, nodata=0))) as source:
        predict(source, network, tmp_path / "work")
    assert np.allclose(seen[0][:, :, :32], network.fill[:, None, None])
    assert np.allclose(seen[0][:, :, 32:], 100 / 255)


@pytest.mark.parametrize("stop_after", [0, 1, 7, 13, 26])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_resumed_run_equals_an_unbroken_one(tmp_path: Path, stop_after: int, batch_size: int) -> None:
    pixels = noise(280, 250)
    with open_source(str(write_raster(tmp_path / "a.tif", pixels))) as source:
        unbroken = predict(source, FakeNetwork(smooth), tmp_path / "unbroken", batch_size=batch_size)
        first, second = FakeNetwork(smooth), FakeNetwork(smooth)
        predict(source, first, tmp_path / "broken", stop_after=stop_after, batch_size=batch_size)
        resumed = predict(source, second, tmp_path / "broken", batch_size=batch_size)
    assert np.array_equal(resumed, unbroken)
    if stop_after == 26 and batch_size == 1:
        assert second.calls < 20  # of 30: it did continue


def test_half_written_row_is_not_trusted(tmp_path: Path) -> None:
    """A kill leaves bytes that the journal does not name, and perhaps half a line of journal."""
    pixels = noise(280, 250)
    work = tmp_path / "work"
    with open_source(str(write_raster(tmp_path / "a.tif", pixels))) as source:
        unbroken = predict(source, FakeNetwork(smooth), tmp_path / "unbroken")
        predict(source, FakeNetwork(smooth), work, stop_after=20)
        with rows_file(work).open("ab") as rows:
            rows.write(b"\x07" * 1000)
        with (work / "journal.jsonl").open("a") as journal:
            journal.write('{"tile_rows": 9, "by')
        assert np.array_equal(predict(source, FakeNetwork(smooth), work), unbroken)


def test_another_job_starts_anew(tmp_path: Path) -> None:
    with open_source(str(write_raster(tmp_path / "a.tif", noise(200, 200)))) as source:
        predict(source, FakeNetwork(red), tmp_path / "work", job_key="one")
        again, other = FakeNetwork(red), FakeNetwork(red)
        predict(source, again, tmp_path / "work", job_key="one")
        assert again.calls == 0
        other.precision = "bfloat16"
        predict(source, other, tmp_path / "work", job_key="one")
        assert other.calls == 16
    header = json.loads((tmp_path / "work" / "journal.jsonl").read_text().splitlines()[0])
    assert header["precision"] == "bfloat16"


def test_closing_ends_the_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    with open_source(str(write_raster(tmp_path / "a.tif", noise(600, 600)))) as source:
        for stop_after in (0, 1, 30):
            predict(source, FakeNetwork(red), tmp_path / f"work{stop_after}", stop_after=stop_after)
            assert threading.active_count() == before


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    with open_source(str(write_raster(tmp_path / "a.tif", noise(200, 200)))) as source:
        grid = plan_grid(source, 1.0)
        region = Region(grid)
        plan = plan_tiles(grid, region, tile_px=TILE, margin_px=MARGIN, stride_px=STRIDE)
        steps = list(predict_raster(source, grid, region, plan, FakeNetwork(red), tmp_path / "work"))
    done = [step.tiles_done for step in steps]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, len(plan))
    assert steps[-1].megapixels == pytest.approx(sum(t.height * t.width for t in plan) / 1e6)


def test_rows_that_are_told_as_done_stay_as_they_are(tmp_path: Path) -> None:
    """They may be read while the run goes on, and in a resumed run at once."""
    work = tmp_path / "work"
    with open_source(str(write_raster(tmp_path / "a.tif", noise(300, 200)))) as source:
        predict(source, FakeNetwork(red), work, stop_after=12)
        grid = plan_grid(source, 1.0)
        region = Region(grid)
        plan = plan_tiles(grid, region, tile_px=TILE, margin_px=MARGIN, stride_px=STRIDE)
        seen = []
        for step in predict_raster(source, grid, region, plan, FakeNetwork(red), work):
            rows = np.fromfile(rows_file(work), np.uint8, step.rows_done * grid.width)
            seen.append(rows.reshape(step.rows_done, grid.width))
    done = [len(rows) for rows in seen]
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] == 300
    assert len(set(done)) > 3
    assert all(np.array_equal(rows, seen[-1][: len(rows)]) for rows in seen)


def test_error_of_the_network_comes_out_as_itself(tmp_path: Path) -> None:
    def fail(tile: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError

    before = threading.active_count()
    with (
        open_source(str(write_raster(tmp_path / "a.tif", noise(200, 200)))) as source,
        pytest.raises(ZeroDivisionError),
    ):
        predict(source, FakeNetwork(fail), tmp_path / "work")
    assert threading.active_count() == before


def test_error_of_the_reader_comes_out_as_itself(tmp_path: Path) -> None:
    before = threading.active_count()
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    path = write_raster(tmp_path / "a.tif", noise(600, 600), **blocks)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 9000] = b"\xff" * 9000
    path.write_bytes(content)
    with open_source(str(path)) as source, pytest.raises(RasterError, match=r"a\.tif .* damaged"):
        predict(source, FakeNetwork(red), tmp_path / "work")
    assert threading.active_count() == before


def test_full_disk_stops_the_run_and_is_survived(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = threading.active_count()
    work = tmp_path / "work"
    with open_source(str(write_raster(tmp_path / "a.tif", noise(400, 400)))) as source:
        unbroken = predict(source, FakeNetwork(smooth), tmp_path / "unbroken")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, hard))  # writes beyond fail in this process
        try:
            with pytest.raises(OutputError, match=r"probability\.raw cannot be written .* make room"):
                predict(source, FakeNetwork(smooth), work)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert threading.active_count() == before
        assert np.array_equal(predict(source, FakeNetwork(smooth), work), unbroken)


def test_blocked_work_folder_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "work"
    blocked.write_text("a file where the folder should be")
    with (
        open_source(str(write_raster(tmp_path / "a.tif", noise(200, 200)))) as source,
        pytest.raises(OutputError, match="cannot be written"),
    ):
        predict(source, FakeNetwork(red), blocked)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    network = FakeNetwork(lambda tile: np.full(tile.shape[1:], np.nan))
    with (
        open_source(str(write_raster(tmp_path / "a.tif", noise(100, 100)))) as source,
        pytest.raises(ModelError, match="no numbers"),
    ):
        predict(source, network, tmp_path / "work")


def test_origins_do_not_follow_the_extent(tmp_path: Path) -> None:
    with open_source(str(write_raster(tmp_path / "a.tif", noise(500, 500)))) as source:
        grid = plan_grid(source, 1.0)
        sizes = {"tile_px": TILE, "margin_px": MARGIN, "stride_px": STRIDE}
        whole = {(t.lattice_row, t.lattice_col): t for t in plan_tiles(grid, Region(grid), **sizes)}
        for top in (0, 3, 50, 111):
            for tile in plan_tiles(grid, square(top, top + 5, top + 200, top + 150)(grid), **sizes):
                assert tile.row % STRIDE == tile.col % STRIDE == tile.height % STRIDE == 0
                full = whole[tile.lattice_row, tile.lattice_col]
                assert full.row <= tile.row
                assert tile.row + tile.height <= full.row + full.height


def test_memory_does_not_grow_with_the_rasters_height(tmp_path: Path) -> None:
    peaks = []
    for height in (600, 4800):
        path = write_raster(tmp_path / f"{height}.tif", noise(height, 192), compress="deflate")
        with open_source(str(path)) as source:
            tracemalloc.start()
            predict_only(source, tmp_path / f"work{height}")
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]  # the map alone is 2 × the first peak


def predict_only(source: RasterSource, work: Path) -> None:
    grid = plan_grid(source, 1.0)
    region = Region(grid)
    plan = plan_tiles(grid, region, tile_px=TILE, margin_px=MARGIN, stride_px=STRIDE)
    for _progress in predict_raster(source, grid, region, plan, FakeNetwork(red), work):
        pass


def test_several_heads_lie_line_after_line_and_open_as_bands(tmp_path: Path):
    class TwoHeads(FakeNetwork):
        def __call__(self, tiles: np.ndarray) -> np.ndarray:
            return np.concatenate([super().__call__(tiles), 1 - super().__call__(tiles)], axis=1)

    path = write_raster(tmp_path / "scene.tif", noise(150, 130))
    with open_source(str(path)) as source:
        grid = plan_grid(source, 1.0)
        plan = plan_tiles(grid, Region(grid), tile_px=TILE, margin_px=MARGIN, stride_px=STRIDE)
        for _ in predict_raster(
            source, grid, Region(grid), plan, TwoHeads(smooth), tmp_path / "two", heads=(1, 0)
        ):
            pass
        one = predict(source, FakeNetwork(smooth), tmp_path / "one")
    described = write_vrt(rows_file(tmp_path / "two"), grid, bands=("no", "yes"))
    with rasterio.open(described) as raster:
        assert raster.descriptions == ("no", "yes")
        both = raster.read()
    np.testing.assert_array_equal(both[1], one)
    np.testing.assert_allclose(both.astype(int).sum(axis=0), 254, atol=1)
