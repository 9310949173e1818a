"""Road layers: from a probability raster to two GeoPackages, whatever the windows."""

from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from scipy import ndimage

from aftermap.core.errors import JobError, OutputError, RasterError
from aftermap.core.raster.probability import NODATA, ProbabilityTags, encode_probabilities
from aftermap.core.vector import layers, windows
from aftermap.core.vector.road_layers import RoadSummary, vectorize_roads
from aftermap.core.vector.road_mask import road_mask

GSD_M = 0.8
UTM = Affine(GSD_M, 0, 300_000, 0, -GSD_M, 2_780_000)
ATTRIBUTES = {"model": "starter", "source": "scene.tif", "date": "2026-11-23T20:00:00Z"}


def write_raster(
    path: Path,
    p: np.ndarray,
    *,
    crs: str | None = "EPSG:32640",
    transform: Affine = UTM,
    gsd_m: float = GSD_M,
) -> Path:
    values = encode_probabilities(p.astype(np.float32), np.ones(p.shape, bool))
    values[np.isnan(p)] = NODATA
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": NODATA, "tiled": True}
    with rasterio.open(
        path, "w", width=p.shape[1], height=p.shape[0], crs=crs, transform=transform, **profile
    ) as dataset:
        dataset.write(values, 1)
        dataset.update_tags(**ProbabilityTags("roads", "road", gsd_m, 0.5).to_tags())
    return path


def vectorize(path: Path, **changes) -> tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame, RoadSummary]:
    outputs = {name: path.with_name(f"{path.stem}_{name}.gpkg") for name in ("polygons", "centrelines")}
    settings = {"threshold": 0.5, "min_area_m2": 30.0, "simplify_m": 0.0, "block_m": 1000.0, **outputs}
    steps = vectorize_roads(path, **{**settings, "attributes": ATTRIBUTES, **changes})
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return *(geopandas.read_file(outputs[name]) for name in outputs), stop.value


def town(size: int = 700, seed: int = 0) -> np.ndarray:
    """Probabilities of crossing and winding roads."""
    rng = np.random.default_rng(seed)
    cols, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    mask = np.zeros((size, size), bool)
    for _ in range(9):
        points = rng.uniform(0, size, (4, 2))
        line = shapely.LineString(points).buffer(rng.uniform(2.5, 8))
        mask |= shapely.contains_xy(line, cols, rows)
    return np.clip(ndimage.gaussian_filter(mask.astype(float), 1.2) * 0.95, 0, 1)


def road_ends(lines: geopandas.GeoDataFrame) -> np.ndarray:
    return shapely.get_coordinates(shapely.boundary(lines.geometry.values))


