"""Which flow answers which job, and the boundary at which its errors become a `Failure`.

The flows are imported when they are asked for: what they need (torch, rasterio) takes seconds to load.
"""

from __future__ import annotations

import errno
import importlib
import traceback
from collections.abc import Generator
from typing import Protocol

from .errors import AftermapError
from .jobs import Event, Failure, FinishEarly, Job

CANCELLED = Failure(
    "Cancelled", "Cancelled; what was done so far is kept, and the same run continues from there."
)
UNEXPECTED = "UnexpectedError"

FLOWS = {
    "SegmentRoads": "segment_roads",
    "VectorizeProbabilities": "vectorize_probabilities",
    "DetectBuildings": "detect_buildings",
    "AssessDamage": "assess_damage",
    "DescribeRaster": "describe_raster",
    "ScanTiles": "scan_tiles",
    "ExportTrainingTiles": "export_training_tiles",
    "CopyTiles": "copy_tiles",
    "TrainModel": "train_model",
    "PlanTraining": "plan_training",
    "FindLearningRate": "find_learning_rate",
    "EvaluateModel": "evaluate_model",
    "CompareRuns": "compare_runs",
    "GenerateScenes": "generate_scenes",
}
"""Type of a job to the name of the module, and of the function in it, that runs it."""

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _Flow(Protocol):
    def __call__(self, job: Job) -> Generator[Event, None, None]: ...


def run_flow(job: Job) -> Generator[Event, None, None]:
    """Run a job, whatever happens: the last event is a `Result` or a `Failure`.

    Closing the generator cancels the run; what then fails in the flow's cleaning up is raised. Throwing
    `FinishEarly` into it asks the flow to end now with what it has; one that knows no such end is cancelled.
    """
    try:
        events = _flow_for(job)(job)
        asked: FinishEarly | None = None
        while True:
            event = next(events) if asked is None else events.throw(asked)
            asked = None
            try:
                yield event
            except FinishEarly as request:
                asked = request
            if event.is_last:
                return
    except GeneratorExit:
        events.close()
        raise
    except FinishEarly:
        yield CANCELLED
    except StopIteration:
        yield failure_of(RuntimeError(f"{FLOWS[type(job).__name__]} ended without a result"))
    except Exception as error:  # the process boundary: whatever it is becomes one sentence
        yield failure_of(error)


def failure_of(error: Exception) -> Failure:
    """The sentence for an error: its own if it was meant for the user, else what can be said of its kind."""
    if isinstance(error, AftermapError):
        return Failure(type(error).__name__, str(error))
    log = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError):
        message = "There is not enough memory: close other programs, and run again."
        return Failure("AftermapError", message, log)
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        where = f" while writing {error.filename}" if error.filename else ""
        return Failure("OutputError", f"The disk is full{where}: free some space, and run again.", log)
    summary = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    summary = " ".join(summary.split())
    message = f"Something went wrong that Aftermap did not expect ({summary}); the log says where."
    return Failure(UNEXPECTED, message, log)


def _flow_for(job: Job) -> _Flow:
    name = FLOWS[type(job).__name__]
    flow: _Flow = getattr(importlib.import_module(f".{name}", __package__), name)
    return flow
