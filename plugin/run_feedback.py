"""Feedback that carries a run's events to a dialog, which plain feedback has no place for."""

from __future__ import annotations

from collections import deque

from qgis.core import QgsProcessingFeedback
from qgis.PyQt.QtCore import pyqtSignal


class RunFeedback(QgsProcessingFeedback):
    """Emits the events of `jobs` and what is said as signals, and takes what the user tells the run.

    Algorithms work as well with the plain feedback that they get in a model.
    """

    metric = pyqtSignal(object)
    figure = pyqtSignal(object)
    result = pyqtSignal(object)
    said = pyqtSignal(str)
    warned = pyqtSignal(str)
    failed = pyqtSignal(str)

    def __init__(self) -> None:
        """Feedback of one run, which nothing was told yet."""
        super().__init__()
        self._controls: deque[str] = deque()

    def tell(self, control: str) -> None:
        """Tell the run ``Pause``, ``Resume`` or ``Finish``; `cancel` is the feedback's own."""
        self._controls.append(control)

    def take_controls(self) -> list[str]:
        """What the run was told since this was asked; any thread may ask."""
        return [self._controls.popleft() for _ in range(len(self._controls))]

    def setProgressText(self, text: str) -> None:  # noqa: D102, N802  QGIS's name
        self.said.emit(text)

    def pushWarning(self, warning: str) -> None:  # noqa: D102, N802  QGIS's name
        self.warned.emit(warning)

    def reportError(self, error: str, fatalError: bool = False) -> None:  # noqa: D102, N802, N803
        self.failed.emit(error)
