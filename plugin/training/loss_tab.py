"""The tab *Loss*: by what the network is corrected, and how much the class weighs in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qgis.PyQt.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from ...core.jobs import TrainModel
from ..translation import tr
from .fields import Note, choice, choose, number
from .page import Page
from .tasks import Task

WEIGHTED = "weighted_bce"


class LossTab(Page):
    """The loss, what it does, and its weights with the formula that suggests them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """The defaults of the job."""
        super().__init__(parent)
        self._plan: Mapping[str, Any] = {}
        self._is_linear = True
        self.loss = choice(
            "loss",
            [
                ("bce_dice", tr("BCE + Dice (recommended)")),
                ("bce", tr("BCE, unweighted")),
                ("weighted_bce", tr("BCE, weighted")),
                ("focal", tr("Focal")),
                ("dice", tr("Dice")),
                ("tversky", tr("Tversky")),
                ("focal_dice", tr("Focal + Dice")),
            ],
        )
        self.positive_weight = number("positive_weight", 100, 0, 2, 0.5, "", tr("suggested"))
        self.skeleton_weight = number("skeleton_weight", 5, 0, 2, 0.1, "", tr("none"))
        self.what = Note()
        self.weight_note = Note()
        self.weight_note.setObjectName("weight_note")
        self.constant_note = Note()
        self.constant_note.setObjectName("constant_note")
        self._form = form = QFormLayout()
        form.addRow(tr("Loss"), self.loss)
        form.addRow("", self.what)
        form.addRow(tr("Weight of the class"), self.positive_weight)
        form.addRow("", self.weight_note)
        form.addRow(tr("Skeleton recall, added"), self.skeleton_weight)
        self.skeleton_note = Note(
            tr("Counts cuts in the centrelines: for what is thin and must stay connected.")
        )
        form.addRow("", self.skeleton_note)
        form.addRow(tr("A constant guess"), self.constant_note)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addStretch(1)
        self.loss.currentIndexChanged.connect(lambda _: self._follow())
        self.positive_weight.valueChanged.connect(lambda _: self.changed.emit())
        self.skeleton_weight.valueChanged.connect(lambda _: self.changed.emit())
        self._show()

    def values(self) -> dict[str, Any]:  # noqa: D102
        return {
            "loss": self.loss.currentData(),
            "positive_weight": self.positive_weight.value(),
            # A roof's skeleton says nothing.
            "skeleton_weight": self.skeleton_weight.value() if self._is_linear else 0.0,
        }

    def show_task(self, task: Task) -> None:  # noqa: D102
        self._is_linear, self._plan = task.is_linear, {}
        for widget in (
            self.skeleton_weight,
            self.skeleton_note,
            self._form.labelForField(self.skeleton_weight),
        ):
            widget.setVisible(task.is_linear)
        self._show()

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        choose(self.loss, job.loss)
        self.positive_weight.setValue(job.positive_weight)
        self.skeleton_weight.setValue(job.skeleton_weight)

    def show_plan(self, values: Mapping[str, Any]) -> None:
        """Show the suggested weight, and what a constant guess costs."""
        self._plan = values
        self._show()

    def _follow(self) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        loss = self.loss.currentData()
        self.what.setText(_descriptions()[loss])
        is_weighted = loss == WEIGHTED
        self.positive_weight.setEnabled(is_weighted)
        plan = self._plan
        if not plan:
            self.weight_note.setText("")
            self.constant_note.setText("")
            return
        text = tr("Suggested for these tiles: {:.2f} = {}").format(
            plan["positive_weight"], plan["positive_weight_formula"]
        )
        self.weight_note.setText(
            text if is_weighted else tr("{}; used by “BCE, weighted” only.").format(text)
        )
        self.constant_note.setText(
            tr(
                "The class is {:.1f} % of what the network sees. A network that says so everywhere, and sees "
                "nothing, has a BCE of <b>{:.3f}</b>; one that says 0.5 everywhere has 0.693. A loss above "
                "these has learned less than nothing."
            ).format(100 * plan["share_sampled"], plan["constant_loss"])
        )


def _descriptions() -> dict[str, str]:
    return {
        "bce_dice": tr(
            "Binary cross-entropy for each pixel, and Dice for the area as a whole: the class counts alike, "
            "however rare it is."
        ),
        "bce": tr(
            "Every pixel counts alike: where the class is rare, the network gains most by never saying it."
        ),
        "weighted_bce": tr(
            "Pixels of the class count more. Probabilities come out too high, and the threshold with them."
        ),
        "focal": tr("Easy pixels count little, so that the hard ones are learned."),
        "dice": tr("The overlap of area alone: independent of how rare the class is, but restless."),
        "tversky": tr("Like Dice, but what is missed costs more than what is too much."),
        "focal_dice": tr("Focal and Dice together: for thin and rare classes."),
    }
