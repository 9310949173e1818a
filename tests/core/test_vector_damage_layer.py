"""The layer of damaged buildings: what it says of each building, and that it says it of every one."""

import csv
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.core.damage_fields import FIELDS
from aftermap.core.errors import OutputError
from aftermap.core.raster.grid import Grid
from aftermap.core.vector.damage_layer import (
    LAYER,
    Assessment,
    ModelLevel,
    Origin,
    measure_areas,
    rename_attributes,
    sum_up,
    write_damage_layer,
    write_summary,
)
from aftermap.core.vector.footprint_input import Footprints

UTM = CRS.from_epsg(32615)
THREE = (ModelLevel(1, "no visible damage"), ModelLevel(3, "damaged"), ModelLevel(4, "destroyed"))
FOUR = tuple(ModelLevel(i, f"level {i}") for i in (1, 2, 3, 4))
NAN = float("nan")


def assessment(probabilities, seen=None, area_m2=None, levels=THREE) -> Assessment:
    p = np.array(probabilities, float)
    return Assessment(
        levels,
        p,
        np.ones(len(p)) if seen is None else np.array(seen, float),
        np.full(len(p), 100.0) if area_m2 is None else np.array(area_m2, float),
    )


def test_fields_by_hand():
    columns = assessment([[0.1, 0.2, 0.7], [0.8, 0.15, 0.05]], seen=[1, 0.5], area_m2=[200, 50]).columns()
    assert columns["damage"].tolist() == [4, 1]
    assert columns["damage_nam"].tolist() == ["destroyed", "no visible damage"]
    np.testing.assert_allclose(columns["p_none"], [0.1, 0.8])
    assert np.isnan(columns["p_minor"]).all()  # a level that the model does not tell apart
    np.testing.assert_allclose(columns["p_major"], [0.2, 0.15])
    np.testing.assert_allclose(columns["severity"], [0.1 + 0.6 + 2.8, 0.8 + 0.45 + 0.2])
    np.testing.assert_allclose(columns["confidence"], [0.7, 0.8])
    np.testing.assert_allclose(columns["triage"], [140, 2.5])
    assert columns["moved_m"].tolist() == [0, 0]  # none was


def test_too_little_seen_is_unknown_and_says_nothing_of_damage():
    columns = assessment([[0.9, 0.1, 0.0], [NAN] * 3, [NAN] * 3], seen=[0.49, 0, 0.9]).columns()
    assert columns["damage"].tolist() == [0, 0, 0]
    assert columns["damage_nam"].tolist() == ["unknown"] * 3
    assert columns["ems"].tolist() == ["Not analysed"] * 3
    for name in ("p_none", "p_major", "p_destr", "severity", "confidence", "triage"):
        assert np.isnan(columns[name]).all()
    assert columns["seen"].tolist() == [0.49, 0, 0.9]


@pytest.mark.parametrize(
    ("p", "damage", "ems", "unosat"),
    [
        ([0.9, 0.05, 0.05, 0.0], 1, "No visible damage", "No visible damage"),
        ([0.55, 0.15, 0.15, 0.15], 1, "Possibly damaged", "Possible damage"),
        ([0.02, 0.9, 0.05, 0.03], 2, "Possibly damaged", "Possible damage"),
        ([0.05, 0.15, 0.7, 0.1], 3, "Damaged", "Severe damage"),
        ([0.05, 0.0, 0.15, 0.8], 4, "Destroyed", "Destroyed"),
        ([0.02, 0.0, 0.45, 0.53], 4, "Damaged", "Severe damage"),  # damaged for certain, destroyed or not
        ([0.45, 0.0, 0.05, 0.5], 4, "Possibly damaged", "Possible damage"),
        ([0.38, 0.0, 0.35, 0.27], 1, "Possibly damaged", "Possible damage"),
    ],
)
def test_other_agencies_classes_are_stated_where_they_are_certain(p, damage, ems, unosat):
    columns = assessment([p], levels=FOUR).columns()
    assert (columns["damage"][0], columns["ems"][0], columns["unosat"][0]) == (damage, ems, unosat)


def test_source_attributes_are_renamed_by_rule():
    names = [
        "name",
        "damage",
        "Area_m2",
        "fid",
        "addr:housenumber",
        "addr:housename",
        "src_damage",
        "NAME",
        "ж" * 8,
        "geom",
        "",
    ]
    renamed = rename_attributes(names)
    assert list(renamed) == names
    assert renamed["name"] == "name"
    assert renamed["damage"] == "src_damage"
    assert renamed["Area_m2"] == "src_Area_m"
    assert renamed["fid"] == "src_fid"
    assert renamed["addr:housenumber"] == "addr:house"
    assert renamed["addr:housename"] == "src_addr:h"
    assert renamed["NAME"] == "src_NAME"
    assert renamed["ж" * 8] == "ж" * 5
    everything = [*renamed.values(), *(name for name, _, _ in FIELDS)]
    assert len({name.lower() for name in everything}) == len(everything)
    assert all(0 < len(name.encode()) <= 10 for name in everything)


def test_a_hundred_attributes_of_one_name_stay_apart():
    renamed = rename_attributes([f"damage_name_{i}" for i in range(120)])
    assert len({name.lower() for name in renamed.values()}) == 120
    assert max(len(name) for name in renamed.values()) == 10


def written(path: Path, footprints: Footprints, found: Assessment, **origin) -> tuple[dict, np.ndarray, dict]:
    write_damage_layer(path, UTM, footprints, found, Origin("judge", **origin))
    meta, _, blobs, columns = pyogrio.raw.read(path, layer=LAYER)
    return meta, shapely.from_wkb(blobs), dict(zip(meta["fields"], columns, strict=True))


