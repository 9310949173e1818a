"""Long work of the interface's own thread, in slices between which the interface stays alive.

For what reads layers with Python: in another thread, Python's collector would sooner or later destroy there
what Qt allows to be destroyed in the interface's thread alone, and QGIS would crash.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Callable

from qgis.PyQt.QtCore import QObject, QTimer

SLICE_S = 0.02


class IdleWork(QObject):
    """Runs one piece of work at a time."""

    def __init__(self, parent: QObject | None = None) -> None:
        """Nothing to do yet."""
        super().__init__(parent)
        self._steps: Generator[None, None, Any] | None = None
        self._done: Callable[[Any], None] = lambda answer: None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._work)

    @property
    def is_running(self) -> bool:
        """Whether something is being worked on."""
        return self._steps is not None

    def start(self, steps: Generator[None, None, Any], done: Callable[[Any], None]) -> None:
        """Take `steps` one after the other, in place of what runs; `done` gets what they return."""
        self.cancel()
        self._steps, self._done = steps, done
        self._timer.start(0)

    def cancel(self) -> None:
        """Stop, and forget it."""
        self._timer.stop()
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()  # now, and not whenever the collector comes: it may hold what QGIS owns

    def _work(self) -> None:
        until = time.perf_counter() + SLICE_S
        while self._steps is not None and time.perf_counter() < until:
            try:
                next(self._steps)
            except StopIteration as end:
                self.cancel()
                self._done(end.value)
