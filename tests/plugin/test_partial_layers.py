"""Buildings on the map while Assess Damage runs, in a thread of its own, as Processing runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from qgis.core import (
    QgsApplication,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterRasterLayer,
    QgsProject,
)
from qgis.PyQt.QtCore import QEventLoop, QTimer

from aftermap.core.jobs import Partial
from aftermap.plugin.damage.buildings import is_damage_layer, levels_of, named_levels
from aftermap.plugin.damage.style import DamageLayer, DamageLook
from aftermap.plugin.provider import AftermapProvider

from .damage_files import LEVELS, write_buildings

PEER = Path(__file__).with_name("damage_peer.py")
NAME = "Building damage (so far)"
PART, ALL = 12, 40  # buildings of a part of the peer, and in the end
TIMEOUT_MS = 60_000


@pytest.fixture(autouse=True)
def _peer(plugin, tmp_path, monkeypatch):
    """A worker that tells buildings before the end."""
    monkeypatch.setenv("AFTERMAP_PEER_LOG", str(tmp_path / "lines.jsonl"))
    plugin._workers._launcher = PEER
    plugin._workers.find_python = lambda: Path(sys.executable)


@pytest.fixture
def seen(plugin):
    """Name and number of features of each layer that was in the project, when it left."""
    layers = []

    def keep(ids):
        layers.extend(
            (layer.name(), layer.featureCount()) for layer in map(QgsProject.instance().mapLayer, ids)
        )

    QgsProject.instance().layersWillBeRemoved.connect(keep)
    yield layers
    QgsProject.instance().layersWillBeRemoved.disconnect(keep)


class Run:
    """Assess Damage in Processing's task."""

    def __init__(self, scene, model, folder):
        self.results = None
        self._wait = QEventLoop()
        algorithm = QgsApplication.processingRegistry().createAlgorithmById("aftermap:assessdamage")
        context, self.feedback = QgsProcessingContext(), QgsProcessingFeedback()
        context.setProject(QgsProject.instance())
        parameters = {"POST": str(scene), "MODEL": model, "OUTPUT_BUILDINGS": output(folder)}
        self._kept = (algorithm, context)
        self._task = QgsProcessingAlgRunnerTask(algorithm, parameters, context, self.feedback)
        self._task.executed.connect(self._end)
        QgsApplication.taskManager().addTask(self._task)

    def _end(self, succeeded, results):
        self.results = (succeeded, results)
        self._wait.quit()

    def until_ended(self):
        if self.results is None:
            QTimer.singleShot(TIMEOUT_MS, self._wait.quit)
            self._wait.exec()
        assert self.results is not None
        return self.results


def output(folder):
    folder.mkdir(exist_ok=True)
    return QgsProcessingOutputLayerDefinition(str(folder / "b.gpkg"), QgsProject.instance())


def shown():
    return QgsProject.instance().mapLayersByName(NAME)


def until(is_true):
    """Let QGIS run until something holds."""
    loop, timer, limit = QEventLoop(), QTimer(), QTimer()
    timer.timeout.connect(lambda: loop.quit() if is_true() else None)
    limit.setSingleShot(True)
    limit.timeout.connect(loop.quit)
    timer.start(20)
    limit.start(TIMEOUT_MS)
    loop.exec()
    assert is_true()


def test_buildings_appear_styled_while_it_runs_and_go_when_it_is_cancelled(scene, tmp_path):
    run = Run(scene, "parts, wait", tmp_path / "out")
    until(lambda: shown() and shown()[0].featureCount() == 2 * PART)
    (layer,) = shown()
    assert QgsProject.instance().layerTreeRoot().children()[0].layer() is layer
    assert layer.crs().authid() == "EPSG:32637"
    assert is_damage_layer(layer)
    assert "fid" not in layer.fields().names()
    assert [level.name for level in levels_of(layer)] == [*(level["name"] for level in LEVELS), "unknown"]
    rules = layer.renderer().rootRule().children()
    assert [rule.symbol().color().name() for rule in rules[:3]] == [level["colour"] for level in LEVELS]
    numbers = sorted(int(feature["source_id"].rpartition("/")[2]) for feature in layer.getFeatures())
    assert numbers == list(range(2 * PART))
    assert all(feature.hasGeometry() for feature in layer.getFeatures())
    del layer
    run.feedback.cancel()
    run.until_ended()
    assert shown() == []


def test_the_panel_counts_them_as_they_come_until_they_go(plugin, tmp_path):
    parts = [write_buildings(tmp_path / f"{first}.gpkg", 3, first=first) for first in (0, 3)]
    with plugin._partials.of_run(NAME, look_of) as take:
        take(Partial("buildings", parts[0], 3, {"levels": LEVELS}))
        plugin.open_damage_summary()
        panel = plugin._summary
        until(lambda: panel.summary is not None and panel.summary.count == 3 and not panel._timer.isActive())
        take(Partial("buildings", parts[1], 3, {"levels": LEVELS}))
        until(lambda: panel.summary is not None and panel.summary.count == 6)
    until(lambda: panel.summary is None)


