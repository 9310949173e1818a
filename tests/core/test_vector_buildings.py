"""Footprints: one polygon a building, straight where it is straight, whatever the windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy import ndimage
from shapely import affinity, box
from shapely.geometry.base import BaseGeometry

from aftermap.core.datasets.synthetic import Town
from aftermap.core.errors import JobError, OutputError, RasterError
from aftermap.core.progress import finish
from aftermap.core.raster.grid import Grid
from aftermap.core.raster.probability import NODATA, ProbabilityTags, encode_probabilities
from aftermap.core.vector import buildings as buildings_module
from aftermap.core.vector import windows
from aftermap.core.vector.building_outlines import main_directions, square_ring
from aftermap.core.vector.buildings import (
    BuildingSummary,
    BuildingTracer,
    outline_buildings,
    vectorize_buildings,
)

GSD_M = 0.5
UTM = Affine(GSD_M, 0, 300_000, 0, -GSD_M, 2_780_000)
ATTRIBUTES = {"model": "starter", "source": "scene.tif", "date": "2026-11-23"}
FINER = 4

# In metres; arms of 8 to 14 m.
SHAPES = {
    "house": box(0, 0, 14, 10),
    "L": box(0, 0, 34, 10) | box(0, 0, 12, 28),
    "U": box(0, 0, 40, 11) | box(0, 0, 10, 30) | box(30, 0, 40, 26),
    "T": box(0, 0, 40, 10) | box(15, 0, 25, 30),
    "H": box(0, 0, 12, 40) | box(28, 0, 40, 40) | box(0, 15, 40, 25),
    "courtyard": box(0, 0, 40, 36) - box(10, 10, 30, 26),
}
CORNERS = {"house": 4, "L": 6, "U": 8, "T": 8, "H": 12, "courtyard": 8}


def draw(
    *shapes: BaseGeometry, size_m: float = 80.0, gsd_m: float = GSD_M, blur_m: float = 0.6
) -> NDArray[np.float32]:
    """What a network might say of buildings, in metres from the upper-left corner: their cover, blurred."""
    side = round(size_m / gsd_m)
    fine = [affinity.scale(s, FINER / gsd_m, FINER / gsd_m, origin=(0, 0)) for s in shapes]
    cover = rasterize(fine, (side * FINER, side * FINER)) if fine else np.zeros((side * FINER,) * 2)
    share = cover.reshape(side, FINER, side, FINER).mean(axis=(1, 3)).astype(np.float32)
    return ndimage.gaussian_filter(share, blur_m / gsd_m)


def place(shape: BaseGeometry, degrees: float = 0.0, at: tuple[float, float] = (40.0, 40.0)) -> BaseGeometry:
    """A shape turned, with its centre somewhere."""
    turned = affinity.rotate(shape, degrees, origin="centroid")
    return affinity.translate(turned, at[0] - turned.centroid.x, at[1] - turned.centroid.y)


def found_in(p: NDArray[np.float32], gsd_m: float = GSD_M, **changes: Any) -> NDArray[np.object_]:
    """Footprints in metres."""
    found = outline_buildings(p, **{"threshold": 0.5, "gsd_m": gsd_m, **changes})
    assert shapely.is_valid(found.polygons).all()
    metres: NDArray[np.object_] = shapely.transform(found.polygons, lambda points: points * gsd_m)
    return metres


def iou(one: BaseGeometry, other: BaseGeometry) -> float:
    return float(one.intersection(other).area / one.union(other).area)


def corners_of(polygon: shapely.Polygon) -> int:
    return sum(len(ring.coords) - 1 for ring in (polygon.exterior, *polygon.interiors))


def bends_of(ring: shapely.LinearRing) -> NDArray[np.float64]:
    """Angle between each wall and the next, degrees modulo 90, -45 to 45."""
    edges = np.diff(shapely.get_coordinates(ring), axis=0)
    angle = np.rad2deg(np.arctan2(edges[:, 1], edges[:, 0]))
    bends: NDArray[np.float64] = (np.roll(angle, -1) - angle + 45) % 90 - 45
    return bends


# ----------------------------------------------------------------------------------- what is one building


@pytest.mark.parametrize("gsd_m", [0.3, 0.8])
@pytest.mark.parametrize("degrees", [0, 17, 45])
@pytest.mark.parametrize("name", SHAPES)
def test_a_building_with_wings_is_one_with_straight_walls(name: str, degrees: float, gsd_m: float) -> None:
    truth = place(SHAPES[name], degrees)
    (found,) = found_in(draw(truth, gsd_m=gsd_m), gsd_m)
    assert corners_of(found) == CORNERS[name]
    for ring in (found.exterior, *found.interiors):
        assert np.abs(bends_of(ring)).max() < 1e-6
    assert iou(found, truth) > 0.92  # a pixel of 0.8 m more on each side of a house costs as much
    assert found.area == pytest.approx(truth.area, rel=0.06)


def test_noise_does_not_part_buildings_with_wings() -> None:
    rng = np.random.default_rng(4)
    parted = 0
    for number in range(60):
        shape = place(SHAPES[list(SHAPES)[number % len(SHAPES)]], rng.uniform(0, 90))
        noise = ndimage.gaussian_filter(rng.normal(size=(160, 160)), 2.0 / GSD_M)
        p = np.clip(0.95 * draw(shape, blur_m=1.0) + 0.06 * noise / noise.std(), 0, 1).astype(np.float32)
        parted += len(found_in(p, min_area_m2=20.0)) > 1
    assert parted <= 2


TOUCHING = {
    "corner to corner": [box(10, 10, 24, 22), box(23, 21, 36, 33)],
    "a neck between": [box(10, 10, 22, 24), box(26, 10, 38, 24), box(22, 15, 26, 20)],
    "walls offset": [box(10, 10, 24, 20), box(21, 20, 36, 30)],
    "a row": [box(10 + 14 * i, 10, 22 + 14 * i, 22) for i in range(4)]
    + [box(20 + 14 * i, 14, 26 + 14 * i, 18) for i in range(3)],
}


@pytest.mark.parametrize("degrees", [0, 30])
@pytest.mark.parametrize("name", TOUCHING)
def test_touching_buildings_are_parted(name: str, degrees: float) -> None:
    shapes = affinity.rotate(shapely.GeometryCollection(TOUCHING[name]), degrees, origin=(40, 40)).geoms
    truth = [shape for shape in shapes if shape.area > 50]
    found = found_in(draw(*shapes, size_m=90.0))
    assert len(found) == len(truth)
    for house in truth:
        assert max(iou(house, other) for other in found) > 0.85


def test_a_dip_of_the_probability_parts_a_terrace() -> None:
    p = draw(box(10, 20, 70, 32))
    assert len(found_in(p)) == 1
    columns = np.arange(p.shape[1]) * GSD_M
    for wall in (25.0, 40.0, 55.0):
        p *= (1.0 - 0.45 * np.exp(-(((columns - wall) / 1.0) ** 2))).astype(np.float32)
    terrace = found_in(p, threshold=0.4)
    assert sorted(round(house.centroid.x, 1) for house in terrace) == pytest.approx(
        [17.5, 32.5, 47.5, 62.5], abs=1
    )


def test_a_porch_is_no_building_of_its_own() -> None:
    (found,) = found_in(draw(box(20, 20, 34, 32), box(25, 32, 28, 37)))
    assert found.contains(shapely.Point(26.5, 35))


@pytest.mark.parametrize("gsd_m", [0.3, 0.8])
def test_a_garden_wall_is_no_part_of_the_house(gsd_m: float) -> None:
    p = draw(box(20, 20, 36, 32), gsd_m=gsd_m)
    p = np.maximum(p, draw(box(36, 25, 60, 25.8), gsd_m=gsd_m, blur_m=0.0))
    (found,) = found_in(p, gsd_m)
    assert corners_of(found) == 4
    assert iou(found, box(20, 20, 36, 32)) > 0.9


def test_a_courtyard_stays_open_and_a_light_well_does_not() -> None:
    block = box(10, 10, 60, 50) - box(20, 20, 35, 40) - box(48, 25, 50.5, 27.5)
    (found,) = found_in(draw(block))
    assert len(found.interiors) == 1
    assert iou(shapely.Polygon(found.interiors[0]), box(20, 20, 35, 40)) > 0.9


def test_small_buildings_are_left_out() -> None:
    p = draw(box(10, 10, 13, 13), box(30, 30, 40, 40))
    assert len(found_in(p, min_area_m2=0.0)) == 2
    assert len(found_in(p, min_area_m2=20.0)) == 1


# ---------------------------------------------------------------------------------------------- outlines


def test_what_has_no_right_angles_gets_none() -> None:
    for shape in (shapely.Point(40, 40).buffer(15), shapely.Polygon([(20, 20), (60, 25), (30, 60)])):
        (found,) = found_in(draw(shape))
        assert iou(found, shape) > 0.95


def test_straightening_never_costs_more_than_a_tenth_of_the_overlap() -> None:
    rng = np.random.default_rng(0)
    p = ndimage.gaussian_filter(rng.normal(size=(500, 500)), 6.0)
    p = (1 / (1 + np.exp(-40 * p))).astype(np.float32)
    pixels, straight = (outline_buildings(p, 0.6, gsd_m=GSD_M, regularize=r).polygons for r in (False, True))
    assert len(straight) == len(pixels) > 50
    assert shapely.is_valid(straight).all()
    common = shapely.area(shapely.intersection(pixels, straight))
    overlap = common / (shapely.area(pixels) + shapely.area(straight) - common)
    assert overlap.min() > 0.85  # 0.9 with the pixels, from which the simplified outlines differ too
    assert shapely.area(straight).sum() == pytest.approx(shapely.area(pixels).sum(), rel=0.01)


@pytest.mark.parametrize("degrees", [0, 5, 30, 44, 60, 85])
def test_the_main_direction_is_that_of_the_long_walls(degrees: float) -> None:
    house = box(0, 0, 30, 12) | box(0, 0, 9, 22)
    slanting = house - shapely.Polygon([(20, 0), (30, 0), (30, 6)])
    (angle,) = np.rad2deg(main_directions(np.array([affinity.rotate(slanting, degrees)], object)))
    assert abs((angle - degrees + 45) % 90 - 45) < 1.5


def test_a_ring_is_squared_by_levelling_its_short_walls() -> None:
    ring = np.array(
        [(0, 0), (10, 0), (10, 0.4), (20, 0.4), (20, 8), (12, 8), (12, 9.5), (11.5, 9.5), (11.5, 8), (0, 8)]
    )
    squared = square_ring(ring, 1.0)
    assert shapely.Polygon(squared).normalize().equals_exact(box(0, 0.2, 20, 8).normalize(), 1e-9)
    assert len(square_ring(np.array([(0.0, 0.0), (0.5, 0.0), (0.5, 0.0)]), 1.0)) == 0


@pytest.mark.parametrize(
    ("style", "gsd_m"), [("suburb", 0.5), ("grid", 0.5), ("rural", 0.8), ("desert", 0.8)]
)
def test_a_town_comes_out_house_by_house(style: str, gsd_m: float) -> None:
    size_m = 300.0
    feet = np.concatenate(
        [b.footprints for b in Town(3, style, gsd_m).plan((0, 0, size_m, size_m)).buildings]
    )
    houses = shapely.polygons(feet)
    houses = houses[(shapely.area(houses) > 30) & shapely.within(houses, box(3, 3, size_m - 3, size_m - 3))]
    tree = shapely.STRtree(houses)
    near = np.bincount(tree.query(houses, "dwithin", 2.0)[0], minlength=len(houses))
    found = found_in(draw(*houses, size_m=size_m, gsd_m=gsd_m), gsd_m)
    assert len(found) <= len(houses)
    alone = houses[near == 1]
    best = [
        max((iou(house, found[i]) for i in shapely.STRtree(found).query(house)), default=0) for house in alone
    ]
    assert len(alone) > 10
    assert np.mean(np.array(best) > 0.8) > 0.95
    assert np.mean(best) > 0.9


# ---------------------------------------------------------------------------------------------- streaming


def write_raster(
    path: Path, p: NDArray[Any], crs: str | None = "EPSG:32640", transform: Affine = UTM, gsd_m: float = GSD_M
) -> Path:
    values = encode_probabilities(np.nan_to_num(p).astype(np.float32), ~np.isnan(p))
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": NODATA, "tiled": True}
    with rasterio.open(
        path, "w", width=p.shape[1], height=p.shape[0], crs=crs, transform=transform, **profile
    ) as dataset:
        dataset.write(values, 1)
        dataset.update_tags(**ProbabilityTags("buildings", "building", gsd_m, 0.5).to_tags())
    return path


def vectorize(path: Path, **changes: Any) -> tuple[geopandas.GeoDataFrame, BuildingSummary]:
    settings = {"threshold": 0.5, "min_area_m2": 10.0, "regularize": True, **changes}
    layer = path.with_suffix(".gpkg")
    summary = finish(vectorize_buildings(path, buildings=layer, attributes=ATTRIBUTES, **settings))
    return geopandas.read_file(layer), summary


def crowd(size: int = 700, seed: int = 0) -> NDArray[np.float32]:
    """Probabilities of a crowded town: many houses touch."""
    rng = np.random.default_rng(seed)
    size_m = size * GSD_M
    houses = [
        affinity.rotate(box(x, y, x + w, y + h), a)
        for x, y, w, h, a in zip(
            rng.uniform(0, size_m, 500),
            rng.uniform(0, size_m, 500),
            rng.uniform(6, 18, 500),
            rng.uniform(6, 18, 500),
            rng.uniform(0, 90, 500),
            strict=True,
        )
    ]
    noise = ndimage.gaussian_filter(rng.normal(size=(size, size)), 3.0)
    p = 0.95 * draw(*houses, size_m=size_m, blur_m=0.8) + 0.05 * noise / noise.std()
    return np.clip(p, 0, 1).astype(np.float32)


def shapes_of(layer: geopandas.GeoDataFrame) -> list[bytes]:
    return sorted(layer.geometry.normalize().to_wkb())


@pytest.mark.parametrize("window_px", [410, 233])
def test_buildings_are_the_same_whatever_the_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window_px: int
) -> None:
    path = write_raster(tmp_path / "p.tif", crowd())
    whole, summary = vectorize(path)
    monkeypatch.setattr(windows, "WINDOW_PX", window_px)
    parts, part_summary = vectorize(path)
    assert len(whole) > 100
    assert shapes_of(whole) == shapes_of(parts)
    assert sorted(whole.mean_p) == sorted(parts.mean_p)
    assert part_summary.buildings == summary.buildings == len(whole)
    assert part_summary.area_m2 == pytest.approx(summary.area_m2)


def test_low_windows_give_the_same_buildings_from_the_rows_that_they_ask_for(tmp_path: Path) -> None:
    p = crowd()
    whole, _ = vectorize(write_raster(tmp_path / "p.tif", p))
    values = encode_probabilities(p, np.ones(p.shape, bool))
    grid = Grid(p.shape[1], p.shape[0], UTM, rasterio.CRS.from_epsg(32640), GSD_M, (1.0, 1.0))
    tracer = BuildingTracer(grid, threshold=0.5, min_area_m2=10.0, regularize=True, window_rows=90)
    found, needed = [], []
    while not tracer.is_done:
        needed.append(tracer.rows_needed)
        known = values[: needed[-1]]
        found += list(
            tracer.trace_next(lambda w, known=known: known[w.row :, w.col :][: w.height, : w.width]).polygons
        )
    assert needed == sorted(needed)
    assert needed[0] < needed[-1] == 700
    assert sorted(shapely.normalize(np.array(found)).tolist(), key=shapely.to_wkb) == sorted(
        whole.geometry.normalize(), key=shapely.to_wkb
    )


def test_in_memory_and_from_a_raster_the_same_buildings_are_found(tmp_path: Path) -> None:
    p = crowd(300)
    layer, _ = vectorize(write_raster(tmp_path / "p.tif", p))
    found = outline_buildings(p, 0.5, gsd_m=GSD_M)
    there = shapely.transform(found.polygons, lambda points: points * (GSD_M, -GSD_M) + (UTM.c, UTM.f))
    union = shapely.union_all(there)
    assert len(there) == len(layer)
    assert union.symmetric_difference(shapely.union_all(layer.geometry.values)).area < 1e-6 * union.area
    np.testing.assert_allclose(np.sort(found.mean_p), np.sort(layer.mean_p))


def test_a_hall_larger_than_a_window_and_its_view_is_one_polygon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall = affinity.rotate(box(40, 120, 310, 240) - box(150, 160, 200, 200), 20, origin=(175, 175))
    path = write_raster(tmp_path / "p.tif", draw(hall, size_m=350.0))
    monkeypatch.setattr(windows, "WINDOW_PX", 100)
    monkeypatch.setattr(buildings_module, "CONTEXT_M", 15.0)
    layer, summary = vectorize(path)
    assert summary.buildings == 1
    there = affinity.affine_transform(hall, [1, 0, 0, -1, UTM.c, UTM.f])
    assert iou(layer.geometry[0], there) > 0.98
    assert len(layer.geometry[0].interiors) == 1
    assert layer.area_m2[0] == pytest.approx(there.area, rel=0.01)


def test_with_a_short_view_nothing_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster(tmp_path / "p.tif", crowd())
    monkeypatch.setattr(buildings_module, "simplify_outlines", lambda polygons, size_px: polygons)
    whole, _ = vectorize(path, regularize=False, min_area_m2=0.0)
    monkeypatch.setattr(windows, "WINDOW_PX", 64)
    monkeypatch.setattr(buildings_module, "CONTEXT_M", 2.0)
    parts, _ = vectorize(path, regularize=False, min_area_m2=0.0)
    union = shapely.union_all(parts.geometry.values)
    assert union.area == pytest.approx(parts.area.sum())
    assert union.area == pytest.approx(whole.area.sum(), rel=0.01)


def test_every_feature_says_what_it_is(tmp_path: Path) -> None:
    p = draw(box(20, 20, 40, 32)) * 0.9
    layer, summary = vectorize(write_raster(tmp_path / "p.tif", p), threshold=0.45)
    assert list(layer.columns[:-1]) == ["class", "area_m2", "mean_p", "model", "source", "date"]
    row = layer.iloc[0]
    assert (row["class"], row.model, row.source) == ("building", "starter", "scene.tif")
    assert row.area_m2 == pytest.approx(240, rel=0.05)
    assert row.mean_p == pytest.approx(p[p >= 0.45].mean(), abs=0.01)
    assert summary == BuildingSummary(1, pytest.approx(row.area_m2))


def test_areas_are_true_in_a_geographic_crs(tmp_path: Path) -> None:
    metre = 1 / 111_320
    transform = Affine(GSD_M * metre * 2, 0, 25.0, 0, -GSD_M * metre, 60.0)
    layer, _ = vectorize(write_raster(tmp_path / "p.tif", draw(box(20, 20, 50, 40)), "EPSG:4326", transform))
    area_m2, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(layer.geometry[0])
    assert layer.area_m2[0] == pytest.approx(abs(area_m2), rel=1e-3)


def test_nodata_is_no_building_and_no_wall(tmp_path: Path) -> None:
    p = draw(box(20, 20, 50, 40))
    p[:, 70:] = np.nan
    layer, _ = vectorize(write_raster(tmp_path / "p.tif", p))
    assert layer.total_bounds[2] <= UTM.c + 70 * GSD_M + 0.5
    assert layer.area_m2.sum() == pytest.approx(15 * 20, rel=0.05)


def test_an_empty_map_gives_a_valid_layer(tmp_path: Path) -> None:
    layer, summary = vectorize(write_raster(tmp_path / "p.tif", np.zeros((50, 60))))
    assert summary == BuildingSummary(0, 0.0)
    assert len(layer) == 0
    assert "mean_p" in layer.columns
    assert layer.crs == "EPSG:32640"


def test_what_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "p.tif", np.zeros((50, 60)))
    for changes, says in (
        ({"threshold": 0.0}, "threshold of 0"),
        ({"threshold": float("nan")}, "threshold of nan"),
        ({"min_area_m2": -1.0}, "area of -1"),
    ):
        with pytest.raises(JobError, match=says):
            vectorize(path, **changes)
    with pytest.raises(RasterError, match="missing"):
        vectorize(tmp_path / "missing.tif")
    with pytest.raises(OutputError, match="nowhere"):
        finish(
            vectorize_buildings(
                path,
                threshold=0.5,
                min_area_m2=0.0,
                regularize=True,
                buildings=tmp_path / "nowhere" / "b.gpkg",
                attributes=ATTRIBUTES,
            )
        )