def footprints(shapes: list, **attributes) -> Footprints:
    ids = np.array([f"b{i}" for i in range(len(shapes))], object)
    return Footprints(np.array(shapes, object), ids, attributes)


def test_the_layer_holds_every_footprint_with_its_attributes(tmp_path):
    shapes = [
        shapely.box(500000, 4100000, 500020, 4100010),
        shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)]),
        shapely.Polygon(),
    ]
    given = footprints(
        shapes,
        name=np.array(["Łódź", None, "x"], object),
        floors=np.ma.MaskedArray([1, 2, 3], [False, True, False]),
        damage=np.array([0.5, NAN, 2.5]),
    )
    found = assessment([[0.1, 0.2, 0.7], [0.9, 0.1, 0.0], [NAN] * 3], [1, 1, 0], [200, 2, NAN])
    meta, geometries, columns = written(tmp_path / "b.gpkg", given, found, post_date="2011-05-24")
    assert list(meta["fields"]) == [*(name for name, _, _ in FIELDS), "name", "floors", "src_damage"]
    assert meta["geometry_type"] == "MultiPolygon"
    assert pyproj.CRS(meta["crs"]) == pyproj.CRS(32615)
    assert shapely.is_empty(geometries).tolist() == [False, False, True]
    assert shapely.area(geometries).tolist() == [200, 2, 0]
    assert columns["source_id"].tolist() == ["b0", "b1", "b2"]
    assert columns["damage"].tolist() == [4, 1, 0]
    assert columns["damage"].dtype == np.int32
    np.testing.assert_allclose(columns["p_destr"], [0.7, 0.0, NAN])
    assert columns["name"].tolist() == ["Łódź", None, "x"]
    np.testing.assert_allclose(columns["floors"], [1, NAN, 3])
    np.testing.assert_allclose(columns["src_damage"], [0.5, NAN, 2.5])
    assert columns["post_date"].tolist() == ["2011-05-24"] * 3
    assert columns["pre_date"].tolist() == [None] * 3
    assert np.isnan(columns["off_nadir"]).all()
    assert columns["reviewed"].tolist() == [0, 0, 0]
    assert np.isnan(columns["model_dam"]).all()  # NULL, not a level
    assert columns["model"].tolist() == ["judge"] * 3


def test_plain_polygons_stay_polygons_and_a_shapefile_keeps_all_names(tmp_path):
    given = footprints(
        [shapely.box(i, 0, i + 1, 1) for i in range(5)], straßenname=np.array(["ö"] * 5, object)
    )
    found = assessment([[0.2, 0.3, 0.5]] * 5, levels=THREE)
    meta, _, _ = written(tmp_path / "b.gpkg", given, found, off_nadir=21.5)
    assert meta["geometry_type"] == "Polygon"
    meta, _, blobs, columns = pyogrio.raw.read(tmp_path / "b.gpkg")
    pyogrio.raw.write(
        tmp_path / "b.shp",
        blobs,
        columns,
        meta["fields"],
        crs=meta["crs"],
        geometry_type="Polygon",
        driver="ESRI Shapefile",
        encoding="UTF-8",
    )
    again, _, shapes, values = pyogrio.raw.read(tmp_path / "b.shp")
    assert list(again["fields"]) == list(meta["fields"])
    assert len(shapes) == 5
    assert dict(zip(again["fields"], values, strict=True))["straßenna"].tolist() == ["ö"] * 5


def test_no_footprints_give_an_empty_layer(tmp_path):
    meta, geometries, _ = written(tmp_path / "b.gpkg", footprints([]), assessment(np.zeros((0, 3))))
    assert len(geometries) == 0
    assert set(meta["fields"]) == {name for name, _, _ in FIELDS}


@pytest.mark.parametrize("epsg", [32615, 3857, 4326])
def test_areas_are_ellipsoidal(epsg):
    crs = pyproj.CRS(epsg)
    to_degrees = pyproj.Transformer.from_crs(32615, crs, always_xy=True)
    house = shapely.transform(
        shapely.segmentize(shapely.box(500000, 4100000, 500040, 4100025), 1.0),
        lambda points: np.column_stack(to_degrees.transform(points[:, 0], points[:, 1])),
    )
    x, y = house.bounds[0], house.bounds[3]
    step = {32615: 0.5, 3857: 0.63, 4326: 5e-6}[epsg]
    grid = Grid(400, 400, Affine(step, 0, x, 0, -step, y), CRS.from_epsg(epsg), 0.5, (1.0, 1.0))
    areas = measure_areas(np.array([house, shapely.Polygon()], object), grid)
    assert areas[0] == pytest.approx(1000 / 0.9996**2, rel=1e-4)
    assert np.isnan(areas[1])


def test_the_summary_counts_every_building_once(tmp_path):
    found = assessment(
        [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.9, 0.1, 0.0], [NAN] * 3],
        seen=[1, 1, 0.2, 0],
        area_m2=[100.25, 50, 30, NAN],
    )
    totals = sum_up(found)
    assert [(t.code, t.buildings, t.area_m2) for t in totals] == [
        (1, 1, 50.0), (3, 0, 0.0), (4, 1, 100.25), (0, 2, 30.0),
    ]  # fmt: skip
    path = tmp_path / "summary.csv"
    write_summary(path, totals)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["damage", "level", "buildings (model count, unreviewed)", "area_m2"]
    assert rows[1:] == [
        ["1", "no visible damage", "1", "50.0"],
        ["3", "damaged", "0", "0.0"],
        ["4", "destroyed", "1", "100.2"],
        ["0", "unknown", "2", "30.0"],
        ["", "total", "4", "180.2"],
    ]
    with pytest.raises(OutputError, match="no folder"):
        write_summary(tmp_path / "none" / "s.csv", totals)
