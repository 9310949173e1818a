"""The page *Result*: how good the new model is, where it is bad, and what to do with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qgis.core import QgsProject, QgsRasterLayer
from qgis.gui import QgsCollapsibleGroupBox, QgsMapCanvas
from qgis.PyQt.QtCore import Qt, QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...core.jobs import Figure, Result, TrainModel
from ..model_widget import ModelField
from ..scores import as_number, damage_scores, is_damage_result
from ..settings import Settings
from ..translation import tr
from .background import AlgorithmRun
from .fields import Note, file_field, folder_field, percent
from .page import Page
from .pictures import Thumbnails
from .tasks import Task, task_named

ALGORITHM = "aftermap:evaluatemodel"


class ResultPage(Page):
    """Scores, report, worst tiles, and the evaluation on another folder."""

    def __init__(self, canvas: QgsMapCanvas | None, parent: QWidget | None = None) -> None:
        """No model yet."""
        super().__init__(parent)
        self._canvas = canvas
        self._job: TrainModel | None = None
        self._report = ""
        self._evaluation = AlgorithmRun(self)
        self.scores = Note(tr("A model that was trained, or is evaluated below, shows its scores here."))
        self.scores.setObjectName("scores")
        self.report_button = QPushButton(tr("Open the Report"))
        self.report_button.setObjectName("open_report")
        self.report_button.setEnabled(False)
        self.worst = QTableWidget(0, 4)
        self.worst.setObjectName("worst")
        self.worst.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.worst.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.worst.verticalHeader().hide()
        self.worst.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.show_button = QPushButton(tr("Open It on the Map"))
        self.show_button.setObjectName("open_tile")
        self.show_button.setEnabled(False)
        self.pictures = Thumbnails()
        head = QHBoxLayout()
        head.addWidget(self.scores, 1)
        head.addWidget(self.report_button, 0, Qt.AlignmentFlag.AlignTop)
        body = QHBoxLayout()
        left = QVBoxLayout()
        left.addWidget(self.worst, 1)
        left.addWidget(self.show_button, 0, Qt.AlignmentFlag.AlignLeft)
        body.addLayout(left, 1)
        body.addWidget(self.pictures, 1)
        layout = QVBoxLayout(self)
        layout.addLayout(head)
        layout.addLayout(body, 1)
        layout.addWidget(self._evaluation_box())
        self._connect()

    def show_training(self, job: TrainModel, result: Result, figures: Iterable[Figure]) -> None:
        """Show a model that was just trained, with the last pictures of its validation tiles."""
        self._job = job
        path = result.outputs.get("model", job.output)
        tool = task_named(job.task).tool
        text = tr("The model lies in {}. In <i>{}</i>, choose it by the button “…”.").format(path, tool)
        if Path(path).parent in Settings.load().model_folders:
            text = tr("The model is in the list of <i>{}</i> now.").format(tool)
        self._show(f"<h3>{Path(path).stem}</h3>{text}", result)
        self.scores.setToolTip(path)
        self.pictures.clear()
        for figure in figures:
            self.pictures.show_figure(figure)
        self.model.set_value(path)

    def show_task(self, task: Task) -> None:  # noqa: D102
        self.probe.setVisible(not task.is_damage)
        self.probe.setChecked(self.probe.isChecked() and not task.is_damage)

    def suggest_tiles(self, folder: str, lists: str) -> None:
        """Judge by the validation tiles of a folder; without lists, by all of them."""
        self.folder.setFilePath(folder)
        self.lists.setFilePath(lists)

    def close_down(self) -> None:
        """Stop what runs in the background."""
        self._evaluation.close()

    def _evaluation_box(self) -> QWidget:
        box = QgsCollapsibleGroupBox(tr("Evaluate a model"))
        box.setCollapsed(True)
        self.model = ModelField([])
        self.folder = folder_field("evaluation_folder", tr("labelled tiles that it was not trained on"))
        self.lists = file_field(
            "evaluation_lists", tr("JSON files") + " (*.json)", tr("all tiles are scored")
        )
        self.probe = QCheckBox(tr("Measure how the scores depend on colour (six times as long)"))
        self.evaluate_button = QPushButton(tr("Evaluate"))
        self.evaluate_button.setObjectName("evaluate")
        self.progress = QProgressBar()
        self.progress.hide()
        self.status = QLabel()
        row = QHBoxLayout()
        row.addWidget(self.evaluate_button)
        row.addWidget(self.progress)
        row.addWidget(self.status, 1)
        form = QFormLayout(box)
        form.addRow(tr("Model"), self.model)
        form.addRow(tr("Folder"), self.folder)
        form.addRow(tr("Lists of tiles"), self.lists)
        form.addRow("", self.probe)
        form.addRow("", row)
        return box

    def _connect(self) -> None:
        self.report_button.clicked.connect(self.open_report)
        self.show_button.clicked.connect(self._open_tile)
        self.worst.itemSelectionChanged.connect(self._follow_selection)
        self.worst.itemDoubleClicked.connect(lambda _: self._open_tile())
        self.evaluate_button.clicked.connect(self._evaluate_or_cancel)
        run = self._evaluation
        run.progressed.connect(lambda percent_: self.progress.setValue(round(percent_)))
        run.said.connect(self.status.setText)
        run.figure.connect(self.pictures.show_figure)
        run.succeeded.connect(self._show_evaluation)
        run.failed.connect(self.objected)
        run.ended.connect(self._show_state)

    def _evaluate_or_cancel(self) -> None:
        if self._evaluation.is_running:
            self._evaluation.cancel()
            return
        folder, model = self.folder.filePath().strip(), self.model.value()
        if not folder or not model:
            self.objected.emit(tr("Choose a model and a folder of labelled tiles first."))
            return
        self.pictures.clear()
        self._evaluation.start(
            ALGORITHM,
            {
                "MODEL": model,
                "FOLDER": folder,
                "SPLITS": self.lists.filePath().strip(),
                "PROBE": self.probe.isChecked(),
                "GSD": self._job.gsd_m if self._job else None,
                "MASK_VALUE": self._job.mask_value if self._job else "",
                "OUTPUT_REPORT": "TEMPORARY_OUTPUT",
            },
        )
        self._show_state()

    def _show_evaluation(self, result: Result) -> None:
        values = result.values
        text = tr("<h3>{}</h3>on {} pairs of {}") if "pairs" in values else tr("<h3>{}</h3>on {} tiles of {}")
        count = values.get("pairs", values.get("tiles", "?"))
        head = text.format(Path(self.model.value()).stem, count, self.folder.filePath())
        self._show(head, result)
        self.scores.setToolTip("")

    def _show_state(self) -> None:
        is_running = self._evaluation.is_running
        self.evaluate_button.setText(tr("Cancel") if is_running else tr("Evaluate"))
        self.progress.setVisible(is_running)
        if not is_running:
            self.status.setText("")

    def _show(self, head: str, result: Result) -> None:
        self._report = result.outputs.get("report", "")
        self.report_button.setEnabled(bool(self._report))
        sets = result.values.get("sets") or ()
        # Of one set of tiles the card has more scores than the run has of all together.
        scores = {**sets[0], **result.values} if len(sets) == 1 else result.values
        self.scores.setText(head + _score_table(scores))
        tiles = result.values.get("tile_scores") or ()
        columns = _tile_columns(is_damage_result(scores))
        self.worst.setHorizontalHeaderLabels([text for _, text in columns])
        self.worst.setRowCount(len(tiles))
        for row, tile in enumerate(tiles):
            for column, (name, _) in enumerate(columns):
                value = tile.get(name)
                is_score = value is None or isinstance(value, float)
                item = QTableWidgetItem(_score(value) if is_score else str(value))
                item.setData(Qt.ItemDataRole.UserRole, tile.get("image"))
                self.worst.setItem(row, column, item)
        self.worst.resizeRowsToContents()

    def open_report(self) -> None:
        """Open the report in the browser."""
        QDesktopServices.openUrl(QUrl.fromLocalFile(self._report))

    def _follow_selection(self) -> None:
        items = self.worst.selectedItems()
        self.show_button.setEnabled(bool(items))
        if items:
            self.pictures.turn_to(items[0].text())

    def _open_tile(self) -> None:
        items = self.worst.selectedItems()
        if not items:
            return
        path = items[0].data(Qt.ItemDataRole.UserRole)
        layer = QgsRasterLayer(path, Path(path).stem)
        if not layer.isValid():
            self.objected.emit(tr("{} cannot be opened: was it moved?").format(path))
            return
        QgsProject.instance().addMapLayer(layer)
        if self._canvas is not None:
            self._canvas.setExtent(
                self._canvas.mapSettings().layerExtentToOutputExtent(layer, layer.extent())
            )
            self._canvas.refresh()


def _tile_columns(is_damage: bool) -> tuple[tuple[str, str], ...]:
    """Columns of the list of the worst: name among a tile's scores, and heading."""
    if is_damage:
        return (
            ("stem", tr("Pair, worst first")),
            ("buildings", tr("buildings")),
            ("wrong", tr("wrong level")),
            ("building_iou", "IoU"),
        )
    return (
        ("stem", tr("Tile, worst first")),
        ("iou", "IoU"),
        ("precision", tr("precision")),
        ("recall", tr("recall")),
    )


