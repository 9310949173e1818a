"""Feedback that carries metrics and figures to a dialog, which plain feedback has no place for."""

from __future__ import annotations

from qgis.core import QgsProcessingFeedback
from qgis.PyQt.QtCore import pyqtSignal


class RunFeedback(QgsProcessingFeedback):
    """Emits the events `jobs.Metric` and `jobs.Figure` as signals.

    Algorithms work as well with the plain feedback that they get in a model.
    """

    metric = pyqtSignal(object)
    figure = pyqtSignal(object)
