"""What all algorithms share: check once, run the job in a worker, say what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
)

from ...core.errors import AftermapError, WorkerError
from ...core.jobs import Event, Failure, Figure, Job, Metric, Progress, Result, Warning
from ..layers import LayerStyles
from ..run_feedback import RunFeedback
from ..worker_client import CANCELLED, WorkerPool


class JobAlgorithm(QgsProcessingAlgorithm):
    """An algorithm whose work is one job of the worker.

    A subclass takes what it needs from layers in `prepareAlgorithm`, and implements `execute`, which may
    raise any `AftermapError`.
    """

    def __init__(self, workers: WorkerPool, styles: LayerStyles) -> None:
        """Make the algorithm; its job runs in `workers`, its layers are styled by `styles`."""
        super().__init__()
        self._workers = workers
        self._styles = styles

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Do the work, in whatever thread; an empty answer means that it was cancelled."""
        raise NotImplementedError

    def createInstance(self) -> JobAlgorithm:  # noqa: D102, N802
        return type(self)(self._workers, self._styles)

    def canExecute(self) -> tuple[bool, str]:  # noqa: D102, N802
        try:
            self._workers.find_python()
        except WorkerError as error:
            return False, str(error)
        return True, ""

    def checkParameterValues(  # noqa: D102, N802
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str]:
        able, why_not = self.canExecute()
        return super().checkParameterValues(parameters, context) if able else (False, why_not)

    def processAlgorithm(  # noqa: D102, N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        try:
            return self.execute(parameters, context, feedback)
        except AftermapError as error:
            raise QgsProcessingException(str(error)) from error

    def run_job(self, job: Job, feedback: QgsProcessingFeedback) -> Result | None:
        """Run a job and pass on what it says.

        Returns:
            The result; none if the run was cancelled.

        Raises:
            QgsProcessingException: The job failed, or the worker did.
        """
        for event in self.events_of(job, feedback):
            if isinstance(event, Progress):
                feedback.setProgress(100 * event.fraction)
                if event.message:
                    feedback.setProgressText(event.message)
            elif isinstance(event, Warning):
                feedback.pushWarning(event.message)
            elif isinstance(event, Metric) and isinstance(feedback, RunFeedback):
                feedback.metric.emit(event)
            elif isinstance(event, Figure) and isinstance(feedback, RunFeedback):
                feedback.figure.emit(event)
            elif isinstance(event, Result):
                return event
            elif isinstance(event, Failure):
                if event.kind == CANCELLED or feedback.isCanceled():
                    return None
                if event.traceback:
                    feedback.pushDebugInfo(event.traceback)
                raise QgsProcessingException(event.message)
        return None

    def events_of(self, job: Job, feedback: QgsProcessingFeedback) -> Iterator[Event]:
        """The events of a job that is cancelled with `feedback`."""
        return self._workers.run(job, feedback.isCanceled)


def is_in_model(context: QgsProcessingContext) -> bool:
    """Whether a model runs the algorithm: QGIS gives what runs in one this variable."""
    return context.expressionContext().hasVariable("model_name")


def advanced(parameter: QgsProcessingParameterDefinition) -> QgsProcessingParameterDefinition:
    """The parameter, shown under *Advanced parameters*."""
    parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
    return parameter
