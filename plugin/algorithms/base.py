"""What all algorithms share: check once, run the job in a worker, say what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from qgis.core import (
    Qgis,
    QgsMessageLog,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
)

from ...core.errors import AftermapError, RasterError, WorkerError
from ...core.jobs import (
    DescribeRaster,
    Event,
    Failure,
    Figure,
    Job,
    Metric,
    Partial,
    Progress,
    Result,
    Warning,
)
from ..idle_thread import idle_thread
from ..layers import LayerStyles
from ..partial_layers import LookOf, PartialLayers, TakePartial
from ..raster_input import crs_text
from ..run_feedback import RunFeedback
from ..worker_client import CANCELLED, WorkerPool

DEVICES = ("auto", "cpu", "cuda", "mps")
# Formats of vector layers that both GDALs read; a layer of another one is exported by QGIS.
VECTOR_FORMATS = ("gpkg", "shp", "geojson", "fgb")
MODEL_WIDGET = f"{__package__.rpartition('.')[0]}.model_widget.ModelWidgetWrapper"
LOG_TAG = "Aftermap"  # names the tab of QGIS's log panel


def ignore(part: Partial) -> None:
    """Take a part, and do nothing with it."""


class JobAlgorithm(QgsProcessingAlgorithm):
    """An algorithm whose work is one job of the worker.

    A subclass takes what it needs from layers in `prepareAlgorithm`, and implements `execute`, which may
    raise any `AftermapError`.
    """

    def __init__(
        self, workers: WorkerPool, styles: LayerStyles, partials: PartialLayers | None = None
    ) -> None:
        """Make the algorithm.

        Args:
            workers: Where its job runs.
            styles: Styles its layers.
            partials: Shows what a run has finished so far; none where nobody would see it.
        """
        super().__init__()
        self._workers = workers
        self._styles = styles
        self._partials = partials

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Do the work, in whatever thread; an empty answer means that it was cancelled."""
        raise NotImplementedError

    def createInstance(self) -> JobAlgorithm:  # noqa: D102, N802
        return type(self)(self._workers, self._styles, self._partials)

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

    def run_job(
        self, job: Job, feedback: QgsProcessingFeedback, take_partial: TakePartial = ignore
    ) -> Result | None:
        """Run a job and pass on what it says; what is for developers goes to QGIS's log panel.

        Args:
            job: The job.
            feedback: Hears of it, and may cancel it.
            take_partial: Takes what is finished before the end; see `showing_partials`.

        Returns:
            The result; none if the run was cancelled.

        Raises:
            QgsProcessingException: The job failed, or the worker did.
        """
        said = ""
        for event in self.events_of(job, feedback):
            if isinstance(event, Progress):
                feedback.setProgress(100 * event.fraction)
                if event.message not in ("", said):  # each call adds a line to the log of the dialog
                    feedback.setProgressText(event.message)
                    said = event.message
            elif isinstance(event, Warning):
                feedback.pushWarning(event.message)
            elif isinstance(event, Metric) and isinstance(feedback, RunFeedback):
                feedback.metric.emit(event)
            elif isinstance(event, Figure) and isinstance(feedback, RunFeedback):
                feedback.figure.emit(event)
            elif isinstance(event, Partial):
                take_partial(event)
            elif isinstance(event, Result):
                if isinstance(feedback, RunFeedback):
                    feedback.result.emit(event)
                return event
            elif isinstance(event, Failure):
                if event.kind == CANCELLED or feedback.isCanceled():
                    feedback.pushInfo(event.message)
                    return None
                if event.traceback:
                    feedback.pushDebugInfo(event.traceback)  # all that qgis_process and models have
                    QgsMessageLog.logMessage(event.traceback, LOG_TAG, Qgis.MessageLevel.Critical)
                raise QgsProcessingException(event.message)
        return None

    def showing_partials(
        self, context: QgsProcessingContext, destination: str, name: str, look_of: LookOf
    ) -> AbstractContextManager[TakePartial]:
        """What takes the `Partial` events of a run; while the context lasts, their layer is in the project.

        Nothing is shown where QGIS will not load the output itself: in a model, a script, without interface.

        Args:
            context: Of the run.
            destination: The output that they are part of.
            name: Of the layer.
            look_of: From `Partial.values` to how it looks.
        """
        if (
            self._partials is None
            or is_in_model(context)
            or not context.willLoadLayerOnCompletion(destination)
        ):
            return nullcontext(ignore)
        return self._partials.of_run(name, look_of)

    def events_of(self, job: Job, feedback: QgsProcessingFeedback) -> Iterator[Event]:
        """The events of a job that is cancelled with `feedback`."""
        controls = feedback.take_controls if isinstance(feedback, RunFeedback) else tuple
        with idle_thread():
            yield from self._workers.run(job, feedback.isCanceled, controls)

    def layer_file(
        self,
        parameters: dict[str, Any],
        name: str,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> tuple[str, str]:
        """File and layer name of a vector parameter, with the layer's selection, filter and CRS applied.

        Both are empty where the parameter is; call this in `prepareAlgorithm`.

        Raises:
            QgsProcessingException: There is no such layer.
        """
        if parameters.get(name) in (None, ""):
            return "", ""
        if self.parameterAsSource(parameters, name, context) is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, name))
        formats = [] if self._has_crs_of_its_own(parameters, name, context) else list(VECTOR_FORMATS)
        path, layer_name = self.parameterAsCompatibleSourceLayerPathAndLayerName(
            parameters, name, context, formats, VECTOR_FORMATS[0], feedback
        )
        return str(Path(path).absolute()), layer_name

    def _has_crs_of_its_own(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> bool:
        """Whether the user has given a vector layer a CRS that its file does not state."""
        value = parameters[name]
        if isinstance(value, QgsProcessingFeatureSourceDefinition):
            value = value.source
        layer = self.parameterAsVectorLayer({name: value}, name, context)
        return layer is not None and layer.crs() != layer.dataProvider().crs()

    def worker_opens(self, question: DescribeRaster, feedback: QgsProcessingFeedback) -> bool:
        """Whether the worker's GDAL opens a raster."""
        if not question.raster:
            return False
        # A refusal of another kind (no ground resolution …) is for the run to explain.
        refusals = {event.kind for event in self.events_of(question, feedback) if isinstance(event, Failure)}
        return RasterError.__name__ not in refusals

    def extent_values(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> dict[str, Any]:
        """The fields of a job that an extent fills in; none where it is empty."""
        extent = self.parameterAsExtent(parameters, name, context)
        if extent.isNull():
            return {}
        return {
            "extent": (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()),
            "extent_crs": crs_text(self.parameterAsExtentCrs(parameters, name, context)),
        }

    def optional_number(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> float | None:
        """The value of a number that may be left empty."""
        if parameters.get(name) in (None, ""):
            return None
        return self.parameterAsDouble(parameters, name, context)


def is_in_model(context: QgsProcessingContext) -> bool:
    """Whether a model runs the algorithm: QGIS gives what runs in one this variable."""
    return context.expressionContext().hasVariable("model_name")


def advanced(parameter: QgsProcessingParameterDefinition) -> QgsProcessingParameterDefinition:
    """The parameter, shown under *Advanced parameters*."""
    parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
    return parameter
