"""``aftermap:assessdamage`` and ``aftermap:exportdamage``, with a worker that speaks the contract."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsDateTimeRange,
    QgsFeature,
    QgsGeometry,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QDateTime, Qt

from .damage_files import SIDE, STREET, counts, write_buildings

PEER = Path(__file__).with_name("damage_peer.py")
ALL = 40  # buildings that the peer finds


class Feedback(QgsProcessingFeedback):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.warnings, self.infos = [], []

    def pushWarning(self, text):  # noqa: N802
        self.warnings.append(text)

    def pushInfo(self, text):  # noqa: N802
        self.infos.append(text)


@pytest.fixture
def jobs(plugin, tmp_path, monkeypatch):
    """What the worker was sent, in a plugin whose worker is the peer."""
    path = tmp_path / "lines.jsonl"
    monkeypatch.setenv("AFTERMAP_PEER_LOG", str(path))
    plugin._workers._launcher = PEER
    plugin._workers.find_python = lambda: Path(sys.executable)

    def read():
        lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line["type"] == "AssessDamage"]

    return read


def assess(parameters, feedback=None):
    import processing  # QGIS puts it on the path when it starts

    return processing.run("aftermap:assessdamage", parameters, feedback=feedback)


def export(parameters, feedback=None):
    import processing

    return processing.run("aftermap:exportdamage", parameters, feedback=feedback)


def sent_footprints(job):
    name = f"|layername={job['footprints_layer']}" if job["footprints_layer"] else ""
    return QgsVectorLayer(job["footprints"] + name)


def footprints(count=3):
    layer = QgsVectorLayer("Polygon?crs=EPSG:32637&field=name:string", "footprints", "memory")
    for column in range(count):
        feature = QgsFeature(layer.fields())
        left = 500000 + 20 * column
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, 4099900, left + 10, 4099910)))
        feature.setAttributes([f"house {column}"])
        layer.dataProvider().addFeature(feature)
    return layer


def test_all_parameters_reach_the_job(jobs, scene, write_scene, tmp_path):
    before = write_scene(tmp_path / "before.tif", size=64)
    results = assess(
        {
            "POST": str(scene),
            "PRE": str(before),
            "MODEL": "made",
            "EXTENT": "500000,500064,4099936,4100000 [EPSG:32637]",
            "AOI": footprints(1),
            "AOI_FIRST": True,
            "MIN_AREA": 25,
            "NUDGE_EAST": 1.5,
            "NUDGE_NORTH": -2,
            "ALIGN": False,
            "POST_DATE": "2023-02-08",
            "BANDS": [3, 2, 1],
            "PRE_BANDS": [1, 2, 3],
            "GSD": 0.5,
            "DEVICE": "cpu",
            "OUTPUT_BUILDINGS": str(tmp_path / "out" / "b.gpkg"),
            "OUTPUT_DAMAGE": str(tmp_path / "out" / "d.tif"),
            "OUTPUT_SUMMARY": str(tmp_path / "out" / "s.csv"),
        }
    )
    (job,) = jobs()
    expected = {
        "post": str(scene),
        "pre": str(before),
        "model": "made",
        "extent": [500000, 4099936, 500064, 4100000],
        "extent_crs": "EPSG:32637",
        "aoi_first": True,
        "min_area_m2": 25,
        "nudge_m": [1.5, -2],
        "align": False,
        "post_date": "2023-02-08",
        "pre_date": "",
        "bands": [3, 2, 1],
        "pre_bands": [1, 2, 3],
        "gsd_m": 0.5,
        "device": "cpu",
        "footprints": "",
        "output_buildings": results["OUTPUT_BUILDINGS"],
        "output_damage": results["OUTPUT_DAMAGE"],
        "output_summary": results["OUTPUT_SUMMARY"],
    }
    assert {name: job[name] for name in expected} == expected
    assert Path(results["MANIFEST"]).is_file()
    assert results["BUILDINGS"] == ALL


def test_only_the_image_after_is_needed(jobs, scene):
    feedback = Feedback()
    results = assess({"POST": str(scene), "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT"}, feedback)
    (job,) = jobs()
    assert (job["pre"], job["footprints"], job["extent"], job["align"]) == ("", "", None, True)
    assert (job["output_damage"], job["output_summary"]) == ("", "")
    assert QgsVectorLayer(results["OUTPUT_BUILDINGS"]).featureCount() == ALL
    assert feedback.warnings == ["The images fit badly: the shift differs from place to place."]
    assert any(
        "40 buildings: 20 no visible damage, 8 damaged, 8 destroyed, 4 unknown" in t for t in feedback.infos
    )
    assert any("unreviewed" in text for text in feedback.infos)


def test_dates_come_from_the_layers(jobs, scene):
    layer = QgsRasterLayer(str(scene), "scene")
    times = layer.temporalProperties()
    times.setIsActive(True)
    begin = QDateTime.fromString("2023-02-08T08:15:00", Qt.DateFormat.ISODate)
    times.setFixedTemporalRange(QgsDateTimeRange(begin, begin))
    assess({"POST": layer, "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT"})
    assess({"POST": layer, "POST_DATE": "2023-02-09", "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT"})
    assert [job["post_date"] for job in jobs()] == ["2023-02-08T08:15:00", "2023-02-09"]


def test_footprints_hold_with_selection_and_memory_layer(jobs, scene):
    layer = footprints()
    QgsProject.instance().addMapLayer(layer)
    layer.selectByIds([1, 3])
    parameters = {
        "POST": str(scene),
        "FOOTPRINTS": QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True),
        "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT",
    }
    assess(parameters)
    (job,) = jobs()
    QgsProject.instance().removeMapLayer(layer)
    sent = sent_footprints(job)
    assert sorted(feature["name"] for feature in sent.getFeatures()) == ["house 0", "house 2"]
    assert sent.crs().authid() == "EPSG:32637"


def test_filter_of_a_file_holds(jobs, scene, tmp_path):
    layer = QgsVectorLayer(write_buildings(tmp_path / "known.gpkg", 20), "known")
    layer.setSubsetString("\"source_id\" = 'osm/7'")
    assess({"POST": str(scene), "FOOTPRINTS": layer, "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT"})
    (job,) = jobs()
    sent = sent_footprints(job)
    assert [feature["source_id"] for feature in sent.getFeatures()] == ["osm/7"]


def test_crs_that_only_the_layer_of_footprints_has_is_sent(jobs, scene, tmp_path):
    layer = QgsVectorLayer(write_buildings(tmp_path / "known.gpkg", 5, epsg=0), "known")
    layer.setCrs(QgsCoordinateReferenceSystem("EPSG:32637"))
    assess({"POST": str(scene), "FOOTPRINTS": layer, "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT"})
    (job,) = jobs()
    sent = sent_footprints(job)
    assert sent.crs().authid() == "EPSG:32637"
    assert sent.featureCount() == 5


def test_images_that_the_worker_cannot_open_are_exported(jobs, write_scene, tmp_path, damage_model):
    from qgis.core import QgsRasterRange

    images = {}
    for name, size in (("POST", 128), ("PRE", 64)):
        images[name] = QgsRasterLayer(str(write_scene(tmp_path / f"{name}.tif", size=size)), name)
        images[name].dataProvider().setUserNoDataValue(1, [QgsRasterRange(60, 60)])  # only QGIS knows
    assess({**images, "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT"})
    (job,) = jobs()
    assert (Path(job["post"]).name, Path(job["pre"]).name) == ("post.tif", "pre.tif")
    assert (job["source"].partition(",")[0], job["pre_source"].partition(",")[0]) == ("POST", "PRE")
    assert not job["resume"]
    assert not Path(job["post"]).exists(), "it goes with the run"


def test_shapefile_is_written_beside_its_manifest(jobs, scene, tmp_path):
    results = assess({"POST": str(scene), "OUTPUT_BUILDINGS": str(tmp_path / "out" / "b.shp")})
    assert QgsVectorLayer(results["OUTPUT_BUILDINGS"]).featureCount() == ALL
    assert Path(results["MANIFEST"]).parent == tmp_path / "out"


def test_failure_is_the_workers_sentence(jobs, scene):
    with pytest.raises(QgsProcessingException, match="do not overlap"):
        assess({"POST": str(scene), "MODEL": "fail", "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT"})


def test_image_before_that_is_none_is_refused(jobs, scene):
    with pytest.raises(QgsProcessingException):
        assess({"POST": str(scene), "PRE": "/no/such.tif", "OUTPUT_BUILDINGS": "TEMPORARY_OUTPUT"})


# ------------------------------------------------------------------------------------------- export


@pytest.fixture
def buildings(plugin, tmp_path):
    return write_buildings(tmp_path / "made" / "buildings.gpkg", 50)


def values(layer, *names):
    return sorted(tuple(feature[name] for name in names) for feature in layer.getFeatures())


def test_exported_files_hold_what_the_layer_holds(buildings, tmp_path):
    results = export({"INPUT": buildings, "OUTPUT": str(tmp_path / "out")})
    layer = QgsVectorLayer(buildings)
    names = ("source_id", "damage", "damage_nam", "area_m2", "street", "unosat")
    for name, crs in (("GEOPACKAGE", "EPSG:32637"), ("SHAPEFILE", "EPSG:32637"), ("GEOJSON", "EPSG:4326")):
        written = QgsVectorLayer(results[name])
        assert written.isValid(), name
        assert written.featureCount() == 50
        assert written.crs().authid() == crs
        assert values(written, *names) == values(layer, *names)
        assert STREET in {feature["street"] for feature in written.getFeatures()}
        assert {field.name() for field in layer.fields()} - {"fid"} <= {f.name() for f in written.fields()}
    extent = QgsVectorLayer(results["GEOJSON"]).extent()
    assert 39 - 1e-6 <= extent.xMinimum() < extent.xMaximum() < 39.01
    shapefile = Path(results["SHAPEFILE"])
    assert shapefile.with_suffix(".prj").is_file()
    assert shapefile.with_suffix(".cpg").read_text().strip() == "UTF-8"
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_table_agrees_with_the_layer(buildings, tmp_path):
    results = export({"INPUT": buildings, "OUTPUT": str(tmp_path / "out")})
    with Path(results["SUMMARY"]).open(encoding="utf-8") as file:
        heads, *rows = csv.reader(file)
    assert heads == ["damage", "level", "buildings (model count, unreviewed)", "area_m2"]
    assert {level: int(count) for _, level, count, _ in rows} == {**counts(50), "total": 50}
    assert all(float(area) == int(count) * SIDE**2 for _, _, count, area in rows)


def test_exported_geopackage_is_a_damage_layer_with_the_same_ids(buildings, tmp_path):
    """The sample of a review goes by them."""
    layer = QgsVectorLayer(buildings)
    layer.dataProvider().deleteFeatures([1, 2, 3])
    results = export({"INPUT": buildings, "OUTPUT": str(tmp_path / "out")})
    written = QgsVectorLayer(results["GEOPACKAGE"])
    assert {f.id(): f["source_id"] for f in written.getFeatures()} == {
        f.id(): f["source_id"] for f in QgsVectorLayer(buildings).getFeatures()
    }
    again = export({"INPUT": results["SHAPEFILE"], "OUTPUT": str(tmp_path / "again")})
    assert QgsVectorLayer(again["GEOPACKAGE"]).featureCount() == 47


def test_export_of_a_selection(buildings, tmp_path):
    layer = QgsVectorLayer(buildings, "buildings")
    QgsProject.instance().addMapLayer(layer)
    layer.selectByExpression("damage = 4")
    source = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
    results = export({"INPUT": source, "OUTPUT": str(tmp_path / "out")})
    assert QgsVectorLayer(results["SHAPEFILE"]).featureCount() == counts(50)["destroyed"]


def test_layer_without_damage_is_refused_in_a_sentence(plugin, tmp_path):
    with pytest.raises(QgsProcessingException, match="“footprints” is no layer of building damage"):
        export({"INPUT": footprints(), "OUTPUT": str(tmp_path / "out")})
    assert not (tmp_path / "out").exists()


def test_layer_without_crs_is_refused(plugin, tmp_path):
    def add_layer():
        layer = QgsVectorLayer(write_buildings(tmp_path / "plain.gpkg", 5, epsg=0), "plain")
        layer.setCrs(QgsCoordinateReferenceSystem())
        return QgsProject.instance().addMapLayer(layer).id()

    # No layer in this frame, which QGIS keeps with the exception.
    layer_id = add_layer()
    with pytest.raises(QgsProcessingException, match="has no CRS"):
        export({"INPUT": layer_id, "OUTPUT": str(tmp_path / "out")})


def test_folder_with_an_export_is_left_as_it_is(buildings, tmp_path):
    export({"INPUT": buildings, "OUTPUT": str(tmp_path / "out")})
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with pytest.raises(QgsProcessingException, match="holds an export already"):
        export({"INPUT": buildings, "OUTPUT": str(tmp_path / "out")})
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_cancelled_export_leaves_nothing(buildings, tmp_path):
    feedback = QgsProcessingFeedback()
    feedback.cancel()
    export({"INPUT": buildings, "OUTPUT": str(tmp_path / "out")}, feedback)
    assert list((tmp_path / "out").iterdir()) == []


def test_long_names_of_fields_are_said(plugin, tmp_path):
    path = write_buildings(tmp_path / "made.gpkg", 5)
    from osgeo import ogr

    data = ogr.Open(path, 1)
    data.GetLayer(0).CreateField(ogr.FieldDefn("yapı_kullanımı", ogr.OFTString))
    del data
    feedback = Feedback()
    results = export({"INPUT": path, "OUTPUT": str(tmp_path / "out")}, feedback)
    assert any("yapı_kullanımı" in text for text in feedback.infos)
    assert QgsVectorLayer(results["SHAPEFILE"]).fields().count() == QgsVectorLayer(path).fields().count()
