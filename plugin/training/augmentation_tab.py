"""The tab *Augmentation*: how crops are changed before the network sees them, with a sheet of examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.PyQt.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from ...core.jobs import TrainModel
from ..translation import tr
from .fields import Note, choice, choose, number
from .page import Page
from .pictures import Picture, enlarge
from .tasks import Task, tasks


class AugmentationTab(Page):
    """The set of changes, and what comes of it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """The defaults of the job."""
        super().__init__(parent)
        self.augmentation = choice(
            "augmentation",
            [
                ("structure", tr("Structure over colour (recommended)")),
                ("mild", tr("Mild")),
                ("none", tr("None")),
            ],
        )
        self.scale_jitter = number("scale_jitter", 4, 1, 2, 0.25, "", tr("1: true size"))
        self.scale_jitter.setValue(TrainModel.scale_jitter)
        self.synthetic_share = number("synthetic_share", 1, 0, 2, 0.05, "", tr("none"))
        self.what = Note()
        self.sheet = Picture(tr("The sheet of crops comes with the plan"))
        self.sheet.setObjectName("sheet")
        self._path: Path | None = None
        self._task = tasks()[0]
        self._form = form = QFormLayout()
        form.addRow(tr("Changes"), self.augmentation)
        form.addRow("", self.what)
        form.addRow(tr("Largest change of size"), self.scale_jitter)
        form.addRow(tr("Share of generated crops"), self.synthetic_share)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(Note(tr("What the network will see, with the labels outlined (click to enlarge):")))
        layout.addWidget(self.sheet, 1)
        self.augmentation.currentIndexChanged.connect(lambda _: self._follow())
        self.scale_jitter.valueChanged.connect(lambda _: self.changed.emit())
        self.synthetic_share.valueChanged.connect(lambda _: self.changed.emit())
        self.sheet.clicked.connect(self._enlarge)
        self._describe()

    def values(self) -> dict[str, Any]:  # noqa: D102
        values = {"augmentation": self.augmentation.currentData()}
        if not self._task.is_damage:
            values["scale_jitter"] = self.scale_jitter.value()
            values["synthetic_share"] = self.synthetic_share.value()
        return values

    def show_task(self, task: Task) -> None:  # noqa: D102
        self._task = task
        for field in (self.scale_jitter, self.synthetic_share):
            field.setVisible(not task.is_damage)
            self._form.labelForField(field).setVisible(not task.is_damage)
        self.show_sheet(None)
        self._describe()

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        choose(self.augmentation, job.augmentation)
        self.scale_jitter.setValue(job.scale_jitter)
        self.synthetic_share.setValue(job.synthetic_share)

    def show_sheet(self, path: Path | None) -> None:
        """Show the sheet of crops, or none."""
        self._path = path
        self.sheet.show_file(path)

    def _follow(self) -> None:
        self._describe()
        self.changed.emit()

    def _describe(self) -> None:
        texts = {
            "structure": tr(
                "Turned and mirrored, enlarged and shrunk; {} to grey, other hues, swapped and lost bands, "
                "other gamma: colours mislead, so that shapes are learned, and other sensors and seasons "
                "work."
            ).format(tr("all crops") if self._task.is_damage else tr("every second crop")),
            "mild": tr("Turned and mirrored; brightness and contrast a little."),
            "none": tr("Crops as they are. The network learns these images by heart."),
        }
        text = texts[self.augmentation.currentData()]
        if self._task.is_damage:
            text += " " + tr(
                "Before and after are changed each by itself, and shifted against each other by up to 6 px; "
                "one crop in four has no image from before, so that the model can do without one."
            )
        self.what.setText(text)

    def _enlarge(self) -> None:
        if self._path is not None:
            enlarge(self, self._path, tr("Crops as the network sees them"))