def test_a_road_across_four_windows_is_one_polygon_and_one_centreline(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_PX", 200)
    p = np.zeros((400, 400))
    rows, cols = np.indices(p.shape)
    p[np.abs(rows - 0.7 * cols - 50) < 6] = 0.9
    path = write_raster(tmp_path / "p.tif", p)
    for block_m in (0.0, 400 * GSD_M):
        polygons, lines, summary = vectorize(path, block_m=block_m)
        assert (len(polygons), len(lines)) == (1, 1)
        assert (summary.polygons, summary.centrelines) == (1, 1)
        assert shapely.area(polygons.geometry[0]) == pytest.approx((p > 0).sum() * GSD_M**2)
        assert lines.width_m[0] == pytest.approx(12 / np.hypot(1, 0.7) * GSD_M, abs=0.8)
        assert lines.mean_prob[0] == pytest.approx(0.9, abs=0.01)


def test_polygons_are_the_same_whatever_the_windows(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "p.tif", town())
    whole, whole_lines, _ = vectorize(path, block_m=0.0, simplify_m=0.8)
    monkeypatch.setattr(windows, "WINDOW_PX", 190)
    parts, part_lines, _ = vectorize(path, block_m=0.0, simplify_m=0.8)

    def shapes(layer: geopandas.GeoDataFrame) -> list[bytes]:
        return sorted(layer.geometry.normalize().to_wkb())

    assert shapes(whole) == shapes(parts)
    assert sorted(whole.area_m2) == pytest.approx(sorted(parts.area_m2))
    assert len(whole_lines) == len(part_lines)
    assert part_lines.length_m.sum() == pytest.approx(whole_lines.length_m.sum(), rel=1e-3)
    distance = shapely.hausdorff_distance(
        shapely.union_all(whole_lines.geometry.values), shapely.union_all(part_lines.geometry.values)
    )
    assert distance < 2 * GSD_M


@pytest.mark.parametrize("simplify_m", [0.0, 0.8])
def test_both_sides_meet_at_block_lines(tmp_path, monkeypatch, simplify_m):
    monkeypatch.setattr(windows, "WINDOW_PX", 200)
    p = town()
    path = write_raster(tmp_path / "p.tif", p)
    polygons, lines, _ = vectorize(path, block_m=150 * GSD_M, simplify_m=simplify_m, min_area_m2=0.0)
    ends = (road_ends(lines) - (UTM.c, UTM.f)) / (GSD_M, -GSD_M)
    nearest = np.rint(ends / 150) * 150
    on_line = (np.abs(ends - nearest) < 1e-3) & (nearest > 0) & (nearest < 700)
    crossings, count = np.unique(np.round(ends[on_line.any(axis=1)], 3), axis=0, return_counts=True)
    assert len(crossings) > 10
    assert (count == 2).all()
    union = shapely.area(shapely.union_all(polygons.geometry.values, grid_size=1e-4))
    assert union == pytest.approx(polygons.area.sum(), rel=1e-6)
    if simplify_m == 0.0:
        assert polygons.area.sum() == pytest.approx((p >= 0.5).sum() * GSD_M**2, rel=2e-3)


def test_blocks_are_counted_from_the_origin_of_the_grid(tmp_path):
    p = town()
    whole = vectorize(write_raster(tmp_path / "whole.tif", p), block_m=150 * GSD_M)[0]
    p[:, 460:] = np.nan
    part = vectorize(write_raster(tmp_path / "part.tif", p), block_m=150 * GSD_M)[0]
    left = shapely.box(UTM.c, UTM.f - 700 * GSD_M, UTM.c + 300 * GSD_M, UTM.f)
    inside = [layer[layer.within(left)].geometry.to_wkb().tolist() for layer in (whole, part)]
    assert len(inside[0]) > 5
    assert inside[0] == inside[1]


def test_the_same_run_gives_the_same_features_in_the_same_order(tmp_path):
    path = write_raster(tmp_path / "p.tif", town())
    one = vectorize(path, block_m=200.0, simplify_m=0.5)
    two = vectorize(path, block_m=200.0, simplify_m=0.5)
    assert one[0].equals(two[0])
    assert one[1].equals(two[1])
    assert one[2] == two[2]


def test_layers_are_the_same_in_however_many_parts_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_PX", 200)
    path = write_raster(tmp_path / "p.tif", town())
    at_once = vectorize(path, block_m=150 * GSD_M)
    monkeypatch.setattr(layers, "BYTES_A_WRITE", 2000)
    in_parts = vectorize(path, block_m=150 * GSD_M)
    assert at_once[0].equals(in_parts[0])
    assert at_once[1].equals(in_parts[1])
    assert at_once[2] == in_parts[2]


def test_windows_without_probabilities_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_PX", 200)
    p = np.full((900, 900), np.nan)
    p[250:520, 330:610] = town(300)[:270, :280]
    polygons, lines, _ = vectorize(write_raster(tmp_path / "p.tif", p), block_m=0.0)
    p[np.isnan(p)] = 0.0
    others = vectorize(write_raster(tmp_path / "q.tif", p), block_m=0.0)
    assert len(polygons) > 0
    assert polygons.equals(others[0])
    assert lines.equals(others[1])


def test_features_carry_their_attributes(tmp_path):
    p = np.zeros((200, 200))
    p[50:60] = 0.8
    p[50:60, :100] = 0.6
    polygons, lines, summary = vectorize(write_raster(tmp_path / "p.tif", p))
    for layer, names in (
        (polygons, ["class", "area_m2", "mean_prob", "min_prob", "model", "source", "date"]),
        (lines, ["class", "length_m", "width_m", "mean_prob", "bridged", "model", "source", "date"]),
    ):
        assert [name for name in layer.columns if name != "geometry"] == names
        assert max(map(len, names)) <= 10
        assert layer.iloc[0][["class", "model", "source", "date"]].tolist() == ["road", *ATTRIBUTES.values()]
        assert layer.crs == "EPSG:32640"
    assert polygons.mean_prob[0] == pytest.approx(0.7, abs=2e-3)
    assert polygons.min_prob[0] == pytest.approx(0.6, abs=2e-3)
    assert lines.mean_prob[0] == pytest.approx(0.7, abs=5e-3)
    assert lines.width_m[0] == pytest.approx(10 * GSD_M, abs=0.5)
    assert lines.bridged[0] == 0.0
    assert summary.area_m2 == pytest.approx(polygons.area_m2.sum())
    assert summary.length_m == pytest.approx(lines.length_m.sum())


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(GSD_M / 55_800, 0, 25.0, 0, -GSD_M / 111_412, 60.0)),
        ("EPSG:3857", Affine(2 * GSD_M, 0, 2_780_000, 0, -2 * GSD_M, 8_399_000)),
        (
            "EPSG:32640",
            Affine.translation(300_000, 2_780_000) * Affine.rotation(30) * Affine.scale(GSD_M, -GSD_M),
        ),
    ],
)
def test_areas_and_lengths_are_true_on_the_ground(tmp_path, crs, transform):
    p = np.zeros((300, 300))
    p[100:110, 20:280] = 0.9
    polygons, lines, _ = vectorize(write_raster(tmp_path / "p.tif", p, crs=crs, transform=transform))
    degrees = polygons.to_crs(4326).geometry[0].segmentize(1e-5)
    area, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(degrees)
    assert polygons.area_m2[0] == pytest.approx(abs(area), rel=1e-5)
    length = pyproj.Geod(ellps="WGS84").geometry_length(lines.to_crs(4326).geometry[0])
    assert lines.length_m[0] == pytest.approx(length, rel=1e-6)
    assert lines.length_m[0] == pytest.approx(260 * GSD_M, rel=0.02)
    assert polygons.area_m2[0] == pytest.approx(2600 * GSD_M**2, rel=0.01)


