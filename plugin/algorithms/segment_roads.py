"""Segment Roads: a raster layer becomes road probabilities, polygons and centrelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterRasterDestination,
)
from qgis.PyQt.QtGui import QIcon

from ...core import jobs
from ...core.cards import Package, find_package
from ..icons import SEGMENT_ROADS_ICON
from ..layers import RoadLayer
from ..translation import tr
from .raster_run import RasterRunAlgorithm
from .road_vectors import RoadVectorAlgorithm, scratch_folder

TASK = "roads"


class SegmentRoads(RasterRunAlgorithm, RoadVectorAlgorithm):
    """The algorithm ``aftermap:segmentroads``."""

    OUTPUT_PROBABILITY = "OUTPUT_PROBABILITY"
    LISTED_MODELS: ClassVar[dict[str, str]] = {"task": TASK}

    def name(self) -> str:  # noqa: D102
        return "segmentroads"

    def displayName(self) -> str:  # noqa: D102, N802
        return tr("Segment Roads")

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(SEGMENT_ROADS_ICON))

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Finds the roads of a satellite or aerial image with a neural network.")

    def shortHelpString(self) -> str:  # noqa: D102, N802
        return tr(HELP).replace("\n", " ")  # Processing would make a paragraph of each line

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: D102, N802
        self.add_raster_parameters()
        self.add_vector_parameters()
        self.add_run_parameters()
        self.addParameter(
            QgsProcessingParameterRasterDestination(
                self.OUTPUT_PROBABILITY, tr("Road probability"), optional=True, createByDefault=True
            )
        )
        self.add_vector_destinations()

    def find_model(self, job: jobs.SegmentRoads, bands: int) -> Package:  # noqa: D102
        return find_package(job.model, map(Path, job.model_folders), TASK, bands, job.gsd_m)

    def execute(  # noqa: D102
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        probability = self.parameterAsOutputLayer(parameters, self.OUTPUT_PROBABILITY, context)
        with scratch_folder() as scratch:
            polygons, centrelines = self.vector_outputs(parameters, context, scratch)
            job = jobs.SegmentRoads(
                **self.run_values(parameters, context),
                **self.vector_values(parameters, context),
                output_probability=probability,
                output_polygons=polygons.geopackage,
                output_centrelines=centrelines.geopackage,
            )
            job = self.with_readable_raster(job, scratch, feedback)
            result = None if feedback.isCanceled() else self.run_job(job, feedback)
            if result is None:
                return {}
            manifest = self.finish(result, (polygons, centrelines), context, feedback)
        layers = {
            self.OUTPUT_PROBABILITY: (RoadLayer.PROBABILITY, probability),
            self.OUTPUT_POLYGONS: (RoadLayer.POLYGONS, polygons.destination),
            self.OUTPUT_CENTRELINES: (RoadLayer.CENTRELINES, centrelines.destination),
        }
        return self.results(result, manifest, layers, self._raster, context)


HELP = """
<p>Finds the roads of a satellite or aerial image and writes them as a raster of probabilities, as
polygons and as centrelines. Everything runs on this computer, in a process of its own, on the GPU if
there is one.</p>
<p><b>Image</b>: any raster layer, in any CRS. Images of 0.3 to 1 m per pixel work best. Tile and map
services need an extent, and their terms of use must allow it.</p>
<p><b>Model</b>: a starter model, or a package of your own. Empty: the one that fits the image's bands and
ground resolution best.</p>
<p><b>Extent</b>, <b>Area of interest</b>: only what lies inside is computed; both may be in another CRS.
A selection or filter of the layer holds.</p>
<p><b>Threshold</b>: lower finds more roads and more that are none. Try another one afterwards with
<i>Vectorize Road Probabilities</i>, which takes seconds since the network does not run again.</p>
<p><b>Smallest road polygon</b>, <b>Simplification</b>: in metres on the ground, whatever the CRS.</p>
<p><b>Size of a pixel on the ground</b> (advanced): only for images without a CRS.</p>
<p>In the <b>road probability</b>, turquoise is uncertain and the strong colour is road; its values are
the probability × 254, and 255 is nodata. <b>Polygons</b> carry area and mean probability,
<b>centrelines</b> length, width and mean probability; both carry model, source and date. A manifest
beside them says how they were made.</p>
<p>A cancelled run leaves no files; started again with the same parameters, it continues where it
stopped.</p>
"""
