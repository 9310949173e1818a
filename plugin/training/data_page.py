"""The page *Data*: which tiles, and what was found in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsFieldProxyModel, QgsMapLayerProxyModel
from qgis.gui import QgsCollapsibleGroupBox, QgsFieldComboBox, QgsFileWidget, QgsMapLayerComboBox
from qgis.PyQt.QtCore import QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...core.jobs import ExportTrainingTiles, Result, ScanTiles, TrainModel
from ..settings import Settings
from ..translation import tr
from ..worker_client import WorkerPool
from .background import AlgorithmRun, WorkerJob
from .fields import Note, Sentences, choice, choose, existing_folder, folder_field, integer, number, percent
from .page import Page
from .tasks import Task, task_named, tasks
from .tiles import Tile, read_tiles

SCAN_DELAY_MS = 400
SHOWN_PROBLEMS = 100
SHOWN_EVENTS = 4


class FolderList(QWidget):
    """Folders, one a row; a row that is filled in makes room for another."""

    changed = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        """One empty row."""
        super().__init__(parent)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._rows: list[QgsFileWidget] = []
        self._add_row("")

    def folders(self) -> tuple[str, ...]:
        """The folders that are there."""
        found = (existing_folder(row.filePath()) for row in self._rows)
        return tuple(dict.fromkeys(folder for folder in found if folder))

    def missing(self) -> list[str]:
        """What was typed and is no folder."""
        texts = [row.filePath().strip() for row in self._rows]
        return [text for text in texts if text and not existing_folder(text)]

    def set_folders(self, folders: tuple[str, ...]) -> None:
        """Show these folders."""
        while len(self._rows) < len(folders):
            self._add_row("")
        for number_, row in enumerate(self._rows):
            row.setFilePath(folders[number_] if number_ < len(folders) else "")

    def set_hint(self, hint: str) -> None:
        """Say what a folder looks like, in a few words."""
        self._rows[0].lineEdit().setPlaceholderText(hint)

    def _add_row(self, path: str) -> None:
        hint = tr("another folder (optional)") if self._rows else ""
        row = folder_field(f"folder{len(self._rows) or ''}", hint)
        row.setFilePath(path)
        row.fileChanged.connect(self._follow)
        self._rows.append(row)
        self._layout.addWidget(row)

    def _follow(self) -> None:
        if self._rows[-1].filePath().strip():
            self._add_row("")
        self.changed.emit()


class DataPage(Page):
    """Folders of labelled tiles, or a raster and a vector layer that become one; and what was found."""

    scanned = pyqtSignal()
    task_changed = pyqtSignal(object)

    def __init__(self, workers: WorkerPool, parent: QWidget | None = None) -> None:
        """Nothing chosen yet."""
        super().__init__(parent)
        self.tiles: list[Tile] = []
        self.scan: dict[str, Any] = {}
        self._job = WorkerJob(workers, tr("Looking at labelled tiles"), self)
        self._is_stale = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SCAN_DELAY_MS)
        layout = QVBoxLayout(self)
        layout.addWidget(self._source_box())
        layout.addWidget(self._export_box())
        layout.addWidget(self._found_box(), 1)
        self._connect()
        self.show_task(self.chosen_task)
        self._show_scan()

    @property
    def chosen_task(self) -> Task:
        """What is trained for."""
        return task_named(self.task.currentData())

    @property
    def is_scanning(self) -> bool:
        """Whether the folders are being looked at."""
        return self._job.is_running or self._timer.isActive()

    def values(self) -> dict[str, Any]:  # noqa: D102
        values: dict[str, Any] = {"folders": self.folders.folders(), "task": self.task.currentData()}
        if not self.chosen_task.is_damage:
            values["mask_value"] = self.mask_value.text().strip()
            values["gsd_m"] = self.gsd.value() or None
        return values

    def show_task(self, task: Task) -> None:  # noqa: D102
        self.folders.set_hint(task.folder_hint)
        for widget in (self.mask_value, self._form.labelForField(self.mask_value)):
            widget.setVisible(not task.is_damage)
        self.export_box.setVisible(bool(task.digitised))
        self.export_box.setTitle(
            tr("Or: cut tiles from a raster layer and {} of the project").format(task.digitised)
        )
        self._labels_label.setText(task.digitised.capitalize())

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        choose(self.task, job.task)
        self.mask_value.setText(job.mask_value)
        self.gsd.setValue(job.gsd_m or 0.0)
        self.folders.set_folders(job.folders)

    def close_down(self) -> None:
        """Stop what runs in the background."""
        self._timer.stop()
        self._job.cancel()
        self._export.close()

    def _source_box(self) -> QWidget:
        box = QgsCollapsibleGroupBox(tr("What is trained, and on which folders"))
        self._form = form = QFormLayout(box)
        self.folders = FolderList()
        self.task = choice("task", [(task.name, task.title) for task in tasks()])
        self.mask_value = QLineEdit()
        self.mask_value.setObjectName("mask_value")
        self.mask_value.setPlaceholderText(tr("found out: 0/1, 0/255, white on black"))
        self.mask_value.setToolTip(tr("A code such as 3, or a colour such as #ffff00"))
        self.gsd = number("gsd", 100, 0, 3, 0.1, " m", tr("unknown"))
        self.gsd_label = QLabel(tr("Ground size of a pixel"))
        form.addRow(tr("Task"), self.task)
        form.addRow(tr("Folder"), self.folders)
        form.addRow(tr("What in a mask is the class"), self.mask_value)
        form.addRow(self.gsd_label, self.gsd)
        return box

    def _export_box(self) -> QWidget:
        self.export_box = QgsCollapsibleGroupBox()
        self.export_box.setCollapsed(True)
        form = QFormLayout(self.export_box)
        proxy = QgsMapLayerProxyModel.Filter
        self.raster = QgsMapLayerComboBox()
        self.raster.setFilters(proxy.RasterLayer)
        self.labels = QgsMapLayerComboBox()
        self.labels.setFilters(proxy.PolygonLayer | proxy.LineLayer)
        self.area = QgsMapLayerComboBox()
        self.area.setFilters(proxy.PolygonLayer)
        self.area.setAllowEmptyLayer(True, tr("the whole image is digitised"))
        self.area.setLayer(None)
        self.width_field = QgsFieldComboBox()
        self.width_field.setFilters(QgsFieldProxyModel.Filter.Numeric)
        self.width_field.setAllowEmptyFieldName(True)
        self.line_width = number("width", 200, 0.1, 1, 1, " m")
        self.line_width.setValue(ExportTrainingTiles.width_m)
        self.tile_px = integer("tile_px", 4096, 64, 64, " px")
        self.tile_px.setValue(ExportTrainingTiles.tile_px)
        self.image_format = choice(
            "image_format", [("tif", "GeoTIFF"), ("jpg", tr("JPEG (small)")), ("png", "PNG")]
        )
        self.export_folder = folder_field("export_folder", tr("a new folder for the tiles"))
        self.export_button = QPushButton(tr("Cut Tiles"))
        self.export_button.setObjectName("export")
        width = QHBoxLayout()
        width.addWidget(self.width_field, 1)
        width.addWidget(QLabel(tr("or, where it is empty,")))
        width.addWidget(self.line_width)
        size = QHBoxLayout()
        size.addWidget(self.tile_px)
        size.addWidget(self.image_format)
        size.addStretch(1)
        form.addRow(tr("Image"), self.raster)
        self._labels_label = QLabel()
        form.addRow(self._labels_label, self.labels)
        form.addRow(tr("Width of lines (m): field"), width)
        form.addRow(tr("Everything is digitised in"), self.area)
        form.addRow(tr("Tiles"), size)
        form.addRow(tr("Folder of tiles"), self.export_folder)
        start = QHBoxLayout()
        start.addWidget(self.export_button)
        start.addStretch(1)
        form.addRow("", start)
        self._export = AlgorithmRun(self)
        return self.export_box

    def _found_box(self) -> QWidget:
        box = QWidget()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.status = QLabel()
        self.cancel_button = QPushButton(tr("Cancel"))
        self.cancel_button.setObjectName("cancel_scan")
        row.addWidget(self.progress)
        row.addWidget(self.status, 1)
        row.addWidget(self.cancel_button)
        self._progress_row = QWidget()
        self._progress_row.setLayout(row)
        row.setContentsMargins(0, 0, 0, 0)
        self.found = Note()
        self.found.setObjectName("found")
        self.problems = Sentences("problems")
        self.problems_label = QLabel()
        layout.addWidget(self._progress_row)
        layout.addWidget(self.found)
        layout.addWidget(self.problems_label)
        layout.addWidget(self.problems, 1)
        layout.addStretch()
        return box

    def _connect(self) -> None:
        self.task.currentIndexChanged.connect(lambda _: self._follow_task())
        self.folders.changed.connect(self._timer.start)
        self.mask_value.editingFinished.connect(self._scan_if_mask_changed)
        self.gsd.valueChanged.connect(lambda _: self.changed.emit())
        self._timer.timeout.connect(self._scan)
        self.cancel_button.clicked.connect(self._cancel)
        self._job.progressed.connect(self._show_progress)
        self._job.succeeded.connect(self._take_scan)
        self._job.failed.connect(self._refuse)
        self._job.ended.connect(self._scan_again)
        self.labels.layerChanged.connect(self.width_field.setLayer)
        self.width_field.setLayer(self.labels.currentLayer())
        self.export_button.clicked.connect(self.export_tiles)
        self._export.progressed.connect(lambda percent_: self._show_progress(percent_ / 100, ""))
        self._export.said.connect(self.status.setText)
        self._export.succeeded.connect(self._take_export)
        self._export.failed.connect(self.objected)
        self._export.ended.connect(self._show_scan)

    def _follow_task(self) -> None:
        """What was found for another task says nothing of this one."""
        self.task_changed.emit(self.chosen_task)
        self._scan()

    def _scan_if_mask_changed(self) -> None:
        if self.folders.folders() and self.mask_value.text().strip() != self.scan.get("asked_mask_value", ""):
            self._timer.start()

    def _scan(self) -> None:
        folders, missing = self.folders.folders(), self.folders.missing()
        if missing:
            self.objected.emit(tr("There is no folder {}.").format(missing[0]))
        if self._job.is_running:
            self._is_stale = True
            self._job.cancel()
            return
        self.tiles, self.scan = [], {}
        if folders:
            self._asked = self.values().get("mask_value", "")
            self._job.start(
                ScanTiles(folders, self.task.currentData(), self._asked, cache=Settings.load().cache)
            )
            self._show_progress(0.0, tr("Looking at the folder …"))
        self._show_scan()
        self.changed.emit()

    def _scan_again(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self._scan()
        else:
            self._show_scan()

    def _cancel(self) -> None:
        self._is_stale = False
        self._job.cancel()
        self._export.cancel()

    def _show_progress(self, fraction: float, text: str) -> None:
        self.progress.setValue(round(1000 * fraction))
        if text:
            self.status.setText(text)

    def _take_scan(self, result: Result) -> None:
        if self._is_stale:
            return
        self.scan = {**result.values, "asked_mask_value": self._asked}
        self.tiles = read_tiles(Path(result.outputs["tiles"]))
        self._show_scan()
        self.scanned.emit()
        self.changed.emit()

    def _refuse(self, message: str) -> None:
        if not self._is_stale:
            self.scan = {"refusal": message}
            self.objected.emit(message)

    def _show_scan(self) -> None:
        is_busy = self._job.is_running or self._export.is_running
        self._progress_row.setVisible(is_busy)
        self.export_button.setEnabled(not self._export.is_running)
        is_asked = bool(self.tiles) and self.scan.get("gsd_m") is None and not self.chosen_task.is_damage
        for widget in (self.gsd, self.gsd_label):
            widget.setVisible(is_asked)
        self.found.setText("" if is_busy else self._sentences())
        problems = list(self.scan.get("problems", ()))
        count = self.scan.get("problem_count", len(problems))
        self.problems.show_sentences(problems[:SHOWN_PROBLEMS])
        self.problems.setVisible(bool(problems))
        self.problems_label.setVisible(bool(problems))
        shown = min(len(problems), SHOWN_PROBLEMS)
        text = tr("{} files are left out:").format(count)
        if count > shown:
            text = tr("{} files are left out, of which the first {}:").format(count, shown)
        self.problems_label.setText(text)

    def _sentences(self) -> str:
        scan = self.scan
        if "refusal" in scan:
            return scan["refusal"]
        task = self.chosen_task
        if not scan:
            return task.hint
        rows = [
            (task.usable, tr("<b>{}</b> of {}").format(scan["usable"], scan["tiles"])),
            (tr("Layout"), "<br>".join(_layout(folder) for folder in scan["folders"])),
            (tr("Side"), _range(scan["size_px"], "px")),
            (
                tr("Ground resolution"),
                _range(scan["gsd_m"], "m") if scan["gsd_m"] else tr("the tiles state none: enter it above"),
            ),
        ]
        if task.is_damage:
            rows.append((tr("Events"), _listed(scan["events"])))
            rows.append((tr("Buildings"), "<br>".join(_level(one) for one in scan["levels"])))
        else:
            rows.append((tr("Masks"), scan["coding"]))
            rows.append((tr("Classes"), "<br>".join(_class(one) for one in scan["classes"])))
        cells = "".join(
            f"<tr><td style='padding-right:16px'>{name}</td><td>{text}</td></tr>" for name, text in rows
        )
        return f"<table>{cells}</table>"

    def export_tiles(self) -> None:
        """Cut tiles as the form says, and train on them."""
        if self.raster.currentLayer() is None or self.labels.currentLayer() is None:
            text = tr("Load an image and a layer of {} into the project first.")
            self.objected.emit(text.format(self.chosen_task.digitised))
            return
        folder = self.export_folder.filePath().strip()
        if not folder:
            self.objected.emit(tr("Name a new folder for the tiles first."))
            return
        self._exported = folder
        self._export.start(
            "aftermap:exporttrainingtiles",
            {
                "INPUT": self.raster.currentLayer().id(),
                "LABELS": self.labels.currentLayer().id(),
                "WIDTH_FIELD": self.width_field.currentField(),
                "WIDTH": self.line_width.value(),
                "AREA": self.area.currentLayer().id() if self.area.currentLayer() else None,
                "TILE_SIZE": self.tile_px.value(),
                "FORMAT": self.image_format.currentData(),
                "OUTPUT": folder,
            },
        )
        self.status.setText(tr("Cutting tiles …"))
        self._show_scan()

    def _take_export(self, result: Result) -> None:
        if result.values.get("skipped"):
            text = tr("{} tiles were cut; {} had no labels or no data.")
            self.status.setText(text.format(result.values["tiles"], result.values["skipped"]))
        self.export_box.setCollapsed(True)
        self.folders.set_folders((self._exported,))


def _level(one: dict[str, Any]) -> str:
    return f"<span style='color:{one['colour']}'>■</span> {one['name']}: <b>{one['buildings']}</b>"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_EVENTS])
    return (
        shown if len(names) <= SHOWN_EVENTS else tr("{} and {} more").format(shown, len(names) - SHOWN_EVENTS)
    )


def _layout(folder: dict[str, Any]) -> str:
    text = tr("{}: {}, {} of {}").format(
        Path(folder["folder"]).name, folder["layout"], folder["usable"], folder["tiles"]
    )
    unmatched = folder.get("unmatched")
    if unmatched:
        count = unmatched if isinstance(unmatched, int) else len(unmatched)
        text += tr(", {} without a partner").format(count)
    return text


def _class(one: dict[str, Any]) -> str:
    return tr("{} (code {}): {} of the pixels").format(one["name"], one["code"], percent(one["share"]))


def _range(ends: Any, unit: str) -> str:
    low, high = (f"{round(end, 3):g}" for end in ends)
    return f"{low} {unit}" if low == high else tr("{} to {} {}").format(low, high, unit)
