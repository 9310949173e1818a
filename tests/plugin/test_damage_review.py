"""Counting and reviewing a damage layer, driven by keys as an analyst would."""

from __future__ import annotations

import csv
import io

import pytest
from qgis.core import NULL, QgsFeature, QgsGeometry, QgsProject, QgsRectangle, QgsVectorLayer
from qgis.PyQt.QtCore import QEvent, QEventLoop, Qt, QTimer
from qgis.PyQt.QtGui import QKeyEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication

from aftermap.core.errors import VectorError
from aftermap.plugin.damage.review import Review
from aftermap.plugin.damage.summary import to_csv
from aftermap.plugin.damage.summary_panel import SummaryPanel

from .damage_files import NAMES, PATTERN, SIDE, SPACING, WEST, counts, write_buildings

COUNT = 200
LIMIT_MS = 20_000


def wait_until(is_true, what):
    """Let QGIS work until something holds."""
    loop, clock, limit = QEventLoop(), QTimer(), QTimer()
    clock.timeout.connect(lambda: is_true() and loop.quit())
    limit.setSingleShot(True)
    limit.timeout.connect(loop.quit)
    clock.start(10)
    limit.start(LIMIT_MS)
    loop.exec()
    assert is_true(), f"waited in vain: {what}"


@pytest.fixture
def layer(qgis_new_project, tmp_path):
    layer = QgsVectorLayer(write_buildings(tmp_path / "buildings.gpkg", COUNT), "buildings")
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.fixture
def panel(desktop, layer):
    panel = SummaryPanel(desktop)
    panel.show_layer(layer)
    panel.show()
    wait_for_counts(panel)
    yield panel
    panel.close_down()
    panel.deleteLater()


def wait_for_counts(panel):
    wait_until(
        lambda: panel.summary is not None and not panel.work.is_running and not panel._timer.isActive(),
        "the counts",
    )


def shown(table):
    return [
        [table.item(row, column).text() for column in range(table.columnCount())]
        for row in range(table.rowCount())
    ]


def stored(layer, id_, *names):
    """What the file holds, past whatever the layer keeps."""
    fresh = QgsVectorLayer(layer.source(), "fresh")
    feature = fresh.getFeature(id_)
    return tuple(None if feature[name] == NULL else feature[name] for name in names)


def press(widget, key):
    QApplication.sendEvent(widget, QKeyEvent(QEvent.Type.KeyPress, key, Qt.KeyboardModifier.NoModifier))


# ------------------------------------------------------------------------------------- without widgets


def test_sample_has_buildings_of_each_level_and_none_that_nobody_can_see(layer):
    review = Review(layer)
    levels = [layer.getFeature(id_)["damage"] for id_ in review.sample]
    assert len(review.sample) == len(set(review.sample)) == 100
    assert min(levels.count(code) for code in (1, 2, 4)) >= 15
    assert 0 not in levels


def test_accepted_level_stays_and_is_marked(layer):
    review = Review(layer)
    review.analyst = "Ayşe"
    id_ = review.sample[0]
    before = stored(layer, id_, "damage", "damage_nam")
    review.accept()
    assert stored(layer, id_, "reviewed", "analyst", "model_dam") == (1, "Ayşe", None)
    assert stored(layer, id_, "damage", "damage_nam") == before
    assert review.position == 1


def test_other_level_keeps_what_the_model_said(layer):
    review = Review(layer)
    place = next(i for i, id_ in enumerate(review.sample) if layer.getFeature(id_)["damage"] == 1)
    review.position = place
    id_ = review.sample[place]
    review.relabel(4)
    names = ("reviewed", "damage", "damage_nam", "model_dam", "ems", "unosat")
    assert stored(layer, id_, *names) == (1, 4, "destroyed", 1, "Destroyed", "Destroyed")
    review.back()
    review.relabel(1)
    assert stored(layer, id_, *names)[:4] == (1, 1, "no visible damage", None)
    review.back()
    review.relabel(0)
    assert stored(layer, id_, *names)[:4] == (1, 0, "unknown", 1)


def test_accepting_again_keeps_the_analysts_level(layer):
    review = Review(layer)
    id_ = review.sample[0]
    model = layer.getFeature(id_)["damage"]
    other = next(code for code in (1, 2, 4) if code != model)
    review.relabel(other)
    review.back()
    review.accept()
    assert stored(layer, id_, "damage", "model_dam") == (other, model)