def _score_table(values: Mapping[str, Any]) -> str:
    if is_damage_result(values):
        counts = ", ".join(f"{count} {name}" for name, count in values.get("counts", {}).items())
        judged = tr("Judged by buildings: {}.").format(counts)
        return f"{_as_table(_damage_cells(values))}<p>{judged}</p>"
    names = (
        ("iou", "IoU"),
        ("f1", "F1"),
        ("precision", tr("precision")),
        ("recall", tr("recall")),
        ("relaxed_f1", tr("relaxed F1")),
        ("cldice", "clDice"),
        ("apls", "APLS"),
        ("roof_fpr", tr("roof FPR")),
        ("ece", "ECE"),
        ("threshold", tr("threshold")),
    )
    shown = [(text, _score(values[name])) for name, text in names if as_number(values.get(name)) is not None]
    drop = (values.get("colour_probe") or {}).get("worst_drop")
    if drop is not None:
        shown.append((tr("worst drop by colour"), percent(drop)))
    return _as_table(shown)


def _damage_cells(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Headings and values of a damage model's scores."""
    scores = damage_scores(values)
    names = (
        ("MACRO_F1", tr("macro F1 of the levels")),
        ("DESTROYED_F1", tr("F1 destroyed or not")),
        ("AUC", "AUC"),
        ("AUC_WITHIN_TILES", tr("AUC within pairs")),
        ("BUILDING_F1", tr("F1 of the buildings")),
        ("BUILDING_IOU", tr("IoU of the buildings")),
        ("XVIEW2", "xView2"),
    )
    return [(text, _score(scores[name])) for name, text in names if name in scores]


def _as_table(cells: Iterable[tuple[str, str]]) -> str:
    """Pairs of a heading and a value side by side."""
    shown = list(cells)
    heads = "".join(f"<td style='padding-right:18px'>{text}</td>" for text, _ in shown)
    values = "".join(f"<td style='padding-right:18px'><b>{value}</b></td>" for _, value in shown)
    return f"<table><tr>{heads}</tr><tr>{values}</tr></table>"


def _score(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3f}"
