"""Known footprints: each feature comes back once, with its id and attributes, or a sentence says why not."""

import json
import warnings
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.core.errors import VectorError
from aftermap.core.vector.footprint_input import onto_pixels, read_footprints

UTM, DEGREES = CRS.from_epsg(32615), CRS.from_epsg(4326)
HOUSE = {"type": "Polygon", "coordinates": [[[-94, 37], [-94, 37.001], [-93.999, 37.001], [-94, 37]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
SPIKE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0], [0, 0]]]}
TWO = {
    "type": "MultiPolygon",
    "coordinates": [[[[5, 5], [6, 5], [6, 6], [5, 5]]], [[[8, 8], [9, 8], [9, 9], [8, 8]]]],
}


def geojson(path: Path, geometries: list, properties: list | None = None, first_id: int = 0) -> str:
    features = [
        {"type": "Feature", "id": first_id + i, "properties": p, "geometry": g}
        for i, (g, p) in enumerate(zip(geometries, properties or [{}] * len(geometries), strict=True))
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return str(path)


def test_every_feature_comes_back_once_in_its_order(tmp_path):
    path = geojson(tmp_path / "f.geojson", [HOUSE, None, BOW_TIE, TWO, SPIKE, HOUSE], first_id=7)
    found = read_footprints(path, "", DEGREES)
    assert found.ids.tolist() == ["7", "8", "9", "10", "11", "12"]
    assert shapely.is_valid(found.shapes).all()
    assert [s.geom_type for s in found.shapes[:4]] == ["Polygon", "Polygon", "MultiPolygon", "MultiPolygon"]
    assert shapely.is_empty(found.shapes).tolist() == [False, True, False, False, True, False]
    assert shapely.area(found.shapes[[2, 3]]).tolist() == [2.0, 1.0]
    assert (found.repaired, found.empty) == (2, 2)


def test_attributes_keep_their_values_and_types(tmp_path):
    given = [
        {"name": "Straße 景", "floors": 3, "ok": True, "area": 1.5, "tags": ["a", "é"], "day": "2020-03-07"},
        {"name": None, "floors": None, "ok": None, "area": None, "tags": None, "day": None},
    ]
    found = read_footprints(geojson(tmp_path / "f.geojson", [HOUSE] * 2, given), "", DEGREES).attributes
    assert list(found) == list(given[0])
    assert found["name"].tolist() == ["Straße 景", None]
    assert found["floors"].dtype.kind == "i"
    assert found["floors"].tolist() == [3, None]
    assert found["ok"].tolist() == [True, None]
    assert np.isnan(found["area"][1])
    assert found["tags"].tolist() == ['["a", "é"]', None]
    assert found["day"].tolist() == ["2020-03-07", None]


@pytest.mark.parametrize(
    ("properties", "ids"),
    [
        ([{"osm_id": 2**60 + 1}, {"osm_id": 5}], [str(2**60 + 1), "5"]),
        ([{"UID": "a"}, {"UID": "b"}], ["a", "b"]),
        ([{"uid": "a", "id": 1}, {"uid": "a", "id": 2}], ["1", "2"]),  # not one for each
        ([{"id": None}, {"id": 3}], ["0", "1"]),
        ([{"uid": ""}, {"uid": "b"}], ["0", "1"]),
        ([{"height": 3}, {"height": 4}], ["0", "1"]),
    ],
)
def test_ids_are_those_that_tell_footprints_apart(tmp_path, properties, ids):
    path = geojson(tmp_path / "f.geojson", [HOUSE] * 2, properties)
    assert read_footprints(path, "", DEGREES).ids.tolist() == ids


def test_footprints_come_into_the_rasters_crs(tmp_path):
    found = read_footprints(geojson(tmp_path / "f.geojson", [HOUSE]), "", UTM).shapes[0]
    assert shapely.area(found) == pytest.approx(0.5 * 88.9 * 110.96, rel=0.01)
    with pytest.raises(VectorError, match="raster has no CRS"):
        read_footprints(str(tmp_path / "f.geojson"), "", None)


def test_a_footprint_outside_of_the_crs_is_empty_and_the_others_stay(tmp_path):
    mercator, pole = (
        CRS.from_epsg(3857),
        {"type": "Polygon", "coordinates": [[[0, 95], [9, 95], [9, 99], [0, 95]]]},
    )
    found = read_footprints(geojson(tmp_path / "f.geojson", [pole, HOUSE]), "", mercator)
    assert shapely.is_empty(found.shapes).tolist() == [True, False]
    with pytest.raises(VectorError, match="domain"):
        read_footprints(geojson(tmp_path / "p.geojson", [pole]), "", mercator)


def layer(path: Path, shapes: list, crs: str | None, name: str = "houses", kind: str = "Unknown") -> None:
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(shapes)), [], [], layer=name, driver="GPKG", crs=crs, geometry_type=kind
    )


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_without_a_crs_there_is_a_sentence_unless_the_raster_has_none_either(tmp_path):
    pyogrio.raw.write(
        tmp_path / "f.shp",
        shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)])),
        [],
        [],
        geometry_type="Polygon",
        driver="ESRI Shapefile",
        crs=None,
    )
    with pytest.raises(VectorError, match="no CRS"):
        read_footprints(str(tmp_path / "f.shp"), "", UTM)
    assert shapely.area(read_footprints(str(tmp_path / "f.shp"), "", None).shapes).tolist() == [1.0]


