"""Detect Buildings: a raster layer becomes building probabilities and one polygon a building."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterVectorDestination,
)
from qgis.PyQt.QtGui import QIcon

from ...core import jobs
from ...core.cards import Package, find_package
from ...core.jobs import Result
from ..building_style import BuildingLayer, BuildingLook
from ..icons import DETECT_BUILDINGS_ICON
from ..translation import tr
from ..vector_output import VectorOutput, finish_outputs
from .base import is_in_model
from .raster_run import RasterRunAlgorithm
from .road_vectors import scratch_folder

TASK = "buildings"
CLASS_NAME = "building"
Job = jobs.DetectBuildings


class DetectBuildings(RasterRunAlgorithm):
    """The algorithm ``aftermap:detectbuildings``."""

    THRESHOLD = "THRESHOLD"
    MIN_AREA = "MIN_AREA"
    REGULARIZE = "REGULARIZE"
    OUTPUT_BUILDINGS = "OUTPUT_BUILDINGS"
    OUTPUT_PROBABILITY = "OUTPUT_PROBABILITY"
    MANIFEST = "MANIFEST"
    USED_THRESHOLD = "USED_THRESHOLD"
    BUILDINGS = "BUILDINGS"
    LISTED_MODELS: ClassVar[dict[str, str]] = {"head": CLASS_NAME}

    def name(self) -> str:  # noqa: D102
        return "detectbuildings"

    def displayName(self) -> str:  # noqa: D102, N802
        return tr("Detect Buildings")

    def group(self) -> str:  # noqa: D102
        return tr("Buildings")

    def groupId(self) -> str:  # noqa: D102, N802
        return "buildings"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(DETECT_BUILDINGS_ICON))

    def tags(self) -> list[str]:  # noqa: D102
        return tr("building,footprint,house,roof,segmentation,deep learning,U-Net,satellite,aerial").split(
            ","
        )

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Finds the buildings of a satellite or aerial image: one polygon a building.")

    def shortHelpString(self) -> str:  # noqa: D102, N802
        return tr(HELP).replace("\n", " ")  # Processing would make a paragraph of each line

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: D102, N802
        number = QgsProcessingParameterNumber
        self.add_raster_parameters()
        for parameter in (
            number(
                self.THRESHOLD,
                tr("Threshold (0 to 1)"),
                number.Type.Double,
                optional=True,
                minValue=0,
                maxValue=1,
            ),
            number(
                self.MIN_AREA, tr("Smallest building (m²)"), number.Type.Double, Job.min_area_m2, minValue=0
            ),
            QgsProcessingParameterBoolean(self.REGULARIZE, tr("Straighten outlines"), Job.regularize),
        ):
            self.addParameter(parameter)
        self.add_run_parameters()
        polygon = QgsProcessing.SourceType.TypeVectorPolygon
        self.addParameter(
            QgsProcessingParameterVectorDestination(
                self.OUTPUT_BUILDINGS, tr("Buildings"), polygon, optional=True, createByDefault=True
            )
        )
        self.addParameter(
            QgsProcessingParameterRasterDestination(
                self.OUTPUT_PROBABILITY, tr("Building probability"), optional=True, createByDefault=True
            )
        )
        self.addOutput(QgsProcessingOutputFile(self.MANIFEST, tr("Manifest of the run")))
        self.addOutput(QgsProcessingOutputNumber(self.USED_THRESHOLD, tr("Threshold that was used")))
        self.addOutput(QgsProcessingOutputNumber(self.BUILDINGS, tr("Number of buildings")))

    def find_model(self, job: jobs.DetectBuildings, bands: int) -> Package:  # noqa: D102
        folders = [Path(folder) for folder in job.model_folders]
        return find_package(job.model, folders, bands=bands, gsd_m=job.gsd_m, head=CLASS_NAME, prefers=TASK)

    def execute(  # noqa: D102
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        probability = self.parameterAsOutputLayer(parameters, self.OUTPUT_PROBABILITY, context)
        destination = self.parameterAsOutputLayer(parameters, self.OUTPUT_BUILDINGS, context)
        with scratch_folder() as scratch:
            buildings = VectorOutput.at(destination, scratch, "buildings")
            job = Job(
                **self.run_values(parameters, context),
                threshold=self.optional_number(parameters, self.THRESHOLD, context),
                min_area_m2=self.parameterAsDouble(parameters, self.MIN_AREA, context),
                regularize=self.parameterAsBool(parameters, self.REGULARIZE, context),
                output_buildings=buildings.geopackage,
                output_probability=probability,
            )
            job = self.with_readable_raster(job, scratch, feedback)
            result = None if feedback.isCanceled() else self.run_job(job, feedback)
            if result is None:
                return {}
            manifest = finish_outputs(
                [buildings], Path(result.outputs["manifest"]), context.transformContext()
            )
        feedback.pushInfo(_summary(result))
        threshold, uncertain_from = result.values["threshold"], result.values["uncertain_from"]
        group = "" if is_in_model(context) else tr("Buildings – {}").format(self._raster.name)
        for kind, path in (
            (BuildingLayer.BUILDINGS, buildings.destination),
            (BuildingLayer.PROBABILITY, probability),
        ):
            look = BuildingLook(kind, threshold, uncertain_from, group, self._raster.has_crs)
            self._styles.attach(context, path, look)
        return {
            self.OUTPUT_BUILDINGS: buildings.destination,
            self.OUTPUT_PROBABILITY: probability,
            self.MANIFEST: str(manifest),
            self.USED_THRESHOLD: threshold,
            self.BUILDINGS: result.values.get("buildings"),
        }


def _summary(result: Result) -> str:
    """What was found, on which device and how fast, in a line."""
    values, parts = result.values, []
    if "buildings" in result.outputs:
        area_ha = values["area_m2"] / 1e4
        parts.append(tr("{} buildings of {:.1f} ha").format(values["buildings"], area_ha))
    parts.append(tr("computed on {}").format(values["device"]))
    return ", ".join((*parts, tr("in {:.0f} s").format(values["seconds"]))) + "."


HELP = """
<p>Finds the buildings of a satellite or aerial image and writes one polygon a building, and a raster of
probabilities. Everything runs on this computer, in a process of its own, on the GPU if there is one.</p>
<p><b>Image</b>: any raster layer, in any CRS. Images of 0.3 to 1 m per pixel work best. Tile and map
services need an extent, and their terms of use must allow it.</p>
<p><b>Model</b>: a starter model, or a package of your own. Empty: the one that fits the image's bands and
ground resolution best; models for buildings come first, then those for roads that see buildings too.</p>
<p><b>Extent</b>, <b>Area of interest</b>: only what lies inside is computed; both may be in another CRS.
A selection or filter of the layer holds.</p>
<p><b>Threshold</b>: lower finds more buildings and more that are none; neighbours run together sooner.</p>
<p><b>Straighten outlines</b>: right angles where a building has them, never at the price of more than a tenth
of the overlap with what the network saw. Off: the network's outline, smoothed by a pixel.</p>
<p>Buildings that touch are parted where the link between them is narrow or the network is unsure of it. A
terrace whose houses share whole walls may stay one polygon.</p>
<p><b>Buildings</b> carry area and mean probability, model, source and date. In the <b>building
probability</b>, turquoise is uncertain and the strong colour is building; its values are the probability
× 254, and 255 is nodata. A manifest beside them says how they were made.</p>
<p>A cancelled run leaves no files; started again with the same parameters, it continues where it
stopped.</p>
"""
