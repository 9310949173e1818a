"""Extent and area of interest on the grid, and the tiles that they leave."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.core.errors import JobError, VectorError
from aftermap.core.raster.grid import Grid
from aftermap.core.raster.region import Region, plan_region
from aftermap.core.raster.tiling import plan_tiles

UTM = "EPSG:32637"
LEFT, TOP = 500_000.0, 4_000_000.0
NORTH_UP = Affine(1, 0, LEFT, 0, -1, TOP)
ROTATED = Affine.translation(LEFT, TOP) * Affine.rotation(30) * Affine.scale(1, -1)


def grid_of(height: int = 300, width: int = 400, transform: Affine = NORTH_UP, crs: str | None = UTM) -> Grid:
    return Grid(width, height, transform, CRS.from_string(crs) if crs else None, 1.0, (1.0, 1.0))


def write_polygons(path: Path, shapes: list[shapely.Geometry], crs: str | None = UTM) -> str:
    geopandas.GeoDataFrame(geometry=shapes, crs=crs).to_file(path, layer="area", engine="pyogrio")
    return str(path)


def ground_box(top: float, left: float, bottom: float, right: float) -> shapely.Geometry:
    return shapely.box(LEFT + left, TOP - bottom, LEFT + right, TOP - top)


def whole_mask(region: Region) -> np.ndarray:
    return region.mask(0, 0, region.grid.height, region.grid.width)


def test_whole_grid_is_the_default() -> None:
    region = plan_region(grid_of())
    assert region.is_whole
    assert region.bounds_px == (0, 0, 300, 400)
    assert whole_mask(region).all()
    assert region.touches(299, 399, 1, 1)
    assert not region.touches(300, 0, 10, 10)


def test_extent_covers_the_pixels_whose_centre_it_holds() -> None:
    region = plan_region(grid_of(), extent=(LEFT + 10.4, TOP - 60.4, LEFT + 50.6, TOP - 20.6))
    expected = np.zeros((300, 400), bool)
    expected[21:60, 10:51] = True
    assert np.array_equal(whole_mask(region), expected)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, Affine(1, 0, LEFT, 0, 1, TOP)])
def test_windows_agree_with_the_whole(tmp_path: Path, transform: Affine) -> None:
    grid = grid_of(transform=transform)
    centre = shapely.Point(transform @ (200, 150)) if hasattr(Affine, "__matmul__") else None
    centre = centre or shapely.Point(transform * (200, 150))
    ring = shapely.difference(centre.buffer(120), centre.buffer(60))
    aoi = write_polygons(tmp_path / "a.gpkg", [ring, centre.buffer(5)])
    region = plan_region(grid, aoi=aoi)
    whole = whole_mask(region)
    rows, columns = np.mgrid[:300, :400] + 0.5
    distance = np.hypot(rows - 150, columns - 200)
    clear = (np.abs(distance - 120) > 1) & (np.abs(distance - 60) > 1) & (np.abs(distance - 5) > 1)
    assert np.array_equal(whole[clear], (((distance < 120) & (distance > 60)) | (distance < 5))[clear])
    for row in range(-20, 300, 64):
        for col in range(-20, 400, 64):
            part = region.mask(row, col, 64, 64)
            inside = whole[max(row, 0) : row + 64, max(col, 0) : col + 64]
            top, left = max(-row, 0), max(-col, 0)
            assert np.array_equal(part[top : top + inside.shape[0], left : left + inside.shape[1]], inside)
            bounds = region.bounds_in(row, col, 64, 64)
            if inside.any():
                assert bounds is not None
                outside = part.copy()
                outside[bounds[0] - row : bounds[2] - row, bounds[1] - col : bounds[3] - col] = False
                assert not outside.any()


def test_extent_in_another_crs_follows_its_curved_edges() -> None:
    """A long parallel is an arc in UTM; a corner-to-corner line would miss by tens of pixels."""
    transform = Affine(100, 0, 200_000, 0, -100, 6_700_000)
    grid = grid_of(2000, 6000, transform)
    region = plan_region(grid, extent=(36.0, 59.5, 42.0, 60.0), extent_crs="EPSG:4326")
    import pyproj

    to_degrees = pyproj.Transformer.from_crs(UTM, 4326, always_xy=True)
    rows, columns = np.mgrid[5:2000:37, 5:6000:41]
    x, y = 200_000 + (columns + 0.5) * 100, 6_700_000 - (rows + 0.5) * 100
    lon, lat = to_degrees.transform(x, y)
    inside = (lon > 36.0) & (lon < 42.0) & (lat > 59.5) & (lat < 60.0)
    clear = (np.abs(lat - 60.0) > 0.003) & (np.abs(lat - 59.5) > 0.003)
    clear &= (np.abs(lon - 36) > 0.006) & (np.abs(lon - 42) > 0.006)
    assert inside.any()
    assert np.array_equal(whole_mask(region)[rows, columns][clear], inside[clear])


def test_area_in_another_crs_lands_on_its_place(tmp_path: Path) -> None:
    shapes = geopandas.GeoSeries([ground_box(40, 60, 90, 200)], crs=UTM).to_crs(4326)
    region = plan_region(grid_of(), aoi=write_polygons(tmp_path / "a.geojson", list(shapes), "EPSG:4326"))
    assert abs(int(whole_mask(region).sum()) - 50 * 140) <= 400
    assert whole_mask(region)[42:88, 62:198].all()


def test_extent_and_area_are_intersected(tmp_path: Path) -> None:
    aoi = write_polygons(tmp_path / "a.gpkg", [ground_box(0, 0, 100, 100), ground_box(200, 300, 300, 400)])
    region = plan_region(grid_of(), extent=(LEFT + 50, TOP - 250, LEFT + 350, TOP), aoi=aoi)
    expected = np.zeros((300, 400), bool)
    expected[:100, 50:100] = True
    expected[200:250, 300:350] = True
    assert np.array_equal(whole_mask(region), expected)


def test_a_region_holds_what_has_its_centroid_inside() -> None:
    region = Region(grid_of(), [shapely.box(10, 10, 50, 50), shapely.box(60, 10, 90, 50)])
    shapes = np.array([shapely.box(40, 20, 58, 30), shapely.box(44, 20, 62, 30), shapely.Point(), None])
    assert region.holds(shapes).tolist() == [True, False, False, False]
    assert region.holds(shapes[:0]).tolist() == []
    assert Region(grid_of()).holds(shapes[:2]).all()


def test_raster_and_area_without_crs_share_their_coordinates(tmp_path: Path) -> None:
    aoi = write_polygons(tmp_path / "a.gpkg", [shapely.box(10, -30, 20, -5)], crs=None)
    region = plan_region(grid_of(transform=Affine(1, 0, 0, 0, -1, 0), crs=None), aoi=aoi)
    assert region.bounds_px == (5, 10, 30, 20)


def test_broken_polygons_are_mended(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(LEFT, TOP), (LEFT + 100, TOP - 100), (LEFT + 100, TOP), (LEFT, TOP - 100)])
    region = plan_region(grid_of(), aoi=write_polygons(tmp_path / "a.gpkg", [bow_tie]))
    assert int(whole_mask(region).sum()) == pytest.approx(5000, abs=110)


@pytest.mark.parametrize(
    ("extent", "crs", "reason"),
    [
        ((0, 0, 10, 10), "", "does not touch"),
        ((10, 0, 0, 10), "", "is empty"),
        ((0, 0, float("nan"), 10), "", "four numbers"),
        ((1, 2, 3), "", "four numbers"),
        ((36, 36, 37, 37), "EPSG:0", "not known"),
    ],
)
def test_impossible_extents_are_refused(extent: tuple[float, ...], crs: str, reason: str) -> None:
    with pytest.raises(JobError, match=reason):
        plan_region(grid_of(), extent=extent, extent_crs=crs)  # type: ignore[arg-type]


def test_extent_with_crs_needs_a_raster_with_one() -> None:
    with pytest.raises(JobError, match="has no CRS"):
        plan_region(grid_of(crs=None), extent=(0, 0, 10, 10), extent_crs=UTM)


def test_impossible_areas_are_refused(tmp_path: Path) -> None:
    grid = grid_of()
    with pytest.raises(VectorError, match=r"no file .*gone\.gpkg"):
        plan_region(grid, aoi=str(tmp_path / "gone.gpkg"))
    (tmp_path / "text.gpkg").write_text("no vectors")
    with pytest.raises(VectorError, match="cannot be read"):
        plan_region(grid, aoi=str(tmp_path / "text.gpkg"))
    path = write_polygons(tmp_path / "a.gpkg", [ground_box(0, 0, 10, 10)])
    with pytest.raises(VectorError, match="layer 'other'"):
        plan_region(grid, aoi=path, aoi_layer="other")
    far = write_polygons(tmp_path / "far.gpkg", [shapely.box(0, 0, 1, 1)])
    with pytest.raises(VectorError, match=r"touches the raster"):
        plan_region(grid, aoi=far)
    lines = write_polygons(tmp_path / "lines.gpkg", [shapely.LineString([(LEFT, TOP), (LEFT + 9, TOP - 9)])])
    with pytest.raises(VectorError, match="no polygon"):
        plan_region(grid, aoi=lines)
    lost = write_polygons(tmp_path / "lost.gpkg", [ground_box(0, 0, 10, 10)], crs=None)
    with pytest.raises(VectorError, match="has no CRS"):
        plan_region(grid, aoi=lost)
    with pytest.raises(JobError, match="do not overlap"):
        plan_region(grid, aoi=path, extent=(LEFT + 50, TOP - 90, LEFT + 90, TOP - 50))


@pytest.mark.parametrize(
    ("height", "width"), [(300, 400), (64, 64), (65, 64), (7, 1000), (112, 113), (1, 1), (64, 112)]
)
@pytest.mark.parametrize("overlap", [8, 16, 32])
def test_tiles_cover_every_pixel_with_weights_that_sum_to_one(height: int, width: int, overlap: int) -> None:
    region = Region(grid_of(height, width))
    plan = plan_tiles(region.grid, region, tile_px=64, margin_px=16, stride_px=8, overlap_px=overlap)
    tiles = list(plan)
    assert len(plan) == len(tiles)
    ramp = (np.arange(overlap) + 0.5) / overlap
    weight = np.zeros((height + 64, width + 64))
    for tile in tiles:
        down, across = np.ones(64), np.ones(64)
        if tile.lattice_row > 0:
            down[:overlap] = ramp
        if tile.lattice_row < plan.lattice_rows - 1:
            down[-overlap:] = ramp[::-1]
        if tile.lattice_col > 0:
            across[:overlap] = ramp
        if tile.lattice_col < plan.lattice_cols - 1:
            across[-overlap:] = ramp[::-1]
        top, left = tile.row - tile.lattice_row * plan.step_px, tile.col - tile.lattice_col * plan.step_px
        window = np.outer(down, across)[top : top + tile.height, left : left + tile.width]
        weight[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width] += window
    assert np.allclose(weight[:height, :width], 1.0)


def test_narrow_area_leaves_narrow_tiles(tmp_path: Path) -> None:
    aoi = write_polygons(tmp_path / "a.gpkg", [ground_box(140, 3, 150, 397)])
    region = plan_region(grid_of(), aoi=aoi)
    tiles = list(plan_tiles(region.grid, region, tile_px=128, margin_px=16, stride_px=8))
    assert tiles
    for tile in tiles:
        assert tile.height <= 10 + 2 * 16 + 2 * 8
        assert tile.row % 8 == tile.col % 8 == tile.height % 8 == tile.width % 8 == 0


@pytest.mark.parametrize(
    "sizes", [{"tile_px": 60}, {"tile_px": 8}, {"overlap_px": 40}, {"overlap_px": 12}, {"margin_px": -1}]
)
def test_sizes_that_do_not_go_together_are_refused(sizes: dict[str, int]) -> None:
    region = Region(grid_of())
    with pytest.raises(JobError, match=r"(does|do) not suit"):
        plan_tiles(region.grid, region, **{"tile_px": 64, "margin_px": 16, "stride_px": 8, **sizes})