def test_review_goes_on_where_it_stopped(layer):
    first = Review(layer)
    for _ in range(7):
        first.relabel(4)
    again = Review(QgsVectorLayer(layer.source(), "opened anew"))
    assert again.sample == first.sample
    assert (again.position, again.reviewed_count) == (7, 7)
    larger = Review(layer, 150)
    assert set(first.sample) < set(larger.sample)


def test_level_that_the_model_does_not_tell_apart_is_refused(layer):
    review = Review(layer)
    said = []
    review.refused.connect(said.append)
    review.relabel(3)
    assert "major damage" in said[0]
    assert stored(layer, review.sample[0], "reviewed") == (0,)
    assert review.position == 0


def test_building_that_is_gone_is_passed_over(layer):
    review = Review(layer)
    layer.dataProvider().deleteFeatures([review.sample[0]])
    review.accept()
    assert review.position == 1
    assert review.reviewed_count == 0


def test_layers_that_cannot_be_reviewed_are_refused_in_a_sentence(layer, tmp_path):
    layer.startEditing()
    with pytest.raises(VectorError, match="is being edited"):
        Review(layer)
    layer.rollBack()
    layer.setReadOnly(True)
    with pytest.raises(VectorError, match="cannot be changed"):
        Review(layer)
    with pytest.raises(VectorError, match="has no field reviewed"):
        Review(QgsVectorLayer("Polygon?field=damage:int", "polygons", "memory"))
    layer.setReadOnly(False)
    layer.setSubsetString("damage = 0")
    with pytest.raises(VectorError, match="nothing to review"):
        Review(layer)


# ------------------------------------------------------------------------------------------- the panel


def test_counts_are_the_layers_and_say_that_nobody_looked(panel):
    rows = shown(panel.levels)
    expected = counts(COUNT)
    assert {row[0]: int(row[1]) for row in rows[:-1]} == expected
    assert rows[-1][:2] == ["all", str(COUNT)]
    assert [row[0] for row in rows] == ["no visible damage", "damaged", "destroyed", "unknown", "all"]
    assert float(rows[2][2]) == pytest.approx(expected["destroyed"] * SIDE**2 / 1e4)
    assert "Model count, unreviewed" in panel.basis.text()
    assert panel.levels.columnCount() == 3


def test_buildings_to_look_at_first_are_listed_and_shown(panel, layer):
    assert panel.first.count() == 25
    assert panel.first.item(0).text() == "1.  100 m², destroyed: 97 %"
    id_ = panel.first.item(0).data(Qt.ItemDataRole.UserRole)
    assert layer.getFeature(id_)["damage"] == 4
    panel.first.itemClicked.emit(panel.first.item(0))
    canvas = panel._iface.mapCanvas()
    assert canvas.extent().contains(layer.getFeature(id_).geometry().boundingBox())
    assert canvas.extent().width() < 400


def test_counts_follow_a_filter(panel, layer):
    layer.setSubsetString("damage = 4")
    wait_until(lambda: panel.summary.count == counts(COUNT)["destroyed"], "the filter")


def add_districts():
    """Two districts over the western half of the town, in another CRS, and one where nothing is."""
    districts = QgsVectorLayer(
        "Polygon?crs=EPSG:32637&field=code:int&field=name:string", "quarters", "memory"
    )
    for name, columns in (("Ömerli", (0, 4)), ("Yeni", (4, 10)), ("far away", (4000, 4001))):
        feature = QgsFeature(districts.fields())
        west, east = (WEST + SPACING * column - 3 for column in columns)
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(west, 4_099_000, east, 4_100_100)))
        feature.setAttributes([1, name])
        districts.dataProvider().addFeature(feature)
    QgsProject.instance().addMapLayer(districts)
    return districts