def test_without_a_crs_pixels_count_and_the_layer_has_none(tmp_path):
    p = np.zeros((100, 120))
    p[40:50, 10:110] = 0.9
    path = write_raster(tmp_path / "p.tif", p, crs=None, transform=Affine(1, 0, 0, 0, -1, 0))
    polygons, lines, _ = vectorize(path)
    assert polygons.crs is None
    assert lines.crs is None
    assert polygons.area_m2[0] == pytest.approx(1000 * GSD_M**2)
    assert polygons.total_bounds.tolist() == [10, -50, 110, -40]


def test_holes_are_kept_and_nodata_is_no_road(tmp_path):
    p = np.full((60, 60), 0.9)
    p[20:30, 20:30] = 0.1
    p[40:45, 40:45] = np.nan
    polygons, _, _ = vectorize(write_raster(tmp_path / "p.tif", p))
    assert len(polygons.geometry[0].interiors) == 2
    assert polygons.area_m2[0] == pytest.approx((3600 - 125) * GSD_M**2, rel=2e-3)


def test_a_road_cut_by_a_line_is_judged_by_its_whole_size(tmp_path):
    p = np.zeros((320, 320))
    p[100:106, 158:240] = 0.9  # 12 of its 492 pixels lie left of the line
    p[200:203, 158:162] = 0.9  # 12 pixels in all
    polygons, _, _ = vectorize(write_raster(tmp_path / "p.tif", p), block_m=160 * GSD_M)
    assert sorted(round(area / GSD_M**2) for area in polygons.area) == [12, 480]


def test_hysteresis_keeps_weak_pixels_that_hang_on_strong_ones():
    values = np.zeros((9, 12), np.uint8)
    values[2, 1:6] = 80
    values[3, 6] = 200
    values[6, 1:6] = 80
    values[8, 8:] = NODATA
    mask = road_mask(values, 0.5, 0.25)
    assert mask.sum() == 6
    assert mask[2, 1:6].all()
    assert road_mask(values, 0.5).sum() == 1


