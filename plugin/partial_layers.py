"""What a run has finished so far, as a layer that goes when the run ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFields,
    QgsMemoryProviderUtils,
    QgsProject,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..core.jobs import Partial
from .layers import Look

TakePartial = Callable[[Partial], None]
LookOf = Callable[[Mapping[str, Any]], Look]


class _Run:
    """One run; only the main thread knows its layer.

    Args:
        name: Of its layer.
        look_of: From `Partial.values` to how the layer looks.
    """

    def __init__(self, name: str, look_of: LookOf) -> None:
        self.name = name
        self.look_of = look_of
        self.layer_id = ""


@dataclass(frozen=True)
class _Part:
    """Features as they were read; plain values, which belong to no thread."""

    features: list[QgsFeature]
    fields: QgsFields
    geometry_type: QgsWkbTypes.Type
    crs: QgsCoordinateReferenceSystem
    values: Mapping[str, Any]


class PartialLayers(QObject):
    """Adds a layer to the project for each run that tells what it has finished, and removes it again.

    It lives in the main thread; runs use `of_run` in any.
    """

    _grown = pyqtSignal(object, object)
    _ended = pyqtSignal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        """Show nothing yet."""
        super().__init__(parent)
        self._runs: set[_Run] = set()
        self._is_closed = False
        # From another thread these come by the event loop, in their order.
        self._grown.connect(self._grow)
        self._ended.connect(self._end)

    @contextmanager
    def of_run(self, name: str, look_of: LookOf) -> Iterator[TakePartial]:
        """What takes the parts of one run; at the end of the context, however that comes, their layer goes.

        Args:
            name: Of the layer.
            look_of: From `Partial.values` to how the layer looks; called in the main thread.
        """
        run = _Run(name, look_of)
        try:
            yield partial(self._read, run)
        finally:
            self._ended.emit(run)

    def close(self) -> None:
        """Remove all layers, and show no more."""
        self._is_closed = True
        for run in tuple(self._runs):
            self._end(run)

    def _read(self, run: _Run, part: Partial) -> None:
        """Read a part at once, in the run's thread: its file goes with the run."""
        if not Path(part.path).is_file():
            return
        layer = QgsVectorLayer(part.path, run.name, "ogr")
        if not layer.isValid():
            return
        fields, features = layer.fields(), list(layer.getFeatures())
        for index in layer.primaryKeyAttributes():  # every part counts from 1
            fields.remove(index)
            for feature in features:
                feature.deleteAttribute(index)
        self._grown.emit(run, _Part(features, fields, layer.wkbType(), layer.crs(), part.values))

    def _grow(self, run: _Run, part: _Part) -> None:
        if self._is_closed:
            return
        if run not in self._runs:
            self._runs.add(run)
            self._add_layer(run, part)
        layer = QgsProject.instance().mapLayer(run.layer_id)
        if layer is None:
            return  # the user has removed it, or opened another project
        layer.dataProvider().addFeatures(part.features)
        layer.updateExtents()
        layer.reload()  # tells whoever counts or lists its features
        layer.triggerRepaint()

    def _add_layer(self, run: _Run, part: _Part) -> None:
        kind = QgsWkbTypes.multiType(part.geometry_type)  # a later part may have some
        layer = QgsMemoryProviderUtils.createMemoryLayer(run.name, part.fields, kind, part.crs)
        layer.setCustomProperty("skipMemoryLayersCheck", 1)  # QGIS's own: no question about it at closing
        run.look_of(part.values).apply(layer)
        run.layer_id = layer.id()
        project = QgsProject.instance()
        project.addMapLayer(layer, False)
        project.layerTreeRoot().insertLayer(0, layer)

    def _end(self, run: _Run) -> None:
        if run not in self._runs:
            return
        self._runs.discard(run)
        project = QgsProject.instance()
        if project.mapLayer(run.layer_id) is not None:
            project.removeMapLayer(run.layer_id)
