"""``aftermap:segmentroads`` end to end: a real QGIS, the real worker, bright pixels are road."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from qgis.core import (
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

ALGORITHM = "aftermap:segmentroads"
HEAVY = ("torch", "rasterio", "geopandas", "shapely", "pyogrio", "fiona", "pyproj")

pytestmark = pytest.mark.usefixtures("toolbox")


class Feedback(QgsProcessingFeedback):
    """Keeps what it is told, and cancels at the first progress that `cancel_at` accepts."""

    def __init__(self, cancel_at=lambda text: False):
        super().__init__()
        self.texts, self.warnings, self.infos = [], [], []
        self._cancel_at = cancel_at

    def setProgressText(self, text):  # noqa: N802
        self.texts.append(text)
        if self._cancel_at(text):
            self.cancel()

    def pushWarning(self, text):  # noqa: N802
        self.warnings.append(text)

    def pushInfo(self, text):  # noqa: N802
        self.infos.append(text)


@pytest.fixture
def parameters(scene, model, tmp_path):
    return {
        "INPUT": str(scene),
        "MODEL": str(model),
        "OUTPUT_PROBABILITY": str(tmp_path / "out" / "p.tif"),
        "OUTPUT_POLYGONS": str(tmp_path / "out" / "p.gpkg"),
        "OUTPUT_CENTRELINES": str(tmp_path / "out" / "c.gpkg"),
    }


def run(parameters, feedback=None, algorithm=ALGORITHM):
    import processing  # QGIS puts it on the path when it starts

    return processing.run(algorithm, parameters, feedback=feedback)


def only(parameters, *outputs):
    """The parameters with these outputs alone."""
    return {k: v for k, v in parameters.items() if not k.startswith("OUTPUT_") or k in outputs}


def probability_at(path, x, y):
    layer = QgsRasterLayer(path, "p")
    assert layer.isValid()
    value, found = layer.dataProvider().sample(QgsGeometry.fromPointXY(point(x, y)).asPoint(), 1)
    return value / 254 if found else None


def point(x, y):
    from qgis.core import QgsPointXY

    return QgsPointXY(x, y)


def test_three_layers_lie_on_the_road(parameters):
    feedback = Feedback()
    before = set(sys.modules)
    results = run(parameters, feedback)
    for name in ("OUTPUT_PROBABILITY", "OUTPUT_POLYGONS", "OUTPUT_CENTRELINES"):
        assert results[name] == parameters[name]
    assert probability_at(results["OUTPUT_PROBABILITY"], 500064, 4099936) > 0.9
    assert probability_at(results["OUTPUT_PROBABILITY"], 500064, 4099980) < 0.1
    polygons = QgsVectorLayer(results["OUTPUT_POLYGONS"], "polygons")
    lines = QgsVectorLayer(results["OUTPUT_CENTRELINES"], "lines")
    for layer in (polygons, lines, QgsRasterLayer(results["OUTPUT_PROBABILITY"])):
        assert layer.isValid()
        assert layer.crs().authid() == "EPSG:32637"
    (polygon,) = polygons.getFeatures()
    assert polygon.geometry().area() == pytest.approx(128 * 8, rel=0.02)
    (line,) = lines.getFeatures()
    assert line.geometry().length() == pytest.approx(128, rel=0.05)
    assert line.geometry().distance(QgsGeometry.fromPointXY(point(500064, 4099936))) < 1
    assert results["USED_THRESHOLD"] == pytest.approx(0.4)
    assert json.loads(Path(results["MANIFEST"]).read_text())["job"]["raster"] == parameters["INPUT"]
    assert any("tile 9 of 9" in text for text in feedback.texts)
    assert any("1 road polygons of 0.1 ha, 1 centrelines of 0.1 km, computed on" in t for t in feedback.infos)
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not loaded & set(HEAVY), "QGIS must never load the worker's libraries"


def test_nothing_heavy_is_loaded_by_the_plugin():
    import subprocess

    # What QGIS itself loads is not ours: numpy since 3.36.
    script = (
        "import sys, qgis.core, qgis.gui; before = set(sys.modules)\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import conftest\n"
        "import aftermap.plugin.main\n"
        "print(*{n.partition('.')[0] for n in sys.modules if n not in before})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "aftermap" in done.stdout.split()
    assert not set(done.stdout.split()) & {*HEAVY, "numpy", "scipy", "skimage"}


def test_outputs_may_be_skipped(parameters, tmp_path):
    results = run(only(parameters, "OUTPUT_PROBABILITY"))
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".tif", ".json"}
    assert results["OUTPUT_POLYGONS"] == ""


def test_without_any_output_there_is_nothing_to_do(parameters):
    with pytest.raises(QgsProcessingException, match="name at least one output"):
        run(only(parameters))


def test_probabilities_are_vectorized_again_at_another_threshold(parameters, tmp_path):
    probability = run(only(parameters, "OUTPUT_PROBABILITY"))["OUTPUT_PROBABILITY"]
    results = run(
        {"INPUT": probability, "THRESHOLD": 0.7, "OUTPUT_POLYGONS": str(tmp_path / "again.gpkg")},
        algorithm="aftermap:vectorizeprobabilities",
    )
    assert QgsVectorLayer(results["OUTPUT_POLYGONS"], "p").featureCount() == 1
    assert results["USED_THRESHOLD"] == pytest.approx(0.7)


def test_any_raster_that_is_no_probability_is_refused_in_a_sentence(scene, tmp_path):
    with pytest.raises(QgsProcessingException, match=r"scene\.tif"):
        run(
            {"INPUT": str(scene), "OUTPUT_POLYGONS": str(tmp_path / "again.gpkg")},
            algorithm="aftermap:vectorizeprobabilities",
        )


def test_area_of_interest_holds_with_selection_and_memory_layer(parameters):
    area = QgsVectorLayer("Polygon?crs=EPSG:32637", "area", "memory")
    for left in (500000, 500096):
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, 4099872, left + 32, 4100000)))
        area.dataProvider().addFeature(feature)
    QgsProject.instance().addMapLayer(area)
    area.selectByIds([1])
    parameters["AOI"] = QgsProcessingFeatureSourceDefinition(area.id(), selectedFeaturesOnly=True)
    results = run(only(parameters, "OUTPUT_PROBABILITY"))
    QgsProject.instance().removeMapLayer(area)
    assert probability_at(results["OUTPUT_PROBABILITY"], 500016, 4099936) > 0.9
    assert probability_at(results["OUTPUT_PROBABILITY"], 500112, 4099936) is None


def test_extent_holds_in_another_crs(parameters):
    from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsReferencedRectangle

    geographic = QgsCoordinateReferenceSystem("EPSG:4326")
    transform = QgsCoordinateTransform(
        QgsCoordinateReferenceSystem("EPSG:32637"), geographic, QgsProject.instance()
    )
    west = transform.transformBoundingBox(QgsRectangle(500000, 4099872, 500032, 4100000))
    parameters["EXTENT"] = QgsReferencedRectangle(west, geographic)
    results = run(only(parameters, "OUTPUT_PROBABILITY"))
    assert probability_at(results["OUTPUT_PROBABILITY"], 500016, 4099936) > 0.9
    assert probability_at(results["OUTPUT_PROBABILITY"], 500112, 4099936) is None


# Two tests, not one: QGIS never lets go of an exception that an algorithm raised, nor of the caller's frame,
# and a layer in that frame would outlive QGIS.
def test_raster_without_crs_is_refused_without_a_ground_resolution(parameters, tmp_path, write_scene):
    parameters["INPUT"] = str(write_scene(tmp_path / "no_crs.tif", epsg=0))
    with pytest.raises(QgsProcessingException, match=r"no_crs\.tif"):
        run(parameters)


def test_raster_without_crs_runs_with_a_ground_resolution(parameters, tmp_path, write_scene):
    parameters = only(parameters, "OUTPUT_PROBABILITY", "OUTPUT_POLYGONS")
    parameters["INPUT"] = str(write_scene(tmp_path / "no_crs.tif", epsg=0))
    results = run({**parameters, "GSD": 0.5})
    polygons = QgsVectorLayer(results["OUTPUT_POLYGONS"], "p")
    assert polygons.featureCount() == 1
    assert polygons.crs().authid() == ""


def test_crs_that_only_the_layer_has_is_used(parameters, tmp_path, write_scene):
    from qgis.core import QgsCoordinateReferenceSystem

    layer = QgsRasterLayer(str(write_scene(tmp_path / "no_crs.tif", epsg=0)), "scene")
    layer.setCrs(QgsCoordinateReferenceSystem("EPSG:32637"))
    results = run({**only(parameters, "OUTPUT_PROBABILITY"), "INPUT": layer})
    assert QgsRasterLayer(results["OUTPUT_PROBABILITY"]).crs().authid() == "EPSG:32637"


@pytest.mark.parametrize("suffix", ["shp", "geojson", "fgb"])
def test_vectors_in_other_formats(parameters, tmp_path, suffix):
    parameters = only(parameters, "OUTPUT_POLYGONS")
    parameters["OUTPUT_POLYGONS"] = str(tmp_path / "out" / f"roads.{suffix}")
    results = run(parameters)
    layer = QgsVectorLayer(results["OUTPUT_POLYGONS"], "p")
    assert layer.isValid()
    assert layer.featureCount() == 1
    assert Path(results["MANIFEST"]).parent == tmp_path / "out"
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_format_that_is_not_offered_is_refused_before_the_run(parameters, tmp_path):
    parameters["OUTPUT_POLYGONS"] = str(tmp_path / "roads.xyz")
    with pytest.raises(QgsProcessingException, match="xyz"):
        run(parameters)


def test_cancel_leaves_nothing_and_the_next_run_succeeds(parameters, tmp_path):
    parameters = only(parameters, "OUTPUT_PROBABILITY")
    feedback = Feedback(cancel_at=lambda text: "tile 2 of 9" in text)
    assert run(parameters, feedback) == {}
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert run(parameters)["OUTPUT_PROBABILITY"]


def test_failure_is_the_workers_sentence(parameters, tmp_path):
    with pytest.raises(QgsProcessingException, match="There is no model 'gold'"):
        run({**parameters, "MODEL": "gold"})


def test_missing_interpreter_is_one_sentence(parameters, monkeypatch):
    monkeypatch.setenv("AFTERMAP_PYTHON", "/no/such/python")
    with pytest.raises(QgsProcessingException, match=r"/no/such/python cannot run Aftermap's worker"):
        run(parameters)
