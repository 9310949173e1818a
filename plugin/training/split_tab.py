"""The tab *Split*: which tiles train and which judge, without a leak between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ...core.jobs import TrainModel
from ..translation import tr
from .fields import Note, choice, choose, file_field, folder_field, number
from .page import Page
from .tasks import Task, tasks
from .tile_outlines import PART_COLOURS, TileOutlines, part_names
from .tiles import Tile

BY_SHARE, BY_FOLDER, BY_LISTS = "share", "folder", "lists"


class SplitTab(Page):
    """How the split is made, what it gives, and where its parts lie on the map."""

    def __init__(self, canvas: QgsMapCanvas | None, parent: QWidget | None = None) -> None:
        """Without tiles yet."""
        super().__init__(parent)
        self._tiles: list[Tile] = []
        self._task = tasks()[0]
        self._outlines = TileOutlines(canvas) if canvas is not None else None
        self.kind = choice(
            "split",
            [
                (BY_SHARE, tr("A share of the folder")),
                (BY_FOLDER, tr("A folder of its own")),
                (BY_LISTS, tr("Lists of names in a JSON file")),
            ],
        )
        self.share = number("validation_share", 0.9, 0.05, 2, 0.05)
        self.share.setValue(TrainModel.validation_share)
        self.folder = folder_field("validation", tr("what the training never sees"))
        self.lists = file_field("splits", tr("JSON files") + " (*.json)")
        self.how = Note()
        self.how.setObjectName("how")
        self.counts = QLabel()
        self.counts.setObjectName("counts")
        self.show_button = QPushButton(tr("Show on the Map"))
        self.show_button.setObjectName("show_on_map")
        self.show_button.setCheckable(True)
        self.show_button.setEnabled(False)
        self.legend = QLabel()
        self._form = QFormLayout()
        self._form.addRow(tr("Validation"), self.kind)
        self._form.addRow(tr("Share"), self.share)
        self._form.addRow(tr("Folder"), self.folder)
        self._form.addRow(tr("File"), self.lists)
        map_row = QHBoxLayout()
        map_row.addWidget(self.show_button)
        map_row.addWidget(self.legend, 1)
        layout = QVBoxLayout(self)
        layout.addLayout(self._form)
        layout.addWidget(self.how)
        layout.addWidget(self.counts)
        layout.addLayout(map_row)
        self.leaks = Note(self._task.leaks)
        layout.addWidget(self.leaks)
        layout.addStretch(1)
        self.kind.currentIndexChanged.connect(lambda _: self._follow())
        self.share.valueChanged.connect(lambda _: self.changed.emit())
        self.folder.fileChanged.connect(lambda _: self.changed.emit())
        self.lists.fileChanged.connect(lambda _: self.changed.emit())
        self.show_button.toggled.connect(self._show_map)
        self._show_fields()

    def values(self) -> dict[str, Any]:  # noqa: D102
        kind = self.kind.currentData()
        return {
            "validation": self.folder.filePath().strip() if kind == BY_FOLDER else "",
            "splits": self.lists.filePath().strip() if kind == BY_LISTS else "",
            "validation_share": self.share.value(),
        }

    def show_task(self, task: Task) -> None:  # noqa: D102
        self._task, self._tiles = task, []
        self.leaks.setText(task.leaks)
        for label in (self.how, self.counts, self.legend):
            label.setText("")
        self.clear_map()
        self.show_button.setEnabled(False)

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        self.folder.setFilePath(job.validation)
        self.lists.setFilePath(job.splits)
        self.share.setValue(job.validation_share)
        choose(self.kind, BY_LISTS if job.splits else BY_FOLDER if job.validation else BY_SHARE)

    def show_plan(self, values: Mapping[str, Any], tiles: Sequence[Tile]) -> None:
        """Show the split that was made."""
        self._tiles = list(tiles)
        self.how.setText(values["split"])
        text = self._task.counts.format(values["train_tiles"], values["validation_tiles"])
        if not self._task.is_damage:
            text += tr(", {} are below the minimum share").format(values["below_min_share"])
        self.counts.setText(f"{text}.")
        is_on_ground = any(tile.bounds for tile in tiles)
        self.show_button.setEnabled(is_on_ground and self._outlines is not None)
        self.legend.setText(
            self._legend() if is_on_ground else tr("They do not say where they lie on the ground.")
        )
        if self.show_button.isChecked() and self._outlines is not None:
            self._outlines.show(self._tiles)

    def clear_map(self) -> None:
        """Take the outlines from the map."""
        self.show_button.setChecked(False)

    def _follow(self) -> None:
        self._show_fields()
        self.changed.emit()

    def _show_fields(self) -> None:
        kind = self.kind.currentData()
        for field, its_kind in ((self.share, BY_SHARE), (self.folder, BY_FOLDER), (self.lists, BY_LISTS)):
            field.setVisible(kind == its_kind)
            self._form.labelForField(field).setVisible(kind == its_kind)

    def _show_map(self, is_shown: bool) -> None:
        if self._outlines is None:
            return
        if is_shown:
            self._outlines.show(self._tiles)
            self._outlines.zoom()
        else:
            self._outlines.clear()

    def _legend(self) -> str:
        names = part_names()
        counts = {part: sum(tile.part == part for tile in self._tiles) for part in names}
        return "&nbsp;&nbsp; ".join(
            f"<span style='color:{PART_COLOURS[part]}'>■</span> {counts[part]} {text}"
            for part, text in names.items()
            if counts[part]
        )
