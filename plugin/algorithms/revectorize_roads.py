"""Vectorize Road Probabilities: polygons and centrelines at a new threshold, without the network."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterRasterLayer,
)
from qgis.PyQt.QtGui import QIcon

from ...core.errors import RasterError
from ...core.jobs import VectorizeProbabilities
from ..icons import REVECTORIZE_ROADS_ICON
from ..layers import RoadLayer
from ..raster_input import RasterInput
from ..settings import Settings
from ..translation import tr
from .road_vectors import RoadVectorAlgorithm, scratch_folder


class RevectorizeRoads(RoadVectorAlgorithm):
    """The algorithm ``aftermap:vectorizeprobabilities``."""

    INPUT = "INPUT"

    def name(self) -> str:  # noqa: D102
        return "vectorizeprobabilities"

    def displayName(self) -> str:  # noqa: D102, N802
        return tr("Vectorize Road Probabilities")

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(REVECTORIZE_ROADS_ICON))

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Makes road polygons and centrelines anew, at another threshold.")

    def shortHelpString(self) -> str:  # noqa: D102, N802
        return tr(HELP).replace("\n", " ")

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: D102, N802
        self.addParameter(QgsProcessingParameterRasterLayer(self.INPUT, tr("Road probability")))
        self.add_vector_parameters()
        self.add_vector_destinations()

    def prepareAlgorithm(  # noqa: D102, N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        layer = self.parameterAsRasterLayer(parameters, self.INPUT, context)
        if layer is None or not layer.isValid():
            raise QgsProcessingException(self.invalidRasterError(parameters, self.INPUT))
        self._raster = RasterInput.of_layer(layer)
        return True

    def execute(  # noqa: D102
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        if not self._raster.is_plain:
            raise RasterError(
                tr("“{}” is not a probability raster of Segment Roads: choose its .tif file.").format(
                    self._raster.name
                )
            )
        with scratch_folder() as scratch:
            polygons, centrelines = self.vector_outputs(parameters, context, scratch)
            job = VectorizeProbabilities(
                probability=self._raster.path,
                **self.vector_values(parameters, context),
                output_polygons=polygons.geopackage,
                output_centrelines=centrelines.geopackage,
                cache=Settings.load().cache,
            )
            result = self.run_job(job, feedback)
            if result is None:
                return {}
            manifest = self.finish(result, (polygons, centrelines), context, feedback)
        layers = {
            self.OUTPUT_POLYGONS: (RoadLayer.POLYGONS, polygons.destination),
            self.OUTPUT_CENTRELINES: (RoadLayer.CENTRELINES, centrelines.destination),
        }
        return self.results(result, manifest, layers, self._raster, context)


HELP = """
<p>Makes road polygons and centrelines from a probability raster that <i>Segment Roads</i> wrote, at another
threshold, smallest area or simplification. The network does not run again, so this takes seconds.</p>
<p><b>Threshold</b>: lower finds more roads and more that are none. Empty: the one of the run.</p>
"""