def test_what_is_no_layer_of_polygons_is_a_sentence(tmp_path):
    path = tmp_path / "f.gpkg"
    layer(path, [shapely.box(0, 0, 1, 1), shapely.Point(1, 1), shapely.Point(2, 1)], "EPSG:32615")
    with pytest.raises(VectorError, match=r"2 of the 3 features .* no polygons .*Point"):
        read_footprints(str(path), "houses", UTM)
    with pytest.raises(VectorError, match="cannot be read from the layer 'sheds'"):
        read_footprints(str(path), "sheds", UTM)
    with pytest.raises(VectorError, match="no file"):
        read_footprints(str(tmp_path / "nothing.gpkg"), "", UTM)
    (tmp_path / "f.txt").write_text("houses")
    with pytest.raises(VectorError, match="cannot be read"):
        read_footprints(str(tmp_path / "f.txt"), "", UTM)
    (tmp_path / "f.csv").write_text("a,b\n1,2\n")
    with pytest.raises(VectorError, match="no footprints"):
        read_footprints(str(tmp_path / "f.csv"), "", UTM)
    layer(tmp_path / "empty.gpkg", [], "EPSG:32615", kind="Polygon")
    with pytest.raises(VectorError, match="no footprints"):
        read_footprints(str(tmp_path / "empty.gpkg"), "", UTM)


def test_pixels_and_coordinates_belong_together():
    transform = Affine.translation(500, 4000) * Affine.rotation(20) * Affine.scale(0.5, -0.5)
    pixels = np.array([shapely.box(3, 4, 10, 12)])
    ground = shapely.transform(
        pixels, lambda points: np.array([transform * tuple(point) for point in points.tolist()])
    )
    assert shapely.equals_exact(onto_pixels(ground, transform), pixels, 1e-9).all()


def test_coordinates_that_are_no_numbers_are_no_geometry(tmp_path):
    path = tmp_path / "f.gpkg"
    with np.errstate(invalid="ignore"):
        broken = shapely.Polygon([(0, 0), (4, np.nan), (4, 4), (0, 0)])
        blobs = shapely.to_wkb([shapely.box(0, 0, 1, 1), broken])
    pyogrio.raw.write(path, blobs, [np.arange(2)], ["n"], geometry_type="Polygon", crs="EPSG:32615")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_footprints(str(path), "", UTM)
    assert shapely.is_empty(found.shapes).tolist() == [False, True]
    assert (found.repaired, found.empty) == (1, 1)
