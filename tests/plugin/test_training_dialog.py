"""The dialog *Train a Model*, driven by mouse and keyboard against a worker that speaks the contract."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from qgis.core import QgsProject, QgsSettings
from qgis.PyQt.QtCore import QEvent, QEventLoop, QPoint, QPointF, Qt, QTimer, QUrl
from qgis.PyQt.QtGui import QDesktopServices, QMouseEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QPushButton, QTabBar, QWidget

from aftermap.plugin.settings import Settings

PEER = Path(__file__).with_name("training_peer.py")
LIMIT_MS = 20_000
UNFINISHED = "aftermap/unfinished_training"


def wait_until(is_true, what=""):
    """Let QGIS work until something holds."""
    loop, clock, limit = QEventLoop(), QTimer(), QTimer()
    clock.timeout.connect(lambda: is_true() and loop.quit())
    limit.setSingleShot(True)
    limit.timeout.connect(loop.quit)
    clock.start(10)
    limit.start(LIMIT_MS)
    loop.exec()
    assert is_true(), f"waited in vain: {what}"


class Jobs:
    """What the worker was sent."""

    def __init__(self, path):
        self._path = path

    def lines(self):
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def of(self, name):
        return [line for line in self.lines() if line["type"] == name]


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    path = tmp_path / "lines.jsonl"
    monkeypatch.setenv("AFTERMAP_PEER_LOG", str(path))
    return Jobs(path)


@pytest.fixture
def plugin_with_peer(plugin, jobs, tmp_path):
    Settings(cache=str(tmp_path / "cache"), models=str(tmp_path / "models")).save()
    plugin._workers._launcher = PEER
    plugin._workers.find_python = lambda: Path(sys.executable)
    yield plugin
    Settings().save()
    QgsSettings().remove(UNFINISHED)


@pytest.fixture
def dialog(plugin_with_peer, desktop):
    next(a for a in desktop.raster_menus["Aftermap"] if a.objectName() == "aftermapTrainModel").trigger()
    dialog = plugin_with_peer._training
    assert dialog.isVisible()
    assert not dialog.isModal()
    return dialog


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    return folder


@pytest.fixture
def planned(dialog, folder):
    """The dialog with a folder that was scanned and planned."""
    choose_folder(dialog, folder)
    wait_until(lambda: dialog.data_page.tiles and dialog.run_page.output.filePath(), "the scan")
    wait_for_plan(dialog)
    return dialog


def choose_folder(dialog, folder):
    field = dialog.findChild(QWidget, "folder").lineEdit()
    QTest.keyClicks(field, str(folder))
    QTest.keyClick(field, Qt.Key.Key_Return)


def wait_for_plan(dialog):
    wait_until(
        lambda: (
            not dialog._timer.isActive()
            and not dialog._plan.is_running
            and dialog.workbench_page.findings.count()
        ),
        "the plan",
    )


def click(dialog, name):
    button = dialog.findChild(QPushButton, name)
    assert button.isEnabled(), name
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def drag(widget, start, end):
    """Drag with the left button; QTest's own moves get lost where there is no screen."""
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    QTest.mousePress(widget, left, pos=start)
    move = QMouseEvent(QEvent.Type.MouseMove, QPointF(end), none, left, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(widget, move)
    QTest.mouseRelease(widget, left, pos=end)


def turn_to(dialog, row):
    item = dialog.list.item(row)
    place = dialog.list.visualItemRect(item).center()
    QTest.mouseClick(dialog.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert dialog.stack.currentIndex() == row


def objection(dialog):
    item = dialog.bar.currentItem()
    return item.text() if item else ""


def test_scan_shows_what_was_found_and_names_what_is_broken(planned):
    text = planned.data_page.found.text()
    assert "<b>10</b> of 11" in text
    assert "0.5 m" in text
    assert "road (code 1): 18.0 % of the pixels" in text
    assert "1 without a partner" in text
    assert planned.data_page.problems.texts() == ["broken.tif cannot be read: replace it."]
    assert not planned.data_page.gsd.isVisible()


def test_ground_resolution_is_asked_for_only_where_tiles_state_none(dialog, tmp_path, jobs):
    (tmp_path / "plain").mkdir()
    choose_folder(dialog, tmp_path / "plain")
    wait_until(lambda: dialog.data_page.tiles, "the scan")
    assert dialog.data_page.gsd.isVisible()
    dialog.data_page.gsd.setValue(0.7)
    wait_for_plan(dialog)
    assert jobs.of("PlanTraining")[-1]["gsd_m"] == 0.7


def test_folder_that_cannot_be_used_is_a_sentence(dialog, tmp_path):
    (tmp_path / "bad").mkdir()
    choose_folder(dialog, tmp_path / "bad")
    wait_until(lambda: "bad holds no tiles" in objection(dialog), "the refusal")
    assert dialog.job() is None


def test_line_is_moved_by_mouse_and_keyboard_and_counts_at_once(planned, jobs):
    turn_to(planned, 1)
    balance = planned.workbench_page.balance
    histogram = balance.histogram
    assert sum(histogram.counts) == 8, "two are held back for validation"
    area = histogram.plot_rectangle()
    start = QPoint(round(histogram.to_pixel(0, 0).x()), round(area.center().y()))
    end = QPoint(round(histogram.to_pixel(0.22, 0).x()), round(area.center().y()))
    drag(histogram, start, end)
    assert balance.min_share.value() == pytest.approx(0.22, abs=0.01)
    assert "<b>4</b>" in balance.sides.text(), "tiles on the right side, before the worker has answered"
    assert "<b>32.5 %</b>" in balance.sides.text()
    QTest.keyClick(histogram, Qt.Key.Key_Home)
    assert balance.min_share.value() == 0
    for _ in range(3):
        QTest.keyClick(histogram, Qt.Key.Key_Right)
    assert balance.min_share.value() == pytest.approx(0.03)
    wait_for_plan(planned)
    assert jobs.of("PlanTraining")[-1]["min_share"] == pytest.approx(0.03)


def test_preset_keeps_tiles_with_a_fifth_of_the_class(planned, jobs):
    turn_to(planned, 1)
    click(planned, "preset")
    assert planned.workbench_page.balance.histogram.min_share == pytest.approx(0.20)
    assert "…" in planned.workbench_page.balance.sides.text(), "the sampler's share is not known yet"
    wait_for_plan(planned)
    assert "<b>22.0 %</b>" in planned.workbench_page.balance.sides.text()
    assert jobs.of("PlanTraining")[-1]["min_share"] == pytest.approx(0.20)
    click(planned, "keep_all")
    assert planned.workbench_page.balance.min_share.value() == 0


def test_many_changes_make_one_plan_and_the_last_one_counts(planned, jobs):
    before = len(jobs.of("PlanTraining"))
    for share in range(1, 30):
        planned.workbench_page.balance.min_share.setValue(share / 100)
    wait_for_plan(planned)
    plans = jobs.of("PlanTraining")[before:]
    assert len(plans) <= 2
    assert plans[-1]["min_share"] == pytest.approx(0.29)


def test_schedule_that_never_acts_is_called_out(planned):
    turn_to(planned, 1)
    schedule = planned.workbench_page.schedule
    assert len(schedule.curve.series[0].points) == 40
    schedule.schedule.setCurrentIndex(schedule.schedule.findData("step"))
    wait_until(lambda: "never acts" in "".join(planned.workbench_page.findings.texts()), "the finding")
    schedule.schedule.setCurrentIndex(0)
    wait_until(lambda: planned.workbench_page.findings.texts()[0].startswith("Nothing speaks"), "no finding")


def test_suggested_weight_is_shown_with_its_formula(planned):
    turn_to(planned, 1)
    loss = planned.workbench_page.loss
    loss.loss.setCurrentIndex(loss.loss.findData("weighted_bce"))
    assert "1.88 = √(0.78 / 0.22)" in loss.weight_note.text()
    assert "0.527" in loss.constant_note.text()


def test_learning_rate_is_found_and_applied(planned, jobs):
    turn_to(planned, 1)
    planned.workbench_page.tabs.setCurrentIndex(3)
    click(planned, "find_rate")
    schedule = planned.workbench_page.schedule
    wait_until(lambda: schedule.apply_button.isVisible(), "the suggestion")
    assert [level.value for level in schedule.test_chart.levels] == [0.001]
    assert len(schedule.test_chart.series[1].points) == 40
    click(planned, "apply_rate")
    assert schedule.learning_rate.value() == pytest.approx(0.001)
    wait_for_plan(planned)
    assert jobs.of("PlanTraining")[-1]["learning_rate"] == pytest.approx(0.001)


def test_split_is_drawn_on_the_map_and_goes_with_the_dialog(planned, desktop):
    turn_to(planned, 1)
    planned.workbench_page.tabs.setCurrentIndex(1)
    assert "<b>8</b> tiles train, <b>2</b> judge" in planned.workbench_page.split.counts.text()
    click(planned, "show_on_map")
    (layer,) = QgsProject.instance().mapLayers().values()
    assert layer.featureCount() == 10
    assert [category.value() for category in layer.renderer().categories()] == ["train", "validation"]
    assert desktop.mapCanvas().extent().intersects(layer.extent())
    click(planned, "show_on_map")
    assert QgsProject.instance().mapLayers() == {}
    click(planned, "show_on_map")
    planned.workbench_page.balance.min_share.setValue(0.2)
    wait_for_plan(planned)
    (layer,) = QgsProject.instance().mapLayers().values()
    assert [category.value() for category in layer.renderer().categories()][-1] == "below_min_share"
    planned.close()
    assert QgsProject.instance().mapLayers() == {}


def test_layer_of_the_split_may_be_removed_by_hand(planned):
    turn_to(planned, 1)
    planned.workbench_page.tabs.setCurrentIndex(1)
    click(planned, "show_on_map")
    QgsProject.instance().removeAllMapLayers()
    planned.close()


def test_selected_tiles_are_written(planned, jobs, tmp_path):
    turn_to(planned, 1)
    click(planned, "preset")
    balance = planned.workbench_page.balance
    balance.copy_folder.setFilePath(str(tmp_path / "small"))
    balance.copy_button.click()
    wait_until(lambda: "5 tiles written: 9.0 MB before, 2.0 MB now" in balance.copy_status.text(), "the copy")
    (job,) = jobs.of("CopyTiles")
    assert (job["min_share"], job["folder"]) == (pytest.approx(0.2), str(tmp_path / "small"))


def start_training(dialog, jobs):
    turn_to(dialog, 2)
    click(dialog, "start_training")
    wait_until(lambda: dialog.run_page.warnings.count(), "the training to run")


def test_training_shows_curves_and_pictures_and_is_paused_resumed_and_finished(planned, jobs, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url))
    start_training(planned, jobs)
    run = planned.run_page
    assert len(run.loss_chart.series[0].points) == 40
    assert [level.value for level in run.loss_chart.levels] == [0.527]
    assert [series.name for series in run.score_chart.series] == ["IoU", "F1", "precision", "recall"]
    assert len(run.score_chart.series[0].points) == 4
    assert run.pictures.count() == 1, "one for each tile, whatever the round"
    assert "9 s left" in run.status.text()
    assert run.memory.text() == "cpu, 2.0 GB of memory"
    assert not run.start_button.isEnabled()
    click(planned, "pause")
    assert run.pause_button.text() == "Resume"
    click(planned, "pause")
    click(planned, "finish")
    wait_until(lambda: planned.stack.currentIndex() == 3, "the result")
    assert [line["type"] for line in jobs.lines()[-3:]] == ["Pause", "Resume", "Finish"]
    assert "<b>0.510</b>" in planned.result_page.scores.text()
    assert planned.result_page.worst.item(0, 0).text() == "tile_3"
    lists = Path(planned.compare_page.splits.filePath())
    assert json.loads(lists.read_text())["tiles"]["validation"] == ["tile_0", "tile_5"]
    assert planned.result_page.lists.filePath() == str(lists)
    assert planned.result_page.worst.item(0, 3).text() == "–"
    click(planned, "open_report")
    assert opened == [
        QUrl.fromLocalFile(jobs.of("TrainModel")[0]["output"].replace(".aftermap", "/report.html"))
    ]


def test_the_job_is_what_the_pages_say(planned, jobs, folder, tmp_path):
    workbench, run = planned.workbench_page, planned.run_page
    workbench.balance.min_share.setValue(0.1)
    workbench.loss.loss.setCurrentIndex(workbench.loss.loss.findData("tversky"))
    schedule = workbench.schedule
    schedule.length.setCurrentIndex(schedule.length.findData("epochs"))
    schedule.epochs.setValue(7)
    run.seed.setValue(5)
    job = planned.job()
    start_training(planned, jobs)
    (sent,) = jobs.of("TrainModel")
    assert sent["folders"] == [str(folder)]
    assert sent["output"] == str(tmp_path / "models" / "roads-tiles.aftermap")
    assert (sent["min_share"], sent["loss"], sent["epochs"], sent["seed"]) == (0.1, "tversky", 7, 5)
    from aftermap.core.jobs import to_json

    assert sent == json.loads(to_json(job)), "the algorithm's parameters lose nothing"
    click(planned, "cancel_training")
    wait_until(lambda: not run.run.is_running, "the end")


def test_dialog_is_closed_and_opened_while_it_trains(planned, jobs, desktop):
    start_training(planned, jobs)
    planned.close()
    assert "The training goes on" in desktop.messageBar().currentItem().text()
    click(planned, "finish")
    wait_until(lambda: not planned.run_page.run.is_running, "the end")
    assert "is trained: IoU 0.510" in desktop.messageBar().currentItem().text()
    next(a for a in desktop.raster_menus["Aftermap"] if a.objectName() == "aftermapTrainModel").trigger()
    assert planned.isVisible()
    assert planned.stack.currentIndex() == 3


def test_cancelled_training_says_that_it_continues(planned, jobs):
    start_training(planned, jobs)
    click(planned, "cancel_training")
    wait_until(lambda: not planned.run_page.run.is_running, "the end")
    assert "continues where it stopped" in planned.run_page.status.text()
    assert planned.run_page.start_button.isEnabled()


def test_crash_is_offered_to_continue_also_after_a_restart(
    planned, jobs, plugin_with_peer, desktop, tmp_path
):
    from aftermap.plugin.training.dialog import TrainingDialog

    planned.run_page.output.setFilePath(str(tmp_path / "crash.aftermap"))
    turn_to(planned, 2)
    click(planned, "start_training")
    wait_until(lambda: "The training of crash stopped" in objection(planned), "the crash")
    assert "ended before its job did" in planned.run_page.warnings.texts()[-1]
    another = TrainingDialog(desktop, plugin_with_peer._workers)
    assert "The training of crash did not end" in objection(another)
    another.bar.findChild(QPushButton, "continue").click()
    wait_until(lambda: not another.run_page.run.is_running, "the second crash")
    first, second = jobs.of("TrainModel")
    assert first == second, "the same job, so that it continues"
    another.bar.findChild(QPushButton, "forget").click()
    another.shut_down()
    assert "did not end" not in objection(TrainingDialog(desktop, plugin_with_peer._workers))


def texts_of(widget):
    """All that a person can read on a widget now."""
    found = [widget.windowTitle()]
    for child in widget.findChildren(QWidget):
        if child.isVisibleTo(widget):
            for name in ("text", "title", "placeholderText", "toolTip", "currentText", "suffix"):
                read = getattr(child, name, "")
                found.append(str(read() if callable(read) else read))
        if isinstance(child, QTabBar):
            found += [child.tabText(i) for i in range(child.count())]
    return " | ".join(found)


def assert_without_roads(dialog):
    """None of its pages says a word of roads."""
    for row in range(4):
        turn_to(dialog, row)
        text = texts_of(dialog.stack.currentWidget())
        assert "road" not in text.lower().replace("broad", ""), text
    tabs = dialog.workbench_page.tabs
    for number in range(tabs.count()):
        turn_to(dialog, 1)
        tabs.setCurrentIndex(number)
        assert "road" not in texts_of(dialog.workbench_page).lower()


def choose_task(dialog, name):
    dialog.data_page.task.setCurrentIndex(dialog.data_page.task.findData(name))


def test_damage_is_scanned_planned_trained_and_shown_without_a_word_of_roads(dialog, folder, jobs, tmp_path):
    choose_task(dialog, "damage")
    choose_folder(dialog, folder)
    wait_until(lambda: dialog.data_page.tiles and dialog.run_page.output.filePath(), "the scan")
    wait_for_plan(dialog)
    found = dialog.data_page.found.text()
    assert "somewhere-earthquake" in found
    assert "destroyed: <b>80</b>" in found
    assert jobs.of("ScanTiles")[-1]["task"] == "damage"
    assert dialog.run_page.output.filePath() == str(tmp_path / "models" / "damage-tiles.aftermap")
    workbench = dialog.workbench_page
    tabs = [workbench.tabs.tabText(number) for number in range(workbench.tabs.count())]
    assert tabs == ["Levels of damage", "Split", "Schedule", "Augmentation"]
    bars = workbench.levels.bars.bars
    assert [(bar.name, bar.train, bar.validation) for bar in bars] == [
        ("no visible damage", 160, 40),
        ("minor damage", 4, 1),
        ("major damage", 0, 0),
        ("destroyed", 64, 16),
    ]
    assert "minor damage" in workbench.levels.merged.text()
    assert "√(160 / 69) = 1.52" in workbench.levels.weights.text()
    assert "<b>8</b> pairs train, <b>2</b> judge" in workbench.split.counts.text()
    assert len(workbench.schedule.curve.series[0].points) == 40
    assert_without_roads(dialog)
    start_training(dialog, jobs)
    (sent,) = jobs.of("TrainModel")
    from aftermap.core.jobs import TrainModel

    assert sent["task"] == "damage"
    without_effect = ("mask_value", "gsd_m", "loss", "positive_weight", "sampler", "min_share")
    assert all(sent[name] == getattr(TrainModel, name) for name in without_effect)
    run = dialog.run_page
    assert [series.name for series in run.score_chart.series] == [
        "macro F1 of the levels",
        "F1 of the buildings",
        "IoU of the buildings",
    ]
    assert run.share_chart.title == "Share of buildings in the batches"
    assert_without_roads(dialog)
    turn_to(dialog, 2)
    click(dialog, "finish")
    wait_until(lambda: dialog.stack.currentIndex() == 3, "the result")
    scores = dialog.result_page.scores.text()
    assert "Assess Damage" in scores
    assert "<b>0.830</b>" in scores
    assert "<b>0.880</b>" in scores
    assert "AUC within" not in scores, "nothing could be judged"
    assert [dialog.result_page.worst.item(0, column).text() for column in range(4)] == [
        "tile_3",
        "30",
        "4",
        "0.600",
    ]
    assert dialog.list.item(4).isHidden(), "damage models are not compared here"
    assert not dialog.next.isEnabled()
    assert_without_roads(dialog)


def test_another_task_scans_and_plans_anew(planned, jobs, tmp_path):
    assert "road (code 1)" in planned.data_page.found.text()
    assert "road" in texts_of(planned.data_page).lower(), "else the texts are not looked at"
    assert "roads-tiles" in planned.run_page.output.filePath()
    planned.workbench_page.balance.min_share.setValue(0.1)
    choose_task(planned, "damage")
    wait_until(lambda: "destroyed" in planned.data_page.found.text(), "the scan of pairs")
    wait_for_plan(planned)
    assert "damage-tiles" in planned.run_page.output.filePath()
    assert jobs.of("PlanTraining")[-1]["min_share"] == 0
    choose_task(planned, "buildings")
    wait_until(lambda: "building (code 1)" in planned.data_page.found.text(), "the scan of buildings")
    wait_for_plan(planned)
    assert jobs.of("PlanTraining")[-1]["task"] == "buildings"
    assert jobs.of("PlanTraining")[-1]["min_share"] == pytest.approx(0.1)
    workbench = planned.workbench_page
    assert workbench.balance.classes.currentText() == "building"
    assert sum(workbench.balance.histogram.counts) == 8
    assert not workbench.loss.skeleton_weight.isVisibleTo(workbench.loss), "roofs have no centrelines"
    assert not planned.list.item(4).isHidden()
    assert_without_roads(planned)
    planned.run_page.output.setFilePath(str(tmp_path / "mine.aftermap"))
    choose_task(planned, "roads")
    wait_until(lambda: "road (code 1)" in planned.data_page.found.text(), "the scan of roads")
    assert planned.run_page.output.filePath().endswith("mine.aftermap"), "a name that was typed stays"


def test_tasks_may_be_changed_faster_than_the_worker_answers(planned, jobs):
    for name in ("damage", "buildings", "roads", "damage", "roads", "damage"):
        choose_task(planned, name)
    wait_until(lambda: "destroyed" in planned.data_page.found.text(), "the last scan")
    wait_for_plan(planned)
    assert jobs.of("PlanTraining")[-1]["task"] == "damage"
    assert planned.workbench_page.levels.bars.bars
    assert objection(planned) == ""


def test_training_of_damage_that_was_cut_short_is_continued_as_one(
    planned, jobs, plugin_with_peer, desktop, tmp_path
):
    from aftermap.plugin.training.dialog import TrainingDialog

    choose_task(planned, "damage")
    wait_until(lambda: "destroyed" in planned.data_page.found.text(), "the scan")
    planned.run_page.output.setFilePath(str(tmp_path / "crash.aftermap"))
    wait_for_plan(planned)
    turn_to(planned, 2)
    click(planned, "start_training")
    wait_until(lambda: "The training of crash stopped" in objection(planned), "the crash")
    another = TrainingDialog(desktop, plugin_with_peer._workers)
    another.bar.findChild(QPushButton, "continue").click()
    assert another.data_page.chosen_task.is_damage
    wait_until(lambda: not another.run_page.run.is_running, "the second crash")
    first, second = jobs.of("TrainModel")
    assert first == second
    another.bar.findChild(QPushButton, "forget").click()
    another.shut_down()


def test_models_are_compared(planned, jobs, folder, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    turn_to(planned, 4)
    click(planned, "compare")
    assert "two models or more" in objection(planned)
    compare = planned.compare_page
    compare.folder.setFilePath(str(folder))
    compare._add("other", "other")
    for row in range(compare.models.count()):
        compare.models.item(row).setCheckState(Qt.CheckState.Checked)
    click(planned, "compare")
    wait_until(lambda: compare.table.rowCount(), "the comparison")
    assert compare.table.item(0, 1).text() == "0.500 (0.400 – 0.600)"
    assert opened == ["/no/such/report.html"]


def test_unload_ends_a_training(plugin_with_peer, planned, jobs):
    start_training(planned, jobs)
    (worker,) = plugin_with_peer._workers._busy
    plugin_with_peer.unload()
    assert not worker.is_alive
    plugin_with_peer.initGui()  # the fixture unloads it again
