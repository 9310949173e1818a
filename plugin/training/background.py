"""Work in the background of a dialog: a job of the worker, or a Processing algorithm."""

from __future__ import annotations

import time
import traceback
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProject,
    QgsTask,
)
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.errors import AftermapError
from ...core.jobs import Failure, Job, Metric, Progress, Result
from ..idle_thread import idle_thread
from ..run_feedback import RunFeedback
from ..translation import tr
from ..worker_client import CANCELLED, POLL_S, WorkerPool

CLOSE_TIMEOUT_S = 5.0


class WorkerJob(QObject):
    """Runs jobs that no algorithm stands for, one at a time: questions that a dialog asks.

    Signals come in the dialog's thread; after `succeeded` or `failed`, or neither if it was cancelled,
    comes `ended`.
    """

    progressed = pyqtSignal(float, str)
    metric = pyqtSignal(object)
    succeeded = pyqtSignal(object)
    failed = pyqtSignal(str)
    ended = pyqtSignal()

    def __init__(self, workers: WorkerPool, title: str, parent: QObject | None = None) -> None:
        """Nothing runs yet; `title` is what QGIS's task list says."""
        super().__init__(parent)
        self._workers = workers
        self._title = title
        self._task: _JobTask | None = None

    @property
    def is_running(self) -> bool:
        """Whether a job runs."""
        return self._task is not None

    def start(self, job: Job) -> None:
        """Run a job; the one before must have ended."""
        self._task = _JobTask(self._title, self._workers, job)
        self._task.happened.connect(self._take)
        self._task.taskTerminated.connect(self._end)
        QgsApplication.taskManager().addTask(self._task)

    def cancel(self) -> None:
        """Stop the job, if one runs."""
        if self._task is not None:
            self._task.cancel()

    def _take(self, event: Any) -> None:
        if isinstance(event, Progress):
            self.progressed.emit(event.fraction, event.message)
        elif isinstance(event, Metric):
            self.metric.emit(event)
        elif isinstance(event, Result):
            self._task = None
            self.succeeded.emit(event)
            self.ended.emit()
        elif isinstance(event, Failure):
            self._task = None
            if event.kind != CANCELLED:
                self.failed.emit(event.message)
            self.ended.emit()

    def _end(self) -> None:
        # A task that was cancelled before its turn came says nothing.
        if self._task is not None:
            self._task = None
            self.ended.emit()


class _JobTask(QgsTask):
    """The place of a job in QGIS's list of tasks."""

    happened = pyqtSignal(object)

    def __init__(self, title: str, workers: WorkerPool, job: Job) -> None:
        super().__init__(title, QgsTask.Flag.CanCancel)
        self._workers = workers
        self._job = job

    def run(self) -> bool:
        try:
            with idle_thread():
                for event in self._workers.run(self._job, self.isCanceled):
                    self.happened.emit(event)
        except AftermapError as error:
            self.happened.emit(Failure(type(error).__name__, str(error)))
        except Exception as error:  # the thread's boundary: what leaves it would end QGIS
            self.happened.emit(Failure(type(error).__name__, str(error), traceback.format_exc()))
        return True


class AlgorithmRun(QObject):
    """Runs a Processing algorithm, and passes on what it says; it may be told to pause, resume and finish.

    Signals come in the dialog's thread; after `succeeded` or `failed`, or neither if it was cancelled,
    comes `ended`.
    """

    progressed = pyqtSignal(float)
    said = pyqtSignal(str)
    warned = pyqtSignal(str)
    metric = pyqtSignal(object)
    figure = pyqtSignal(object)
    succeeded = pyqtSignal(object)
    failed = pyqtSignal(str)
    ended = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        """Nothing runs yet."""
        super().__init__(parent)
        self._task: QgsProcessingAlgRunnerTask | None = None
        self._kept: tuple[Any, ...] = ()  # QGIS's task keeps only pointers to these
        self._feedback = RunFeedback()
        self._result = Result()
        self._error = ""

    @property
    def is_running(self) -> bool:
        """Whether an algorithm runs."""
        return self._task is not None

    def start(self, algorithm_id: str, parameters: dict[str, Any]) -> None:
        """Run an algorithm; the one before must have ended."""
        algorithm = QgsApplication.processingRegistry().createAlgorithmById(algorithm_id)
        context = QgsProcessingContext()
        context.setProject(QgsProject.instance())
        feedback = RunFeedback()
        self._feedback, self._result, self._error = feedback, Result(), ""
        is_fine, objection = algorithm.checkParameterValues(parameters, context)
        if not is_fine:
            self.failed.emit(objection)
            self.ended.emit()
            return
        feedback.progressChanged.connect(self.progressed)
        feedback.said.connect(self.said)
        feedback.warned.connect(self.warned)
        feedback.metric.connect(self.metric)
        feedback.figure.connect(self.figure)
        feedback.result.connect(self._keep_result)
        feedback.failed.connect(self._keep_error)
        self._task = QgsProcessingAlgRunnerTask(algorithm, parameters, context, feedback)
        self._kept = (algorithm, context, feedback)
        if self._task.isCanceled():  # its preparation failed
            self._end(False, {})
            return
        self._task.executed.connect(self._end)
        QgsApplication.taskManager().addTask(self._task)

    def tell(self, control: str) -> None:
        """Tell the run ``Pause``, ``Resume`` or ``Finish``."""
        self._feedback.tell(control)

    def cancel(self) -> None:
        """Stop the run, if there is one."""
        if self._task is not None:
            self._feedback.cancel()

    def close(self) -> None:
        """Stop the run, and wait until it has let go of what is kept for it here."""
        self.cancel()
        give_up_at = time.monotonic() + CLOSE_TIMEOUT_S
        # Not QgsTask.waitForFinished: it would hold Python's lock, which the run needs in order to end.
        while self._task is not None and self._task.isActive() and time.monotonic() < give_up_at:
            time.sleep(POLL_S)
        self._task = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the run, or the last one, was cancelled."""
        return self._feedback.isCanceled()

    def _keep_result(self, result: Result) -> None:
        self._result = result

    def _keep_error(self, error: str) -> None:
        self._error = error

    def _end(self, is_done: bool, outputs: dict[str, Any]) -> None:
        self._task = None
        if is_done and not self.is_cancelled:
            self.succeeded.emit(self._result)
        elif not self.is_cancelled:
            self.failed.emit(self._error or tr("The run failed; the log panel says more."))
        self.ended.emit()
