"""``aftermap:detectbuildings`` end to end: a real QGIS, the real worker, bright pixels are building."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsSingleBandPseudoColorRenderer,
    QgsVectorLayer,
)

pytestmark = pytest.mark.usefixtures("toolbox")

HALL_M2 = 128 * 8


class Feedback(QgsProcessingFeedback):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.infos = []

    def pushInfo(self, text):  # noqa: N802
        self.infos.append(text)


@pytest.fixture
def parameters(scene, model, tmp_path):
    return {
        "INPUT": str(scene),
        "MODEL": str(model),
        "OUTPUT_BUILDINGS": str(tmp_path / "out" / "b.gpkg"),
        "OUTPUT_PROBABILITY": str(tmp_path / "out" / "p.tif"),
    }


def run(parameters, feedback=None):
    import processing  # QGIS puts it on the path when it starts

    return processing.run("aftermap:detectbuildings", parameters, feedback=feedback)


def test_buildings_become_polygons_and_a_raster(parameters):
    feedback = Feedback()
    results = run(parameters, feedback)
    layer = QgsVectorLayer(results["OUTPUT_BUILDINGS"], "buildings")
    assert layer.crs().authid() == "EPSG:32637"
    (hall,) = layer.getFeatures()
    assert hall["area_m2"] == pytest.approx(HALL_M2, rel=0.03)
    assert hall["mean_p"] > 0.9
    assert QgsRasterLayer(results["OUTPUT_PROBABILITY"]).isValid()
    assert results["USED_THRESHOLD"] == pytest.approx(0.4)
    assert results["BUILDINGS"] == 1
    assert json.loads(Path(results["MANIFEST"]).read_text())["job"]["type"] == "DetectBuildings"
    assert any("1 buildings of 0.1 ha, computed on" in text for text in feedback.infos)


def test_what_the_dialog_asks_for_is_what_the_worker_does(parameters):
    results = run({**parameters, "THRESHOLD": 0.7, "MIN_AREA": 2 * HALL_M2, "REGULARIZE": False, "GSD": None})
    assert results["BUILDINGS"] == 0
    job = json.loads(Path(results["MANIFEST"]).read_text())["job"]
    assert (job["threshold"], job["min_area_m2"], job["regularize"]) == (0.7, 2 * HALL_M2, False)


@pytest.mark.parametrize("wanted", ["OUTPUT_BUILDINGS", "OUTPUT_PROBABILITY"])
def test_outputs_may_be_skipped(parameters, wanted):
    only = {k: v for k, v in parameters.items() if not k.startswith("OUTPUT_") or k == wanted}
    results = run(only)
    assert [name for name in ("OUTPUT_BUILDINGS", "OUTPUT_PROBABILITY") if results[name]] == [wanted]


def test_a_shapefile_keeps_all_fields(parameters, tmp_path):
    parameters["OUTPUT_BUILDINGS"] = str(tmp_path / "out" / "houses.shp")
    results = run(parameters)
    layer = QgsVectorLayer(results["OUTPUT_BUILDINGS"], "buildings")
    names = [field.name() for field in layer.fields()]
    assert names == ["fid", "class", "area_m2", "mean_p", "model", "source", "date"]
    assert Path(results["MANIFEST"]).parent == tmp_path / "out"


def test_raster_without_crs_gives_a_layer_without_one(parameters, tmp_path, write_scene):
    bare = {**parameters, "INPUT": str(write_scene(tmp_path / "no_crs.tif", epsg=0)), "GSD": 0.5}
    assert QgsVectorLayer(run(bare)["OUTPUT_BUILDINGS"], "b").crs().authid() == ""


def test_failure_is_the_workers_sentence(parameters):
    with pytest.raises(QgsProcessingException, match="There is no model 'gold'"):
        run({**parameters, "MODEL": "gold"})


@pytest.mark.parametrize("has_crs", [True, False])
def test_layers_are_styled_and_grouped(parameters, qgis_new_project, has_crs):
    from aftermap.plugin.building_style import BUILDING, BuildingLayer, BuildingLook
    from aftermap.plugin.layers import LayerStyles

    results = run(parameters)
    context, styles = QgsProcessingContext(), LayerStyles()
    context.setProject(QgsProject.instance())
    layers = {
        BuildingLayer.PROBABILITY: QgsRasterLayer(results["OUTPUT_PROBABILITY"], "p"),
        BuildingLayer.BUILDINGS: QgsVectorLayer(results["OUTPUT_BUILDINGS"], "b"),
    }
    for kind, layer in layers.items():
        QgsProject.instance().addMapLayer(layer)
        details = QgsProcessingContext.LayerDetails(layer.name(), QgsProject.instance(), kind.name)
        context.addLayerToLoadOnCompletion(layer.source(), details)
        styles.attach(context, layer.source(), BuildingLook(kind, 0.4, 0.2, "Buildings – scene", has_crs))
        processor = context.layerToLoadOnCompletionDetails(layer.source()).postProcessor()
        processor.postProcessLayer(layer, context, Feedback())
    renderer = layers[BuildingLayer.PROBABILITY].renderer()
    assert isinstance(renderer, QgsSingleBandPseudoColorRenderer)
    items = renderer.shader().rasterShaderFunction().colorRampItemList()
    assert [item.label for item in items] == [
        "No building",
        "Uncertain: 0.20 to 0.40",
        "Building: from 0.40",
    ]
    assert items[-1].color == BUILDING
    symbol = layers[BuildingLayer.BUILDINGS].renderer().symbol()
    assert symbol.color().name() == BUILDING.name()
    crs = QgsCoordinateReferenceSystem("EPSG:32637") if has_crs else QgsCoordinateReferenceSystem()
    assert all(layer.crs() == crs for layer in layers.values())