def test_counts_by_district(panel, layer):
    panel.district_box.setLayer(add_districts())
    wait_until(lambda: panel.summary.districts and not panel.work.is_running, "the districts")
    assert panel.district_field.currentField() == "name"
    assert "model's counts" in panel.districts_note.text()
    rows = {row[0]: [int(cell) for cell in row[1:]] for row in shown(panel.districts)}
    assert list(rows) == ["Ömerli", "Yeni", "far away", "elsewhere"]
    assert [sum(row) for row in rows.values()] == [COUNT * 4 // 20, COUNT * 6 // 20, 0, COUNT // 2]
    codes = [PATTERN[number % 10][0] for number in range(COUNT) if number % 20 < 4]
    assert rows["Ömerli"] == [codes.count(code) for code in (1, 2, 4, 0)]
    panel.district_box.setLayer(None)
    wait_until(lambda: not panel.summary.districts, "no districts")
    assert not panel.districts.isVisibleTo(panel)


def test_a_review_corrects_the_counts_of_districts_too(panel, layer):
    review = Review(layer)
    for place in range(len(review.sample)):
        review.relabel(4) if place % 5 == 0 else review.accept()
    panel.district_box.setLayer(add_districts())
    wait_until(lambda: panel.summary.districts and panel.summary.has_estimates, "the estimates")
    whole = {row.level.code: row.estimate for row in panel.summary.rows if row.estimate}
    parts = panel.summary.districts.values()
    for code, estimate in whole.items():
        found = [row.estimate for rows in parts for row in rows if row.level.code == code]
        assert sum(e.count.value for e in found) == pytest.approx(estimate.count.value)
        assert all(e.count.low <= e.count.value <= e.count.high for e in found)
    cell = shown(panel.districts)[0][3]
    corrected = panel.summary.districts["Ömerli"][2].estimate.count
    assert cell.partition("\n")[2] == f"{corrected.value:.0f} ({corrected.low:.0f} – {corrected.high:.0f})"
    assert "erred alike" in panel.districts_note.text()
    line = next(row for row in csv.reader(io.StringIO(to_csv(panel.summary))) if row[:2] == ["Ömerli", "4"])
    assert line[5:8] == [f"{value:.0f}" for value in (corrected.value, corrected.low, corrected.high)]


def test_districts_in_another_crs(panel, layer):
    from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform

    transform = QgsCoordinateTransform(
        layer.crs(), QgsCoordinateReferenceSystem("EPSG:4326"), QgsProject.instance()
    )
    districts = QgsVectorLayer("Polygon?crs=EPSG:4326&field=name:string", "quarters", "memory")
    feature = QgsFeature(districts.fields())
    feature.setGeometry(QgsGeometry.fromRect(transform.transformBoundingBox(layer.extent())))
    feature.setAttributes(["all of it"])
    districts.dataProvider().addFeature(feature)
    QgsProject.instance().addMapLayer(districts)
    panel.district_box.setLayer(districts)
    wait_until(lambda: panel.summary.districts and not panel.work.is_running, "the districts")
    assert [row[0] for row in shown(panel.districts)] == ["all of it"]


def test_review_by_keys_from_end_to_end(panel, layer, desktop):
    """A hundred answers: every fifth building is said to be destroyed, the others as the model says."""
    node = QgsProject.instance().layerTreeRoot().findLayer(layer.id())
    panel.review_button.click()
    review_panel = panel.review_panel
    sample = review_panel.review.sample
    assert not node.itemVisibilityChecked(), "the roof is what the analyst judges"
    first = layer.getFeature(sample[0]).geometry()
    canvas = desktop.mapCanvas()
    assert canvas.extent().contains(first.boundingBox())
    assert canvas.extent().width() < 400
    review_panel.analyst.setText("Zeynep")
    for place in range(len(sample)):
        # On the panel and on the map, the same keys.
        target = canvas if place % 2 else review_panel
        key = Qt.Key.Key_4 if place % 5 == 0 else Qt.Key.Key_Space if place % 3 else Qt.Key.Key_Return
        press(target, key)
    assert review_panel.review.is_over
    assert "All 100 buildings" in review_panel.place.text()
    press(review_panel, Qt.Key.Key_Escape)
    assert panel.review_panel is None
    assert node.itemVisibilityChecked()
    assert panel._timer.isActive()
    wait_until(lambda: panel.summary.has_estimates, "the estimates")
    features = {f.id(): f for f in QgsVectorLayer(layer.source()).getFeatures()}
    assert sum(f["reviewed"] == 1 for f in features.values()) == 100
    assert {features[id_]["analyst"] for id_ in sample} == {"Zeynep"}
    assert all(features[id_]["damage"] == 4 for id_ in sample[::5])
    rows = {row.level.code: row for row in panel.summary.rows}
    total = sum(row.estimate.count.value for row in rows.values() if row.estimate)
    assert total == pytest.approx(COUNT - counts(COUNT)["unknown"])
    destroyed = rows[4].estimate.count
    assert destroyed.low < destroyed.value < destroyed.high
    assert destroyed.value > counts(COUNT)["destroyed"]
    assert "100 of 200 buildings reviewed" in panel.basis.text()
    assert "95 %" in panel.basis.text()
    assert [cell.partition(" ")[0] for cell in shown(panel.levels)[2]] == [
        "destroyed",
        f"{rows[4].count}\n{rows[4].area_m2 / 1e4:.2f}",
        f"{destroyed.value:.0f}",
    ]
    heads, *table = csv.reader(io.StringIO(to_csv(panel.summary)))
    assert heads[2:5] == ["buildings (model count, 100 of 200 reviewed)", "area_m2", "corrected_buildings"]
    line = next(line for line in table if line[1] == "destroyed")
    assert [int(cell) for cell in line[4:7]] == [
        round(x) for x in (destroyed.value, destroyed.low, destroyed.high)
    ]


def test_key_b_shows_the_image_below(panel, layer, scene, write_scene, tmp_path):
    from qgis.core import QgsRasterLayer

    images = [
        QgsRasterLayer(str(write_scene(tmp_path / "pre.tif")), "pre"),
        QgsRasterLayer(str(scene), "post"),
    ]
    root = QgsProject.instance().layerTreeRoot()
    for image in images:
        QgsProject.instance().addMapLayer(image, False)
        root.insertLayer(0, image)  # the last one is the topmost
    before = panel._iface.mapCanvas().extent()

    def visible():
        return [root.findLayer(one.id()).itemVisibilityChecked() for one in (layer, *images)]

    panel.review_button.click()
    assert visible() == [False, True, True]
    assert "post" in panel.review_panel.image.text()
    press(panel.review_panel, Qt.Key.Key_B)
    assert visible() == [False, True, False]
    assert "pre" in panel.review_panel.image.text()
    press(panel.review_panel, Qt.Key.Key_B)
    assert visible() == [False, True, True]
    press(panel.review_panel, Qt.Key.Key_B)
    press(panel.review_panel, Qt.Key.Key_Escape)
    assert visible() == [True, True, True]
    assert panel._iface.mapCanvas().extent().toString(3) == before.toString(3)


def test_backspace_goes_back_and_a_larger_sample_goes_on(panel, layer):
    panel.sample_size.setValue(3)
    panel.review_button.click()
    for _ in range(3):
        press(panel.review_panel, Qt.Key.Key_Enter)
    assert panel.review_panel.review.is_over
    press(panel.review_panel, Qt.Key.Key_Enter)
    press(panel.review_panel, Qt.Key.Key_4)
    assert panel.review_panel.review.position == 3, "there is nothing left to answer"
    press(panel.review_panel, Qt.Key.Key_Backspace)
    assert panel.review_panel.review.position == 2
    assert "Reviewed by" in panel.review_panel.named.text()
    press(panel.review_panel, Qt.Key.Key_Escape)
    panel.sample_size.setValue(10)
    panel.review_button.click()
    assert panel.review_panel.review.reviewed_count == 3


def test_typing_a_name_answers_nothing(panel):
    panel.review_button.click()
    field = panel.review_panel.analyst
    field.clear()
    panel.activateWindow()
    field.setFocus()
    QTest.keyClicks(field, "Team 4")
    assert field.text() == "Team 4"
    assert panel.review_panel.review.position == 0


def test_removing_the_layer_ends_the_review(panel, layer):
    panel.review_button.click()
    QgsProject.instance().removeMapLayer(layer.id())
    assert panel.review_panel is None
    assert "no layer of building damage" in panel.basis.text()


def test_objection_is_shown(panel, layer):
    layer.startEditing()
    panel.review_button.click()
    assert "is being edited" in panel.message.text()
    layer.rollBack()


def test_saved_table_says_what_the_panel_shows(panel, layer, tmp_path):
    panel.save_table(tmp_path / "table.csv")
    heads, *rows = csv.reader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8")))
    assert heads[2] == "buildings (model count, unreviewed)"
    assert {row[1]: int(row[2]) for row in rows} == {**counts(COUNT), "total": COUNT}
    panel.save_table(tmp_path / "no" / "table.csv")
    assert "cannot be written" in panel.message.text()


def test_a_city_is_counted_while_one_goes_on_working(desktop, qgis_new_project, tmp_path):
    layer = QgsVectorLayer(write_buildings(tmp_path / "city.gpkg", 6000), "city")
    QgsProject.instance().addMapLayer(layer)
    panel = SummaryPanel(desktop)
    assert panel.summary is None
    assert "Counting" in panel.basis.text()
    ticks = []
    other_work = QTimer()
    other_work.timeout.connect(lambda: ticks.append(panel.work.is_running))
    other_work.start(0)
    wait_for_counts(panel)
    other_work.stop()
    assert ticks.count(True) > 1, "the interface is served in between"
    assert panel.summary.count == 6000
    assert {row.level.name for row in panel.summary.rows} == set(NAMES.values())
    panel.close_down()
    panel.deleteLater()
