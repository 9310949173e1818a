"""Segment Roads: a raster layer becomes road probabilities, polygons and centrelines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterBand,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtGui import QIcon

from ...core import jobs
from ...core.cards import find_package
from ..icons import SEGMENT_ROADS_ICON
from ..layers import RoadLayer
from ..raster_input import RasterExport, RasterInput, crs_text
from ..settings import Settings
from ..translation import tr
from .base import DEVICES, MODEL_WIDGET, advanced
from .road_vectors import RoadVectorAlgorithm, scratch_folder

TASK = "roads"


class SegmentRoads(RoadVectorAlgorithm):
    """The algorithm ``aftermap:segmentroads``."""

    INPUT = "INPUT"
    MODEL = "MODEL"
    BANDS = "BANDS"
    GSD = "GSD"
    EXTENT = "EXTENT"
    AOI = "AOI"
    DEVICE = "DEVICE"
    OUTPUT_PROBABILITY = "OUTPUT_PROBABILITY"

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
        self.addParameter(QgsProcessingParameterRasterLayer(self.INPUT, tr("Image")))
        model = QgsProcessingParameterString(self.MODEL, tr("Model"), "", optional=True)
        model.setMetadata({"widget_wrapper": {"class": MODEL_WIDGET}})
        self.addParameter(model)
        self.addParameter(QgsProcessingParameterExtent(self.EXTENT, tr("Extent"), optional=True))
        self.addParameter(
            QgsProcessingParameterFeatureSource(
                self.AOI, tr("Area of interest"), [QgsProcessing.SourceType.TypeVectorPolygon], optional=True
            )
        )
        self.add_vector_parameters()
        self.addParameter(
            advanced(
                QgsProcessingParameterBand(
                    self.BANDS,
                    tr("Bands, in the model's order"),
                    parentLayerParameterName=self.INPUT,
                    optional=True,
                    allowMultiple=True,
                )
            )
        )
        number = QgsProcessingParameterNumber
        self.addParameter(
            advanced(
                number(
                    self.GSD,
                    tr("Size of a pixel on the ground (m; only without CRS)"),
                    number.Type.Double,
                    optional=True,
                    minValue=0.001,
                )
            )
        )
        self.addParameter(
            advanced(
                QgsProcessingParameterEnum(
                    self.DEVICE, tr("Device"), DEVICES, defaultValue=DEVICES[0], usesStaticStrings=True
                )
            )
        )
        self.addParameter(
            QgsProcessingParameterRasterDestination(
                self.OUTPUT_PROBABILITY, tr("Road probability"), optional=True, createByDefault=True
            )
        )
        self.add_vector_destinations()

    def prepareAlgorithm(  # noqa: D102, N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        layer = self.parameterAsRasterLayer(parameters, self.INPUT, context)
        if layer is None or not layer.isValid():
            raise QgsProcessingException(self.invalidRasterError(parameters, self.INPUT))
        self._aoi = self.layer_file(parameters, self.AOI, context, feedback)
        self._raster = RasterInput.of_layer(layer)
        self._export = None
        if not self._raster.is_plain:
            extent = self.parameterAsExtent(parameters, self.EXTENT, context, layer.crs())
            self._export = RasterExport.of_layer(layer, extent, context.transformContext())
        return True

    def execute(  # noqa: D102
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        probability = self.parameterAsOutputLayer(parameters, self.OUTPUT_PROBABILITY, context)
        with scratch_folder() as scratch:
            polygons, centrelines = self.vector_outputs(parameters, context, scratch)
            job = jobs.SegmentRoads(
                raster=self._raster.path,
                crs=self._raster.crs,
                model=self._model(parameters, context),
                model_folders=self._model_folders(),
                bands=self._bands(parameters, context),
                gsd_m=self.optional_number(parameters, self.GSD, context),
                **self._extent(parameters, context),
                aoi=self._aoi[0],
                aoi_layer=self._aoi[1],
                **self.vector_values(parameters, context),
                output_probability=probability,
                output_polygons=polygons.geopackage,
                output_centrelines=centrelines.geopackage,
                device=self.parameterAsEnumString(parameters, self.DEVICE, context) or DEVICES[0],
                cache=Settings.load().cache,
            )
            question = jobs.DescribeRaster(raster=job.raster, bands=job.bands, gsd_m=job.gsd_m, crs=job.crs)
            if self._export is not None and not self.worker_opens(question, feedback):
                exported = scratch / "exported.tif"
                self._export.write(exported, self._model_gsd_m(job), feedback)
                # An export is another file each time, which no later run could resume from.
                job = replace(job, raster=str(exported), crs="", source=self._export.origin, resume=False)
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

    def _model_gsd_m(self, job: jobs.SegmentRoads) -> float:
        """The ground resolution at which a layer without pixels of its own is fetched."""
        folders = [Path(folder) for folder in job.model_folders]
        bands = len(job.bands) or self._raster.band_count
        return find_package(job.model, folders, TASK, bands, job.gsd_m).card.gsd_m

    def _extent(self, parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, Any]:
        extent = self.parameterAsExtent(parameters, self.EXTENT, context)
        if extent.isNull():
            return {}
        return {
            "extent": (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()),
            "extent_crs": crs_text(self.parameterAsExtentCrs(parameters, self.EXTENT, context)),
        }

    def _bands(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[int, ...]:
        return tuple(self.parameterAsInts(parameters, self.BANDS, context))

    def _model(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        return self.parameterAsString(parameters, self.MODEL, context).strip()

    def _model_folders(self) -> tuple[str, ...]:
        return tuple(str(folder) for folder in Settings.load().model_folders)


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
