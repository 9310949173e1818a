"""The plugin comes, is driven as a person would, and goes without a trace."""

from __future__ import annotations

from qgis.core import QgsApplication, QgsProject, QgsRasterLayer
from qgis.PyQt import sip
from qgis.PyQt.QtWidgets import QPushButton

import aftermap
from aftermap.plugin.settings import Settings


def registry():
    return QgsApplication.processingRegistry()


def press(desktop, name):
    """Press the button with this name."""
    next(a for a in desktop.plugin_toolbar.actions() if a.objectName() == name).trigger()


def test_unload_undoes_everything(desktop):
    before = (len(desktop.plugin_toolbar.actions()), set(registry().providers()))
    plugin = aftermap.classFactory(desktop)
    plugin.initGui()
    assert len(desktop.plugin_toolbar.actions()) == before[0] + 5
    assert len(desktop.raster_menus["Aftermap"]) == 7
    assert len(desktop.option_pages) == 1
    assert registry().providerById("aftermap") is not None
    plugin.unload()
    assert len(desktop.plugin_toolbar.actions()) == before[0]
    assert desktop.raster_menus["Aftermap"] == []
    assert desktop.option_pages == []
    assert set(registry().providers()) == before[1]


def test_loads_again_after_unload(desktop):
    for _ in range(2):
        plugin = aftermap.classFactory(desktop)
        plugin.initGui()
        assert registry().algorithmById("aftermap:segmentroads") is not None
        plugin.unload()


def test_algorithms_are_there_without_an_interface(qgis_processing):
    plugin = aftermap.classFactory(None)
    plugin.initProcessing()
    try:
        names = {algorithm.id() for algorithm in registry().providerById("aftermap").algorithms()}
        assert names == {
            *("aftermap:segmentroads", "aftermap:vectorizeprobabilities", "aftermap:detectbuildings"),
            *("aftermap:assessdamage", "aftermap:exportdamage"),
            *("aftermap:trainmodel", "aftermap:evaluatemodel", "aftermap:exporttrainingtiles"),
        }
        assert plugin._partials is None, "nobody would see what a run has finished so far"
    finally:
        plugin.unload()


def test_parameters_are_those_that_scripts_rely_on(plugin):
    algorithm = registry().algorithmById("aftermap:segmentroads")
    assert {parameter.name() for parameter in algorithm.parameterDefinitions()} == {
        *("INPUT", "MODEL", "BANDS", "GSD", "EXTENT", "AOI", "THRESHOLD", "MIN_AREA", "SIMPLIFY", "DEVICE"),
        *("OUTPUT_PROBABILITY", "OUTPUT_POLYGONS", "OUTPUT_CENTRELINES"),
    }
    required = [p.name() for p in algorithm.parameterDefinitions() if not p.flags() & p.Flag.FlagOptional]
    assert required == ["INPUT", "MIN_AREA", "SIMPLIFY", "DEVICE"]


def test_button_without_a_raster_says_what_to_do(plugin, desktop):
    press(desktop, "aftermapSegmentRoads")
    assert "Select a raster layer first" in desktop.messageBar().currentItem().text()
    assert not plugin._dialogs


def test_button_opens_a_dialog_for_the_active_layer(plugin, desktop, scene, tmp_path, worker_python):
    layer = QgsRasterLayer(str(scene), "a scene: north/south")
    QgsProject.instance().addMapLayer(layer)
    desktop.setActiveLayer(layer)
    Settings(run_folder=str(tmp_path / "runs")).save()
    try:
        press(desktop, "aftermapSegmentRoads")
    finally:
        Settings().save()
    (dialog,) = plugin._dialogs
    assert dialog.isVisible()
    assert not dialog.isModal()
    parameters = dialog.createProcessingParameters()
    assert parameters["INPUT"] in (layer.id(), layer)
    destination = parameters["OUTPUT_POLYGONS"].sink.staticValue()
    assert destination.startswith(str(tmp_path / "runs" / "a_scene_north_south-"))
    assert destination.endswith("road_polygons.gpkg")
    assert not (tmp_path / "runs").exists(), "nothing is made before the run"


def test_unload_after_the_dialog_was_closed(plugin, desktop, scene, worker_python):
    layer = QgsRasterLayer(str(scene), "scene")
    QgsProject.instance().addMapLayer(layer)
    desktop.setActiveLayer(layer)
    press(desktop, "aftermapSegmentRoads")
    (dialog,) = plugin._dialogs
    dialog.close()
    sip.delete(dialog)  # QGIS does this some time after
    assert not plugin._dialogs


def test_missing_interpreter_is_one_message_with_one_button(plugin, desktop, scene, monkeypatch):
    monkeypatch.setenv("AFTERMAP_PYTHON", "/no/such/python")
    opened = []
    monkeypatch.setattr(desktop, "showOptionsDialog", lambda parent, page: opened.append(page), raising=False)
    layer = QgsRasterLayer(str(scene), "scene")
    QgsProject.instance().addMapLayer(layer)
    desktop.setActiveLayer(layer)
    press(desktop, "aftermapSegmentRoads")
    item = desktop.messageBar().currentItem()
    assert "/no/such/python cannot run Aftermap's worker" in item.text()
    (button,) = (b for b in item.findChildren(QPushButton) if b.text())
    button.click()
    assert opened == ["aftermapOptions"]
    able, why_not = registry().algorithmById("aftermap:segmentroads").canExecute()
    assert not able
    assert "/no/such/python" in why_not


def test_settings_page_saves_what_is_typed(plugin, desktop, tmp_path):
    page = desktop.option_pages[0].createWidget(desktop.mainWindow())
    page._fields["cache"].setFilePath(str(tmp_path))
    page.apply()
    assert Settings.load() == Settings(cache=str(tmp_path))
    Settings().save()