def test_they_make_way_for_the_layer_of_a_run_that_ends(scene, tmp_path, seen):
    succeeded, results = Run(scene, "parts", tmp_path / "out").until_ended()
    assert succeeded
    assert results["BUILDINGS"] == ALL
    assert seen == [(NAME, 2 * PART)]
    assert shown() == []


def test_they_go_when_a_run_fails(scene, tmp_path, seen):
    succeeded, _ = Run(scene, "parts, fail", tmp_path / "out").until_ended()
    assert not succeeded
    assert seen == [(NAME, 2 * PART)]
    assert shown() == []


def test_two_runs_have_a_layer_each(scene, tmp_path, seen):
    waiting = Run(scene, "parts, wait", tmp_path / "one")
    until(lambda: shown() and shown()[0].featureCount() == 2 * PART)
    Run(scene, "parts", tmp_path / "two").until_ended()
    assert seen == [(NAME, 2 * PART)]
    assert len(shown()) == 1
    waiting.feedback.cancel()
    waiting.until_ended()
    assert shown() == []


def test_a_layer_that_the_user_removes_does_not_come_back(plugin, tmp_path):
    path = write_buildings(tmp_path / "part.gpkg", 3)
    part = Partial("buildings", path, 3, {"levels": LEVELS})
    with plugin._partials.of_run(NAME, look_of) as take:
        take(part)
        QgsProject.instance().removeMapLayer(shown()[0].id())
        take(part)
        assert shown() == []
    assert shown() == []


def look_of(values, has_crs=True):
    return DamageLook(DamageLayer.BUILDINGS, named_levels(values["levels"]), "", has_crs)


def test_an_image_without_crs_gives_a_layer_without_one(plugin, tmp_path):
    path = write_buildings(tmp_path / "part.gpkg", 3, epsg=0)
    with plugin._partials.of_run(NAME, lambda values: look_of(values, has_crs=False)) as take:
        take(Partial("buildings", path, 3, {"levels": LEVELS}))
        (layer,) = shown()
        assert layer.featureCount() == 3
        assert not layer.crs().isValid()
        del layer


def test_unload_removes_them_and_nothing_comes_after(plugin, tmp_path):
    path = write_buildings(tmp_path / "part.gpkg", 3)
    part = Partial("buildings", path, 3, {"levels": LEVELS})
    partials = plugin._partials
    with partials.of_run(NAME, look_of) as take:
        take(part)
        assert len(shown()) == 1
        plugin.unload()
        assert shown() == []
        take(part)
    with partials.of_run(NAME, look_of) as take:
        take(part)
    assert shown() == []


@pytest.fixture
def added(plugin):
    """Names of the layers that were added to the project."""
    names = []

    def keep(layers):
        names.extend(layer.name() for layer in layers)

    QgsProject.instance().layersAdded.connect(keep)
    yield names
    QgsProject.instance().layersAdded.disconnect(keep)


def test_nothing_is_shown_in_a_model(scene, tmp_path, added):
    import processing

    child = QgsProcessingModelChildAlgorithm("aftermap:assessdamage")
    child.setChildId("assess")
    source = QgsProcessingModelChildParameterSource
    child.addParameterSources("POST", [source.fromModelParameter("image")])
    child.addParameterSources("MODEL", [source.fromStaticValue("parts")])
    buildings = QgsProcessingModelOutput("buildings", "buildings")
    buildings.setChildId("assess")
    buildings.setChildOutputName("OUTPUT_BUILDINGS")
    child.setModelOutputs({"buildings": buildings})
    model = QgsProcessingModelAlgorithm("damage", "tests")
    model.addModelParameter(QgsProcessingParameterRasterLayer("image"), QgsProcessingModelParameter("image"))
    model.addChildAlgorithm(child)
    parameters = {"image": str(scene), "assess:buildings": output(tmp_path / "out")}
    processing.runAndLoadResults(model, parameters, feedback=QgsProcessingFeedback())
    assert added == ["buildings"]


def test_nothing_is_shown_where_the_layer_is_not_loaded(scene, tmp_path, added):
    import processing

    (tmp_path / "out").mkdir()
    parameters = {"POST": str(scene), "MODEL": "parts", "OUTPUT_BUILDINGS": str(tmp_path / "out" / "b.gpkg")}
    assert processing.run("aftermap:assessdamage", parameters)["BUILDINGS"] == ALL
    assert added == []


def test_without_an_interface_nothing_is_shown(tmp_path, added):
    provider = AftermapProvider(None)
    provider.loadAlgorithms()
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    details = QgsProcessingContext.LayerDetails("b", QgsProject.instance(), "b")
    context.addLayerToLoadOnCompletion("b.gpkg", details)
    algorithm = provider.algorithm("assessdamage")
    with algorithm.showing_partials(context, "b.gpkg", NAME, look_of) as take:
        take(Partial("buildings", write_buildings(tmp_path / "part.gpkg", 3), 3, {"levels": LEVELS}))
    assert added == []
