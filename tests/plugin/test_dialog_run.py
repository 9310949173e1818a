"""Runs as a person starts them: the dialog, a model, batch processing, ``qgis_process``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from qgis.core import (
    QgsApplication,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterRasterLayer,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QEventLoop, QTimer

TIMEOUT_S = 120


@pytest.fixture
def dialog(plugin, desktop, scene, model, tmp_path):
    """The dialog that the button opens for a scene."""
    from aftermap.plugin.settings import Settings

    layer = QgsRasterLayer(str(scene), "scene")
    QgsProject.instance().addMapLayer(layer)
    desktop.setActiveLayer(layer)
    Settings(
        run_folder=str(tmp_path / "runs"), cache=str(tmp_path / "cache"), models=str(model.parent)
    ).save()
    next(a for a in desktop.plugin_toolbar.actions() if a.objectName() == "aftermapSegmentRoads").trigger()
    (dialog,) = plugin._dialogs
    yield dialog
    Settings().save()


@pytest.fixture
def road_model(plugin, model):
    """A model of the model designer: Segment Roads, with the probability and the polygons as its results."""
    child = QgsProcessingModelChildAlgorithm("aftermap:segmentroads")
    child.setChildId("segment")
    source = QgsProcessingModelChildParameterSource
    child.addParameterSources("INPUT", [source.fromModelParameter("image")])
    child.addParameterSources("MODEL", [source.fromStaticValue(str(model))])
    outputs = {}
    for name, child_output in (("probability", "OUTPUT_PROBABILITY"), ("polygons", "OUTPUT_POLYGONS")):
        outputs[name] = QgsProcessingModelOutput(name, name)
        outputs[name].setChildId("segment")
        outputs[name].setChildOutputName(child_output)
    child.setModelOutputs(outputs)
    algorithm = QgsProcessingModelAlgorithm("roads", "tests")
    image = QgsProcessingModelParameter("image")
    algorithm.addModelParameter(QgsProcessingParameterRasterLayer("image"), image)
    algorithm.addChildAlgorithm(child)
    return algorithm


def segment_roads():
    return QgsApplication.processingRegistry().createAlgorithmById("aftermap:segmentroads")


def run(dialog) -> bool:
    """Press *Run* and wait until the dialog says that it is over."""
    loop = QEventLoop()
    answers = []
    dialog.algorithmFinished.connect(lambda successful, results: (answers.append(successful), loop.quit()))
    QTimer.singleShot(TIMEOUT_S * 1000, loop.quit)
    dialog.runButton().click()
    loop.exec()
    return bool(answers and answers[0])


def test_layers_arrive_styled_in_a_group(dialog, tmp_path):
    assert dialog.createProcessingParameters()["MODEL"] == "bright"
    assert run(dialog)
    root = QgsProject.instance().layerTreeRoot()
    group = root.findGroup("Roads – scene")
    assert root.children()[0] is group
    probability, polygons, centrelines = (
        next(node.layer() for node in group.findLayers() if node.name() == name)
        for name in ("Road probability", "Road polygons", "Road centrelines")
    )
    assert [node.layer() for node in group.findLayers()] == [centrelines, polygons, probability]
    assert {layer.source().split("|")[0].rpartition("/")[0] for layer in (polygons, centrelines)} == {
        str(next((tmp_path / "runs").iterdir()))
    }
    assert polygons.renderer().symbol().symbolLayer(0).strokeColor().name() == "#ffa000"
    assert centrelines.renderer().symbol().symbolLayerCount() == 2
    shader = probability.renderer().shader()
    assert [shader.shade(code)[4 - 1] > 0 for code in (0, 50, 51, 101, 102, 254)] == [False] * 2 + [True] * 4
    turquoise, road = shader.shade(101)[1:4], shader.shade(102)[1:4]
    assert turquoise == shader.shade(51)[1:4]
    assert road == shader.shade(254)[1:4] != turquoise


def test_in_a_model_layers_arrive_styled_but_ungrouped(road_model, scene, tmp_path):
    import processing

    project = QgsProject.instance()
    parameters = {
        "image": str(scene),
        **{
            f"segment:{name}": QgsProcessingOutputLayerDefinition(str(tmp_path / file), project)
            for name, file in (("probability", "p.tif"), ("polygons", "p.gpkg"))
        },
    }
    processing.runAndLoadResults(road_model, parameters, feedback=QgsProcessingFeedback())
    probability, polygons = (
        next(
            layer for layer in project.mapLayers().values() if layer.source().startswith(str(tmp_path / file))
        )
        for file in ("p.tif", "p.gpkg")
    )
    assert project.layerTreeRoot().findGroups() == []
    assert polygons.renderer().symbol().symbolLayer(0).strokeColor().name() == "#ffa000"
    assert probability.renderer().type() == "singlebandpseudocolor"


def test_batch_makes_a_group_for_each_raster(plugin, write_scene, model, tmp_path):
    """As the batch dialog does it: with its feedback, one context for each raster."""
    from processing.gui.Postprocessing import handleAlgorithmResults
    from processing.tools.dataobjects import createContext

    try:
        from qgis.core import QgsProcessingBatchFeedback as BatchFeedback
    except ImportError:  # older than QGIS 3.38
        from processing.gui.BatchAlgorithmDialog import BatchFeedback

    inner = QgsProcessingFeedback()
    feedback = BatchFeedback(2, inner)
    for row in range(2):
        destination = QgsProcessingOutputLayerDefinition(
            str(tmp_path / f"p_{row}.tif"), QgsProject.instance()
        )
        scene = write_scene(tmp_path / f"scene_{row}.tif", size=64)
        parameters = {"INPUT": str(scene), "MODEL": str(model), "OUTPUT_PROBABILITY": destination}
        algorithm, context = segment_roads(), createContext(inner)
        feedback.setCurrentStep(row)
        _, successful = algorithm.run(parameters, context, feedback)
        assert successful
        handleAlgorithmResults(algorithm, context, feedback, parameters=parameters)
    names = [group.name() for group in QgsProject.instance().layerTreeRoot().findGroups()]
    assert sorted(names) == ["Roads – scene_0", "Roads – scene_1"]


def test_model_list_offers_packages_in_every_dialog(plugin, desktop, model):
    from processing.gui.AlgorithmDialog import AlgorithmDialog
    from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog
    from processing.gui.wrappers import WidgetWrapperFactory
    from processing.modeler.ModelerParametersDialog import ModelerParametersDialog

    from aftermap.plugin.model_widget import ModelWidgetWrapper
    from aftermap.plugin.settings import Settings

    Settings(models=str(model.parent)).save()
    algorithm = segment_roads()
    parameter = algorithm.parameterDefinition("MODEL")
    for dialog in (
        AlgorithmDialog(algorithm.create(), parent=desktop.mainWindow()),
        BatchAlgorithmDialog(algorithm.create(), parent=desktop.mainWindow()),
        ModelerParametersDialog(algorithm.create(), QgsProcessingModelAlgorithm()),
    ):
        wrapper = WidgetWrapperFactory.create_wrapper(parameter, dialog)
        assert isinstance(wrapper, ModelWidgetWrapper)
        assert wrapper.value() == ""
        for value in ("bright", "/a/file.aftermap", ""):
            wrapper.setValue(value)
            assert wrapper.value() == value
        sip.delete(dialog)  # left to Python, they go in an order that newer QGIS does not survive
    Settings().save()


def test_qgis_process_runs_the_same_algorithm(scene, model, worker_python, tmp_path):
    """A QGIS of its own, without an interface, with the checkout in its plugin folder."""
    program = next((p for p in map(shutil.which, ("qgis_process.bin", "qgis_process")) if p), None)
    if program is None:
        pytest.skip("This QGIS comes without qgis_process.")
    plugins, profile = tmp_path / "plugins", tmp_path / "profile"
    plugins.mkdir()
    (plugins / "aftermap").symlink_to(Path(__file__).resolve().parents[2])
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "QGIS_"))},
        "QGIS_PLUGINPATH": str(plugins),
        "QGIS_CUSTOM_CONFIG_PATH": str(profile),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "AFTERMAP_PYTHON": str(worker_python),
        "QT_QPA_PLATFORM": "offscreen",
    }
    subprocess.run([program, "plugins", "enable", "aftermap"], env=environment, check=True, timeout=TIMEOUT_S)
    done = subprocess.run(
        [
            *(program, "run", "aftermap:segmentroads", "--", f"INPUT={scene}", f"MODEL={model}"),
            *(f"OUTPUT_PROBABILITY={tmp_path / 'p.tif'}", f"OUTPUT_POLYGONS={tmp_path / 'p.gpkg'}"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "p.tif").is_file()
    assert (tmp_path / "p.gpkg").is_file()
