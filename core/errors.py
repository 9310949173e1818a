"""The errors that a user can meet; each message says what, which file, and what to do next.

Standard library only, Python 3.9: the plugin (inside QGIS) and the worker both import it.
"""

from __future__ import annotations


class AftermapError(Exception):
    """Base of every error whose message is meant for the user, as one sentence."""


class RasterError(AftermapError, OSError):
    """A raster cannot be opened, read or understood."""


class GroundResolutionError(RasterError, ValueError):
    """The size of a pixel on the ground is not known, or lies outside what the model accepts."""


class VectorError(AftermapError, OSError):
    """A vector layer (area of interest, footprints) cannot be read or used."""


class ModelError(AftermapError, ValueError):
    """A model package is missing, damaged, or does not fit the raster."""


class DatasetError(AftermapError, ValueError):
    """A folder of labelled tiles is missing, empty, or inconsistent."""


class JobError(AftermapError, ValueError):
    """A job has a parameter that makes no sense, or a line that is not a job."""


class OutputError(AftermapError, OSError):
    """An output cannot be written: folder missing or read-only, disk full, file open elsewhere."""


class DeviceError(AftermapError, RuntimeError):
    """The device that was asked for is not there, or ran out of memory."""


class WorkerError(AftermapError, RuntimeError):
    """The worker process cannot be started, or it ended before its job did."""


def error_named(kind: str, message: str) -> AftermapError:
    """Rebuild the error that crossed the process line as (kind, message).

    Args:
        kind: Name of a class of this module; an unknown one gives a plain `AftermapError`.
        message: The sentence for the user.
    """
    found = globals().get(kind)
    if isinstance(found, type) and issubclass(found, AftermapError):
        return found(message)
    return AftermapError(message)