@pytest.mark.parametrize("threshold", [0.3, 0.35, 0.5, 0.71])
def test_thresholds_hold_for_encoded_values(threshold):
    p = np.linspace(0, 1, 200_001, dtype=np.float32)[None]
    mask = road_mask(encode_probabilities(p, np.ones(p.shape, bool)), threshold)
    assert np.abs(p[mask].min() - threshold) <= 0.5 / 254 + 1e-6


def test_an_empty_map_gives_valid_layers_with_all_fields(tmp_path):
    for name, p in (("zero", np.zeros((50, 50))), ("nodata", np.full((50, 50), np.nan))):
        polygons, lines, summary = vectorize(write_raster(tmp_path / f"{name}.tif", p))
        assert (len(polygons), len(lines)) == (0, 0)
        assert summary == RoadSummary(0, 0, 0.0, 0.0)
        assert {"class", "area_m2", "mean_prob", "min_prob", "model", "source", "date"} < set(
            polygons.columns
        )
        assert polygons.crs == "EPSG:32640"


def test_geometries_are_valid_and_of_one_type(tmp_path):
    polygons, lines, _ = vectorize(write_raster(tmp_path / "p.tif", town(seed=3)), simplify_m=0.5)
    assert polygons.is_valid.all()
    assert lines.is_valid.all()
    assert set(polygons.geom_type) == {"Polygon"}
    assert set(lines.geom_type) == {"LineString"}


def test_either_output_can_be_left_out(tmp_path):
    path = write_raster(tmp_path / "p.tif", town(200))
    polygons, lines = tmp_path / "polygons.gpkg", tmp_path / "lines.gpkg"
    common = {"threshold": 0.5, "min_area_m2": 0.0, "simplify_m": 0.0, "block_m": 0.0, "attributes": {}}
    list(vectorize_roads(path, polygons=polygons, centrelines=None, **common))
    assert polygons.exists()
    assert not lines.exists()
    list(vectorize_roads(path, polygons=None, centrelines=lines, **common))
    assert lines.exists()


def test_a_run_that_is_closed_stops_and_progress_is_frequent(tmp_path):
    path = write_raster(tmp_path / "p.tif", town())
    steps = vectorize_roads(
        path,
        threshold=0.5,
        min_area_m2=0.0,
        simplify_m=0.0,
        block_m=200.0,
        polygons=tmp_path / "a.gpkg",
        centrelines=None,
        attributes={},
    )
    first = next(steps)
    assert (first.done, first.total) == (0, 1)
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_bad_input_is_one_sentence(tmp_path):
    path = write_raster(tmp_path / "p.tif", np.zeros((40, 40)))
    with pytest.raises(JobError, match=r"threshold of 1\.5"):
        vectorize(path, threshold=1.5)
    with pytest.raises(JobError, match="lower threshold"):
        vectorize(path, threshold_low=0.6)
    with pytest.raises(JobError, match="smaller than 32 pixels"):
        vectorize(path, block_m=5.0)
    with pytest.raises(JobError, match="simplification"):
        vectorize(path, simplify_m=-1.0)
    with pytest.raises(RasterError, match=r"nothing\.tif"):
        vectorize(tmp_path / "nothing.tif")
    with pytest.raises(OutputError, match="cannot be written"):
        vectorize(path, polygons=tmp_path / "missing" / "folder" / "a.gpkg")


def test_every_centreline_is_a_line(tmp_path):
    rng = np.random.default_rng(3)
    p = np.clip(town(500, seed=3) + rng.normal(0, 0.25, (500, 500)), 0, 1)
    _, lines, summary = vectorize(write_raster(tmp_path / "p.tif", p), simplify_m=2.0, block_m=60.0)
    assert summary.centrelines == len(lines) > 20
    assert lines.geometry.is_valid.all()
    assert (lines.length > 0.999 * GSD_M).all()
    # A piece that a cut leaves wholly in a gap has no road pixels to be measured by.
    assert (lines["width_m"].notna() | (lines["bridged"] == 1)).all()
