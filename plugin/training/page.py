"""What the pages of the dialog share."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QFrame, QScrollArea, QWidget

from ...core.jobs import TrainModel
from .tasks import Task


class Page(QWidget):
    """A page that holds some of the fields of the training that is set up."""

    changed = pyqtSignal()
    objected = pyqtSignal(str)

    def values(self) -> dict[str, Any]:
        """Fields of `TrainModel` that this page holds, as they stand."""
        return {}

    def show_task(self, task: Task) -> None:
        """Show what a training for this task needs, and hide the rest."""

    def show_job(self, job: TrainModel) -> None:
        """Fill the page's fields in from a job."""


def scrolled(content: QWidget) -> QScrollArea:
    """The widget, which scrolls where the window is too small for it."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setWidget(content)
    return area
