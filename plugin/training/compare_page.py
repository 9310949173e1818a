"""The page *Compare*: two models or more on the same tiles, with intervals."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from qgis.PyQt.QtCore import Qt, QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...core.cards import PACKAGE_SUFFIX, list_packages
from ...core.jobs import CompareRuns, Result
from ..settings import Settings
from ..translation import tr
from ..worker_client import WorkerPool
from .background import WorkerJob
from .fields import Note, file_field, folder_field, number
from .page import Page
from .tasks import Task, tasks

LIST_PX = 150


class ComparePage(Page):
    """Models to choose, tiles to judge by, and the table that comes of it."""

    def __init__(self, workers: WorkerPool, parent: QWidget | None = None) -> None:
        """No comparison yet."""
        super().__init__(parent)
        self._job = WorkerJob(workers, tr("Comparing models"), self)
        self._report = ""
        self._task = tasks()[0]
        self.models = QListWidget()
        self.models.setObjectName("models")
        self.models.setMaximumHeight(LIST_PX)
        self.add_button = QPushButton(tr("Add a Package…"))
        self.folder = folder_field("compare_folder", tr("labelled tiles that none of them was trained on"))
        self.splits = file_field("compare_splits", tr("JSON files") + " (*.json)", tr("all tiles are scored"))
        self.gsd = number("compare_gsd", 100, 0, 3, 0.1, " m", tr("what the tiles state"))
        self.compare_button = QPushButton(tr("Compare"))
        self.compare_button.setObjectName("compare")
        self.report_button = QPushButton(tr("Open the Report"))
        self.report_button.setEnabled(False)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.hide()
        self.status = QLabel()
        self.table = QTableWidget(0, 4)
        self.table.setObjectName("comparison")
        self.table.setHorizontalHeaderLabels(
            [tr("Model"), tr("IoU (95 % interval)"), tr("F1 (95 % interval)"), tr("threshold")]
        )
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        form = QFormLayout()
        form.addRow(tr("Models (two or more)"), self.models)
        add_row = QHBoxLayout()
        add_row.addWidget(self.add_button)
        add_row.addStretch(1)
        form.addRow("", add_row)
        form.addRow(tr("Folder of tiles"), self.folder)
        form.addRow(tr("Lists of tiles"), self.splits)
        form.addRow(tr("Ground size of a pixel"), self.gsd)
        row = QHBoxLayout()
        row.addWidget(self.compare_button)
        row.addWidget(self.progress)
        row.addWidget(self.status, 1)
        row.addWidget(self.report_button)
        layout = QVBoxLayout(self)
        layout.addWidget(
            Note(tr("The same tiles for each model: scores with intervals, curves and pictures."))
        )
        layout.addLayout(form)
        layout.addLayout(row)
        layout.addWidget(self.table, 1)
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """List the models for the task that are there now."""
        checked = {value for value, _ in self._checked()}
        self.models.clear()
        for package in list_packages(Settings.load().model_folders, self._task.name):
            self._add(package.card.name, f"{package.card.name}: {package.card.title}")
        for row in range(self.models.count()):
            item = self.models.item(row)
            if item.data(Qt.ItemDataRole.UserRole) in checked:
                item.setCheckState(Qt.CheckState.Checked)

    def show_task(self, task: Task) -> None:  # noqa: D102
        self._task = task
        self.refresh()

    def suggest_tiles(self, folder: str, lists: str) -> None:
        """Judge by the validation tiles of a folder; without lists, by all of them."""
        self.folder.setFilePath(folder)
        self.splits.setFilePath(lists)

    def close_down(self) -> None:
        """Stop what runs in the background."""
        self._job.cancel()

    def _connect(self) -> None:
        self.add_button.clicked.connect(self._choose_package)
        self.compare_button.clicked.connect(self._compare_or_cancel)
        self.report_button.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(self._report)))
        self._job.progressed.connect(self._show_progress)
        self._job.succeeded.connect(self._show_result)
        self._job.failed.connect(self.objected)
        self._job.ended.connect(self._show_state)

    def _add(self, value: str, text: str) -> QListWidgetItem:
        item = QListWidgetItem(text, self.models)
        item.setData(Qt.ItemDataRole.UserRole, value)
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        item.setCheckState(Qt.CheckState.Unchecked)
        return item

    def _checked(self) -> list[tuple[str, str]]:
        items = (self.models.item(row) for row in range(self.models.count()))
        return [
            (item.data(Qt.ItemDataRole.UserRole), item.text())
            for item in items
            if item.checkState() == Qt.CheckState.Checked
        ]

    def _choose_package(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(
            self.window(), tr("Model packages"), "", tr("Model packages") + f" (*{PACKAGE_SUFFIX})"
        )
        for path in paths:
            self._add(path, Path(path).stem).setCheckState(Qt.CheckState.Checked)

    def _compare_or_cancel(self) -> None:
        if self._job.is_running:
            self._job.cancel()
            return
        models, folder = tuple(value for value, _ in self._checked()), self.folder.filePath().strip()
        if len(models) < 2 or not folder:
            self.objected.emit(tr("Check two models or more, and choose a folder of labelled tiles."))
            return
        self._job.start(
            CompareRuns(
                models=models,
                folder=folder,
                report=tempfile.mkdtemp(prefix="aftermap-comparison-"),
                model_folders=tuple(str(path) for path in Settings.load().model_folders),
                gsd_m=self.gsd.value() or None,
                splits=self.splits.filePath().strip(),
            )
        )
        self._show_progress(0.0, tr("The worker starts …"))
        self._show_state()

    def _show_progress(self, fraction: float, text: str) -> None:
        self.progress.setValue(round(1000 * fraction))
        self.status.setText(text)

    def _show_state(self) -> None:
        is_running = self._job.is_running
        self.compare_button.setText(tr("Cancel") if is_running else tr("Compare"))
        self.progress.setVisible(is_running)
        if not is_running:
            self.status.setText("")

    def _show_result(self, result: Result) -> None:
        self._report = result.outputs["report"]
        self.report_button.setEnabled(True)
        models = result.values["models"]
        self.table.setRowCount(len(models))
        for row, model in enumerate(models):
            cells = (
                model["name"],
                _interval(model, "iou"),
                _interval(model, "f1"),
                f"{model['threshold']:.2f}",
            )
            for column, text in enumerate(cells):
                self.table.setItem(row, column, QTableWidgetItem(text))
        QDesktopServices.openUrl(QUrl.fromLocalFile(self._report))


def _interval(model: dict[str, Any], name: str) -> str:
    text = f"{model[name]:.3f}"
    if f"{name}_low" in model:
        text += f" ({model[f'{name}_low']:.3f} – {model[f'{name}_high']:.3f})"
    return text
