"""Export Training Tiles: a raster and a layer of digitised roads become a folder of labelled tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBand,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
)
from qgis.PyQt.QtGui import QIcon

from ...core import jobs
from ...core.cards import find_package
from ..icons import EXPORT_TILES_ICON
from ..raster_input import RasterExport, RasterInput
from ..settings import Settings
from ..translation import tr
from .base import JobAlgorithm, advanced
from .road_vectors import scratch_folder

Job = jobs.ExportTrainingTiles
IMAGE_FORMATS = ("tif", "jpg", "png")


class ExportTrainingTiles(JobAlgorithm):
    """The algorithm ``aftermap:exporttrainingtiles``."""

    INPUT = "INPUT"
    LABELS = "LABELS"
    WIDTH_FIELD = "WIDTH_FIELD"
    WIDTH = "WIDTH"
    AREA = "AREA"
    TILE_SIZE = "TILE_SIZE"
    FORMAT = "FORMAT"
    MIN_SHARE = "MIN_SHARE"
    BANDS = "BANDS"
    GSD = "GSD"
    OUTPUT = "OUTPUT"
    TILES = "TILES"
    SKIPPED = "SKIPPED"
    CLASS_SHARE = "CLASS_SHARE"

    def name(self) -> str:  # noqa: D102
        return "exporttrainingtiles"

    def displayName(self) -> str:  # noqa: D102, N802
        return tr("Export Training Tiles")

    def group(self) -> str:  # noqa: D102
        return tr("Training")

    def groupId(self) -> str:  # noqa: D102, N802
        return "training"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(EXPORT_TILES_ICON))

    def tags(self) -> list[str]:  # noqa: D102
        return tr("tile,chip,export,training,label,mask,road,deep learning").split(",")

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Cuts an image and digitised roads into a folder of labelled tiles.")

    def shortHelpString(self) -> str:  # noqa: D102, N802
        return tr(HELP).replace("\n", " ")

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: D102, N802
        number, source = QgsProcessingParameterNumber, QgsProcessing.SourceType
        self.addParameter(QgsProcessingParameterRasterLayer(self.INPUT, tr("Image")))
        self.addParameter(
            QgsProcessingParameterFeatureSource(
                self.LABELS,
                tr("Digitised roads (polygons or lines)"),
                [source.TypeVectorPolygon, source.TypeVectorLine],
            )
        )
        self.addParameter(
            QgsProcessingParameterField(
                self.WIDTH_FIELD,
                tr("Field with the width of lines (m)"),
                parentLayerParameterName=self.LABELS,
                type=QgsProcessingParameterField.DataType.Numeric,
                optional=True,
            )
        )
        self.addParameter(
            number(self.WIDTH, tr("Width of lines (m)"), number.Type.Double, Job.width_m, minValue=0.1)
        )
        self.addParameter(
            QgsProcessingParameterFeatureSource(
                self.AREA,
                tr("Area in which everything is digitised"),
                [source.TypeVectorPolygon],
                optional=True,
            )
        )
        self.addParameter(
            number(self.TILE_SIZE, tr("Side of a tile (px)"), number.Type.Integer, Job.tile_px, minValue=64)
        )
        self.addParameter(
            QgsProcessingParameterEnum(
                self.FORMAT,
                tr("Format of the images"),
                IMAGE_FORMATS,
                defaultValue=Job.image_format,
                usesStaticStrings=True,
            )
        )
        for parameter in (
            number(
                self.MIN_SHARE,
                tr("Only tiles with at least this share of the class"),
                number.Type.Double,
                Job.min_share,
                minValue=0,
                maxValue=1,
            ),
            QgsProcessingParameterBand(
                self.BANDS,
                tr("Bands (empty: all)"),
                parentLayerParameterName=self.INPUT,
                optional=True,
                allowMultiple=True,
            ),
            number(
                self.GSD,
                tr("Ground size of a pixel (m; only without CRS, and for services)"),
                number.Type.Double,
                optional=True,
                minValue=0.001,
            ),
        ):
            self.addParameter(advanced(parameter))
        self.addParameter(QgsProcessingParameterFolderDestination(self.OUTPUT, tr("Folder of tiles")))
        for name, text in (
            (self.TILES, tr("Number of tiles")),
            (self.SKIPPED, tr("Tiles without labels or data")),
            (self.CLASS_SHARE, tr("Share of the class")),
        ):
            self.addOutput(QgsProcessingOutputNumber(name, text))

    def prepareAlgorithm(  # noqa: D102, N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        layer = self.parameterAsRasterLayer(parameters, self.INPUT, context)
        if layer is None or not layer.isValid():
            raise QgsProcessingException(self.invalidRasterError(parameters, self.INPUT))
        self._labels = self.layer_file(parameters, self.LABELS, context, feedback)
        self._area = self.layer_file(parameters, self.AREA, context, feedback)
        self._raster = RasterInput.of_layer(layer)
        self._export = None
        if not self._raster.is_plain:
            # What a service shows is fetched where something is digitised, and nowhere else.
            bounds = self.parameterAsExtent(
                parameters, self.AREA if self._area[0] else self.LABELS, context, layer.crs()
            )
            self._export = RasterExport.of_layer(layer, bounds, context.transformContext())
        return True

    def execute(  # noqa: D102
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        folder = self.parameterAsString(parameters, self.OUTPUT, context)
        job = Job(
            raster=self._raster.path,
            labels=self._labels[0],
            labels_layer=self._labels[1],
            folder=folder,
            bands=tuple(self.parameterAsInts(parameters, self.BANDS, context)),
            gsd_m=self.optional_number(parameters, self.GSD, context),
            crs=self._raster.crs,
            width_field=self.parameterAsString(parameters, self.WIDTH_FIELD, context),
            width_m=self.parameterAsDouble(parameters, self.WIDTH, context),
            area=self._area[0],
            area_layer=self._area[1],
            tile_px=self.parameterAsInt(parameters, self.TILE_SIZE, context),
            image_format=self.parameterAsEnumString(parameters, self.FORMAT, context) or Job.image_format,
            min_share=self.parameterAsDouble(parameters, self.MIN_SHARE, context),
        )
        with scratch_folder() as scratch:
            question = jobs.DescribeRaster(raster=job.raster, bands=job.bands, gsd_m=job.gsd_m, crs=job.crs)
            if self._export is not None and not self.worker_opens(question, feedback):
                exported = scratch / "exported.tif"
                self._export.write(exported, job.gsd_m or self._usual_gsd_m(), feedback)
                job = replace(job, raster=str(exported), crs="")
            result = None if feedback.isCanceled() else self.run_job(job, feedback)
        if result is None:
            return {}
        return {
            self.OUTPUT: folder,
            self.TILES: result.values["tiles"],
            self.SKIPPED: result.values["skipped"],
            self.CLASS_SHARE: result.values["class_share"],
        }

    def _usual_gsd_m(self) -> float:
        """The ground resolution at which the models work."""
        folders = [Path(folder) for folder in Settings.load().model_folders]
        return find_package("", folders, "roads", self._raster.band_count).card.gsd_m


HELP = """
<p>Cuts an image and a layer of digitised roads into labelled tiles, which <i>Train a Road Model</i> and
<i>Evaluate a Road Model</i> take.</p>
<p><b>Digitised roads</b>: polygons, or lines that are widened by a field or a fixed width. A selection or
filter of the layer holds.</p>
<p><b>Area in which everything is digitised</b>: outside of it, nothing is known: a road that nobody drew must
not teach that it is none. Empty: every road of the whole image was drawn.</p>
<p><b>Folder of tiles</b>: gets <i>images/</i> and <i>masks/</i>; tiles keep their place on the ground.</p>
"""
