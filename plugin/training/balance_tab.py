"""The tab *Class balance*: how much of the class the tiles hold, and which of them the training sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import QSignalBlocker, Qt
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...core.jobs import CopyTiles, Result, TrainModel
from ..settings import Settings
from ..translation import tr
from ..worker_client import WorkerPool
from .background import WorkerJob
from .fields import Note, choice, choose, folder_field, number, percent
from .page import Page
from .share_histogram import ShareHistogram
from .tiles import Tile, class_names, split_at

PRESET_SHARE = 0.20


class BalanceTab(Page):
    """Histogram, minimum share, sampler, and the selected tiles as a folder of their own."""

    def __init__(self, workers: WorkerPool, parent: QWidget | None = None) -> None:
        """Without tiles yet."""
        super().__init__(parent)
        self._tiles: list[Tile] = []
        self._held_back: frozenset[str] = frozenset()  # images of the tiles that judge
        self._sampled: float | None = None
        self._data: dict[str, Any] = {}
        self._copy = WorkerJob(workers, tr("Writing selected tiles"), self)
        self.classes = QComboBox()
        self.classes.setObjectName("classes")
        self.histogram = ShareHistogram()
        self.min_share = number("min_share", 1, 0, 2, 0.01, "", tr("0: all tiles"))
        self.preset = QPushButton(
            tr("Keep only tiles with at least {:.2f} of the class").format(PRESET_SHARE)
        )
        self.preset.setObjectName("preset")
        self.keep_all = QPushButton(tr("Keep all"))
        self.keep_all.setObjectName("keep_all")
        self.sampler = choice(
            "sampler",
            [
                ("weighted", tr("Weighted: much of the class more often, at least 15 % of tiles without it")),
                ("uniform", tr("Uniform: every tile alike")),
            ],
        )
        self.sides = QLabel()
        self.sides.setTextFormat(Qt.TextFormat.RichText)
        self.sides.setObjectName("sides")
        levers = QHBoxLayout()
        levers.addWidget(QLabel(tr("Minimum share")))
        levers.addWidget(self.min_share)
        levers.addWidget(self.preset)
        levers.addWidget(self.keep_all)
        levers.addStretch(1)
        head = QHBoxLayout()
        head.addWidget(QLabel(tr("Class")))
        head.addWidget(self.classes)
        head.addWidget(
            Note(tr("Drag the line: tiles left of it are not trained on. Validation is never thinned out.")),
            1,
        )
        form = QFormLayout()
        form.addRow(tr("Sampler"), self.sampler)
        layout = QVBoxLayout(self)
        layout.addLayout(head)
        layout.addWidget(self.histogram, 1)
        layout.addLayout(levers)
        layout.addLayout(form)
        layout.addWidget(self.sides)
        layout.addWidget(self._copy_box())
        self._connect()
        self._show_sides()

    def values(self) -> dict[str, Any]:  # noqa: D102
        return {"min_share": self.min_share.value(), "sampler": self.sampler.currentData()}

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        choose(self.sampler, job.sampler)
        self.min_share.setValue(job.min_share)

    def show_tiles(self, tiles: Sequence[Tile]) -> None:
        """Show the tiles of a scan."""
        self._tiles = [tile for tile in tiles if not tile.problem]
        self._held_back = frozenset()
        self._sampled = None
        with QSignalBlocker(self.classes):
            before = self.classes.currentText()
            self.classes.clear()
            self.classes.addItems(class_names(self._tiles))
            self.classes.setCurrentIndex(max(self.classes.findText(before), 0))
        self._show_class()

    def show_plan(self, values: Mapping[str, Any], tiles: Sequence[Tile]) -> None:
        """Show the class share that the sampler makes of the tiles, without those that judge."""
        self._sampled = values.get("share_sampled")
        held_back = frozenset(tile.image for tile in tiles if tile.part == "validation")
        if held_back != self._held_back:
            self._held_back = held_back
            self._show_class()
        self._show_sides()

    def set_data(self, values: Mapping[str, Any]) -> None:
        """Remember which folders the tiles come from, to write the selected ones."""
        self._data = dict(values)

    def close_down(self) -> None:
        """Stop what runs in the background."""
        self._copy.cancel()

    def _training_tiles(self) -> list[Tile]:
        return [tile for tile in self._tiles if tile.image not in self._held_back]

    @property
    def _is_of_task(self) -> bool:
        """Whether the class that is shown is the task's, which comes first."""
        return self.classes.currentIndex() <= 0

    def _copy_box(self) -> QWidget:
        box = QgsCollapsibleGroupBox(tr("Write the selected tiles as a folder of their own"))
        box.setCollapsed(True)
        self.copy_folder = folder_field("copy_folder", tr("a new folder"))
        self.copy_format = choice(
            "copy_format",
            [
                ("jpg", tr("JPEG images (smallest)")),
                ("tif", tr("GeoTIFF, compressed without loss")),
                ("png", "PNG"),
            ],
        )
        self.copy_button = QPushButton(tr("Write Selected Tiles"))
        self.copy_button.setObjectName("copy")
        self.copy_status = Note(tr("Images and masks together, small enough to travel to another machine."))
        grid = QGridLayout(box)
        grid.addWidget(self.copy_folder, 0, 0)
        grid.addWidget(self.copy_format, 0, 1)
        grid.addWidget(self.copy_button, 0, 2)
        grid.addWidget(self.copy_status, 1, 0, 1, 3)
        grid.setColumnStretch(0, 1)
        return box

    def _connect(self) -> None:
        self.classes.currentTextChanged.connect(lambda _: self._show_class())
        self.histogram.min_share_moved.connect(self.min_share.setValue)
        self.min_share.valueChanged.connect(self._follow_min_share)
        self.preset.clicked.connect(lambda: self.min_share.setValue(PRESET_SHARE))
        self.keep_all.clicked.connect(lambda: self.min_share.setValue(0.0))
        self.sampler.currentIndexChanged.connect(lambda _: self._forget_plan())
        self.copy_button.clicked.connect(self._write_or_cancel)
        self._copy.progressed.connect(lambda _, text: self.copy_status.setText(text))
        self._copy.succeeded.connect(self._say_copied)
        self._copy.failed.connect(self.objected)
        self._copy.ended.connect(lambda: self.copy_button.setText(tr("Write Selected Tiles")))

    def _show_class(self) -> None:
        name = self.classes.currentText()
        self.histogram.show_shares([tile.shares.get(name, 0.0) for tile in self._training_tiles()])
        self.histogram.allow_moving(self._is_of_task)
        self._show_sides()

    def _follow_min_share(self, share: float) -> None:
        self.histogram.set_min_share(share)
        self._forget_plan()

    def _forget_plan(self) -> None:
        self._sampled = None
        self._show_sides()
        self.changed.emit()

    def _show_sides(self) -> None:
        name = self.classes.currentText()
        tiles = self._training_tiles()
        below, above = split_at(tiles, self.classes.itemText(0), self.min_share.value(), name)
        total = split_at(tiles, name, 0.0)[1]
        sampled = ""
        if self._is_of_task:
            sampled = percent(self._sampled) if self._sampled is not None else "…"
        rows = [
            ("", tr("left out"), tr("kept"), tr("all training tiles"), tr("as sampled in an epoch")),
            (tr("Tiles"), below.tiles, f"<b>{above.tiles}</b>", total.tiles, ""),
            (
                tr("Share of the class"),
                percent(below.share),
                f"<b>{percent(above.share)}</b>",
                percent(total.share),
                f"<b>{sampled}</b>",
            ),
        ]
        cells = "".join(
            "<tr>" + "".join(f"<td style='padding-right:28px'>{cell}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        held_back = tr("{} more tiles are held back for validation.").format(len(self._held_back))
        self.sides.setText(f"<table>{cells}</table>{held_back}" if self._tiles else "")

    def _write_or_cancel(self) -> None:
        if self._copy.is_running:
            self._copy.cancel()
            return
        folder = self.copy_folder.filePath().strip()
        if not folder or not self._data.get("folders"):
            self.objected.emit(tr("Name a new folder for the selected tiles first."))
            return
        job = CopyTiles(
            folders=self._data["folders"],
            folder=folder,
            task=self._data["task"],
            mask_value=self._data.get("mask_value", ""),
            min_share=self.min_share.value(),
            image_format=self.copy_format.currentData(),
            cache=Settings.load().cache,
        )
        self.copy_button.setText(tr("Cancel"))
        self._copy.start(job)

    def _say_copied(self, result: Result) -> None:
        values = result.values
        text = tr("{} tiles written: {:.1f} MB before, {:.1f} MB now.")
        self.copy_status.setText(
            text.format(values["tiles"], values["bytes_before"] / 1e6, values["bytes_after"] / 1e6)
        )
