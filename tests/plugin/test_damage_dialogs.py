"""Assess Damage by its button, the layers as they arrive, and what the dialogs say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from qgis.core import (
    QgsApplication,
    QgsExpressionContextUtils,
    QgsProject,
    QgsRasterLayer,
    QgsRenderContext,
    QgsVectorLayer,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QEventLoop, QTimer

from aftermap.core.cards import list_packages, read_package
from aftermap.core.damage_fields import FIELDS, LEVELS
from aftermap.core.errors import ModelError
from aftermap.plugin.card_text import card_page, is_non_commercial
from aftermap.plugin.damage.buildings import levels_of
from aftermap.plugin.damage.style import building_renderer, style_buildings
from aftermap.plugin.damage.suggestions import guess_footprints, guess_pre
from aftermap.plugin.model_folder import add_package, remove_package
from aftermap.plugin.models_dialog import ModelsDialog
from aftermap.plugin.settings import Settings

from .damage_files import NAMES, write_buildings, write_card

PEER = Path(__file__).with_name("damage_peer.py")
TIMEOUT_MS = 60_000


@pytest.fixture
def plugin_with_peer(plugin, desktop, tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_PEER_LOG", str(tmp_path / "lines.jsonl"))
    Settings(run_folder=str(tmp_path / "runs"), models=str(tmp_path / "models")).save()
    write_card(tmp_path / "models", "made")
    plugin._workers._launcher = PEER
    plugin._workers.find_python = lambda: Path(sys.executable)
    yield plugin
    Settings().save()


def press(desktop, name):
    """Press the button with this name."""
    next(a for a in desktop.plugin_toolbar.actions() if a.objectName() == name).trigger()


def add_raster(path, name):
    layer = QgsRasterLayer(str(path), name)
    QgsProject.instance().addMapLayer(layer)
    return layer


def run(dialog):
    """Press *Run* and wait until the dialog says that it is over."""
    loop, answers = QEventLoop(), []
    dialog.algorithmFinished.connect(lambda successful, results: (answers.append(successful), loop.quit()))
    QTimer.singleShot(TIMEOUT_MS, loop.quit)
    dialog.runButton().click()
    loop.exec()
    return bool(answers and answers[0])


def rules_of(layer, feature):
    """Labels of the rules that draw a feature."""
    context = QgsRenderContext()
    context.expressionContext().appendScopes(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    context.expressionContext().setFeature(feature)
    renderer = layer.renderer().clone()
    renderer.startRender(context, layer.fields())
    found = [rule.label() for rule in renderer.rootRule().children() if rule.isFilterOK(feature, context)]
    renderer.stopRender(context)
    return found


# ------------------------------------------------------------------------------------------ the button


def test_button_fills_the_dialog_in_and_layers_arrive_styled(
    plugin_with_peer, desktop, scene, write_scene, tmp_path
):
    post = add_raster(scene, "town after")
    pre = add_raster(write_scene(tmp_path / "p.tif"), "town_before")
    known = QgsVectorLayer(write_buildings(tmp_path / "known.gpkg", 5), "Footprints 2021")
    known.dataProvider().deleteAttributes([known.fields().indexOf("damage")])
    known = QgsVectorLayer(known.source(), "Footprints 2021")
    QgsProject.instance().addMapLayer(known)
    desktop.setActiveLayer(post)
    press(desktop, "aftermapAssessDamage")
    (dialog,) = plugin_with_peer._dialogs
    assert dialog.isVisible()
    assert not dialog.isModal()
    parameters = dialog.createProcessingParameters()
    assert parameters["POST"] in (post.id(), post)
    assert parameters["PRE"] in (pre.id(), pre)
    assert parameters["FOOTPRINTS"] in (known.id(), known)
    assert parameters["MODEL"] == "made"  # the user's own before the starter
    assert run(dialog)
    root = QgsProject.instance().layerTreeRoot()
    group = root.findGroup("Damage – town after")
    assert root.children()[0] is group
    (node,) = group.findLayers()
    layer = node.layer()
    assert layer.source().startswith(str(next((tmp_path / "runs").iterdir())))
    assert layer.renderer().type() == "RuleRenderer"
    panel = plugin_with_peer._summary
    assert panel.isVisibleTo(desktop.mainWindow())
    assert panel.layer_box.currentLayer() is layer


def test_button_without_a_raster_says_what_to_do(plugin_with_peer, desktop):
    press(desktop, "aftermapAssessDamage")
    assert "image from after the event" in desktop.messageBar().currentItem().text()
    press(desktop, "aftermapExportDamage")
    assert "Select a layer of building damage" in desktop.messageBar().currentItem().text()
    assert not plugin_with_peer._dialogs


def test_export_button_takes_the_only_damage_layer(plugin_with_peer, desktop, tmp_path):
    layer = QgsVectorLayer(write_buildings(tmp_path / "b.gpkg", 20), "b")
    QgsProject.instance().addMapLayer(layer)
    press(desktop, "aftermapExportDamage")
    (dialog,) = plugin_with_peer._dialogs
    assert run(dialog)
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.suffix for path in folder.iterdir()} >= {".gpkg", ".shp", ".prj", ".cpg", ".geojson", ".csv"}


def test_image_before_is_guessed_only_where_there_is_no_doubt(plugin, scene, write_scene, tmp_path):
    project = QgsProject.instance()
    post = add_raster(scene, "after")
    assert guess_pre(post, project) is None
    add_raster(write_scene(tmp_path / "other.tif"), "Prešov aerial")  # not “pre”
    assert guess_pre(post, project) is None
    pre = add_raster(write_scene(tmp_path / "pre.tif", epsg=32637), "2022 (pre-event)")
    assert guess_pre(post, project) is pre
    second = add_raster(write_scene(tmp_path / "before.tif"), "before")
    assert guess_pre(post, project) is None
    project.removeMapLayer(second)
    project.removeMapLayer(pre)
    add_raster(write_scene(tmp_path / "far.tif", epsg=32601), "before")
    assert guess_pre(post, project) is None, "it lies elsewhere"


def test_image_before_is_guessed_by_its_date(plugin, scene, write_scene, tmp_path):
    from qgis.core import QgsDateTimeRange
    from qgis.PyQt.QtCore import QDateTime, Qt

    layers = [add_raster(scene, "B"), add_raster(write_scene(tmp_path / "a.tif"), "A")]
    for layer, day in zip(layers, ("2023-02-08", "2022-07-01"), strict=True):
        begin = QDateTime.fromString(f"{day}T10:00:00", Qt.DateFormat.ISODate)
        layer.temporalProperties().setIsActive(True)
        layer.temporalProperties().setFixedTemporalRange(QgsDateTimeRange(begin, begin))
    assert guess_pre(layers[0], QgsProject.instance()) is layers[1]
    assert guess_pre(layers[1], QgsProject.instance()) is None


def test_footprints_are_guessed_by_name_and_never_a_result(plugin, tmp_path):
    result = QgsVectorLayer(write_buildings(tmp_path / "b.gpkg", 5), "Building damage")
    parcels = QgsVectorLayer("Polygon?crs=EPSG:4326", "parcels", "memory")
    QgsProject.instance().addMapLayers([result, parcels])
    assert guess_footprints(QgsProject.instance()) is None
    buildings = QgsVectorLayer("Polygon?crs=EPSG:4326", "osm_buildings", "memory")
    QgsProject.instance().addMapLayer(buildings)
    assert guess_footprints(QgsProject.instance()) is buildings


# ------------------------------------------------------------------------------------------- the style


@pytest.fixture
def styled(plugin, tmp_path):
    layer = QgsVectorLayer(write_buildings(tmp_path / "b.gpkg", 30), "b")
    style_buildings(layer, levels_of(layer))
    QgsProject.instance().addMapLayer(layer)
    return layer


def test_only_the_levels_that_the_model_tells_apart_are_shown(styled):
    labels = [rule.label() for rule in styled.renderer().rootRule().children()]
    assert labels == [
        "No visible damage",
        "Damaged",
        "Destroyed",
        "Unknown",
        "Uncertain (below 60 %)",
    ]
    colours = [
        r.symbol().symbolLayer(0).fillColor().name() for r in styled.renderer().rootRule().children()[:4]
    ]
    assert colours[0] == "#2c7bb6"
    assert colours[3] == "#b3b3b3"
    assert len(set(colours)) == 4


def test_each_building_is_drawn_once_and_uncertain_ones_are_hatched(styled):
    drawn = {
        f["source_id"]: (f["damage"], f["confidence"], rules_of(styled, f)) for f in styled.getFeatures()
    }
    for level, confidence, rules in drawn.values():
        name = NAMES[level].capitalize()
        assert rules[0].lower() == name.lower()
        is_uncertain = level != 0 and confidence < 0.6
        assert len(rules) == 1 + is_uncertain


def test_reviewed_buildings_are_not_uncertain(styled):
    feature = next(f for f in styled.getFeatures() if f["damage"] == 4 and f["confidence"] < 0.6)
    assert len(rules_of(styled, feature)) == 2
    feature["reviewed"] = 1
    assert rules_of(styled, feature) == ["Destroyed"]


def test_meanings_of_fields_are_their_aliases(styled):
    aliases = {field.name(): styled.attributeAlias(i) for i, field in enumerate(styled.fields())}
    assert {name: aliases[name] for name, _, _ in FIELDS} == {name: meaning for name, _, meaning in FIELDS}


def test_a_model_of_four_levels_has_the_whole_ramp():
    renderer = building_renderer((*LEVELS[1:], LEVELS[0]))  # it owns its rules
    rules = renderer.rootRule().children()[:5]
    colours = [rule.symbol().symbolLayer(0).fillColor().name() for rule in rules]
    assert colours == [level.colour for level in (*LEVELS[1:], LEVELS[0])]


# ------------------------------------------------------------------------------------------ the models


@pytest.fixture
def models(plugin, tmp_path):
    Settings(models=str(tmp_path / "models")).save()
    yield tmp_path / "models"
    Settings().save()


def names_in(dialog):
    return [dialog.list.item(row).text().partition("\n")[0] for row in range(dialog.list.count())]


def test_models_are_added_and_removed(plugin, desktop, models, tmp_path):
    package = write_card(tmp_path / "downloads", "xbd", licence="CC BY-NC-SA 4.0")
    dialog = ModelsDialog(desktop.mainWindow())
    before = names_in(dialog)
    assert before == [package.card.name for package in list_packages()]
    assert not dialog.remove_button.isEnabled(), "starter models stay"
    dialog.add(package)
    assert names_in(dialog) == [*before, "xbd"]
    assert dialog.package().card.name == "xbd"
    assert "Non-commercial use only" in dialog.page.toPlainText()
    assert dialog.remove_button.isEnabled()
    assert (models / "xbd.aftermap").is_file()
    assert package.is_file()
    dialog.add(package)
    assert "There is a model xbd already" in dialog.bar.currentItem().text()
    dialog.remove(dialog.package())
    assert names_in(dialog) == before
    assert list(models.iterdir()) == []
    dialog.close()


def test_file_that_is_no_model_is_refused(plugin, desktop, models, tmp_path):
    (tmp_path / "notes.aftermap").write_text("no zip")
    dialog = ModelsDialog(desktop.mainWindow())
    dialog.add(tmp_path / "notes.aftermap")
    assert "is no model package" in dialog.bar.currentItem().text()
    assert not models.exists()
    dialog.close()


def test_card_says_what_counts(tmp_path):
    path = write_card(
        tmp_path,
        "turkiye",
        licence="CC BY 4.0",
        metrics=(
            {
                "dataset": "joplin",
                "left_out": True,
                "tiles": 12,
                "auc": [0.9134, 0.88, 0.94],
                "f1": {"destroyed": 0.8134, "damaged": None},
                "confusion": {"names": ["none", "destroyed"], "counts": [[40, 2], [3, 51]]},
            },
        ),
        training_data=({"name": "xbd", "licence": "CC BY-NC-SA 4.0", "buildings": 8123},),
    )
    page = card_page(read_package(path))
    for text in ("no visible damage, damaged, destroyed", "joplin", "never trained on", "8123"):
        assert text in page
    assert "AUC</td><td>0.913 (0.88 – 0.94)</td>" in page
    assert page.index("AUC") < page.index("f1 (destroyed"), "what is read first stands first"
    assert "f1 (destroyed 0.813; damaged –)" in page
    assert "<td align='right'>51</td>" in page
    assert is_non_commercial(read_package(path).card), "the data's licence counts too"
    assert not is_non_commercial(read_package(write_card(tmp_path, "free", licence="CC0 1.0")).card)


def test_starter_models_cannot_be_removed(plugin, models):
    starter = list_packages()[0]
    with pytest.raises(ModelError, match="came with the plugin"):
        remove_package(starter, [models])
    assert starter.path.exists()


def test_other_model_of_the_same_file_name_is_kept(models, tmp_path):
    add_package(write_card(tmp_path / "one", "first").rename(tmp_path / "model.aftermap"), [models])
    with pytest.raises(ModelError, match="rename the file"):
        add_package(write_card(tmp_path / "two", "second").rename(tmp_path / "model.aftermap"), [models])


def test_menu_opens_the_models(plugin, desktop):
    next(a for a in desktop.raster_menus["Aftermap"] if a.objectName() == "aftermapModels").trigger()
    (dialog,) = plugin._dialogs
    assert isinstance(dialog, ModelsDialog)
    dialog.close()


@pytest.mark.parametrize(
    ("algorithm", "limits", "lists_it"),
    [
        ("assessdamage", {"task": "damage"}, True),
        ("detectbuildings", {"head": "building"}, True),
        ("segmentroads", {"task": "roads"}, False),
    ],
)
def test_lists_offer_the_models_that_fit_the_task(plugin, desktop, models, algorithm, limits, lists_it):
    from processing.gui.AlgorithmDialog import AlgorithmDialog
    from processing.gui.wrappers import WidgetWrapperFactory

    write_card(models, "towns")
    algorithm = QgsApplication.processingRegistry().createAlgorithmById(f"aftermap:{algorithm}")
    dialog = AlgorithmDialog(algorithm, parent=desktop.mainWindow())
    wrapper = WidgetWrapperFactory.create_wrapper(algorithm.parameterDefinition("MODEL"), dialog)
    choices = wrapper.widget.list
    names = [choices.itemText(row) for row in range(choices.count())]
    assert names == ["", *(package.card.name for package in list_packages([models], **limits))]
    assert ("towns" in names) == lists_it
    sip.delete(dialog)


def test_summary_opens_without_any_layer(plugin, desktop):
    press(desktop, "aftermapDamageSummary")
    assert "no layer of building damage" in plugin._summary.basis.text()
    assert not plugin._summary.review_button.isEnabled()
