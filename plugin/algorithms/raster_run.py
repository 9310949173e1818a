"""The parameters that all algorithms share which run a model over one raster layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

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
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ...core.cards import Package
from ...core.jobs import DescribeRaster, DetectBuildings, SegmentRoads
from ..raster_input import RasterExport, RasterInput
from ..settings import Settings
from ..translation import tr
from .base import DEVICES, MODEL_WIDGET, JobAlgorithm, advanced

RasterJob = TypeVar("RasterJob", SegmentRoads, DetectBuildings)


class RasterRunAlgorithm(JobAlgorithm):
    """An algorithm that runs a model over one raster layer."""

    INPUT = "INPUT"
    MODEL = "MODEL"
    BANDS = "BANDS"
    GSD = "GSD"
    EXTENT = "EXTENT"
    AOI = "AOI"
    DEVICE = "DEVICE"
    LISTED_MODELS: ClassVar[dict[str, str]] = {}
    """Which models the list offers: ``task`` or ``head``, as `core.cards.list_packages` takes them."""

    def find_model(self, job: SegmentRoads | DetectBuildings, bands: int) -> Package:
        """The model that the worker will choose for a job on a raster of so many bands.

        Raises:
            ModelError: There is none.
        """
        raise NotImplementedError

    def add_raster_parameters(self) -> None:
        """Add what the run looks at, and with which model; the rest comes with `add_run_parameters`."""
        self.addParameter(QgsProcessingParameterRasterLayer(self.INPUT, tr("Image")))
        model = QgsProcessingParameterString(self.MODEL, tr("Model"), "", optional=True)
        model.setMetadata({"widget_wrapper": {"class": MODEL_WIDGET, **self.LISTED_MODELS}})
        self.addParameter(model)
        self.addParameter(QgsProcessingParameterExtent(self.EXTENT, tr("Extent"), optional=True))
        self.addParameter(
            QgsProcessingParameterFeatureSource(
                self.AOI, tr("Area of interest"), [QgsProcessing.SourceType.TypeVectorPolygon], optional=True
            )
        )

    def add_run_parameters(self) -> None:
        """Add the advanced parameters."""
        number = QgsProcessingParameterNumber
        for parameter in (
            QgsProcessingParameterBand(
                self.BANDS,
                tr("Bands, in the model's order"),
                parentLayerParameterName=self.INPUT,
                optional=True,
                allowMultiple=True,
            ),
            number(
                self.GSD,
                tr("Size of a pixel on the ground (m; only without CRS)"),
                number.Type.Double,
                optional=True,
                minValue=0.001,
            ),
            QgsProcessingParameterEnum(
                self.DEVICE, tr("Device"), DEVICES, defaultValue=DEVICES[0], usesStaticStrings=True
            ),
        ):
            self.addParameter(advanced(parameter))

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

    def run_values(self, parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, Any]:
        """The fields of a job that the parameters of this class ask for."""
        settings = Settings.load()
        return {
            "raster": self._raster.path,
            "crs": self._raster.crs,
            "model": self.parameterAsString(parameters, self.MODEL, context).strip(),
            "model_folders": tuple(str(folder) for folder in settings.model_folders),
            "bands": tuple(self.parameterAsInts(parameters, self.BANDS, context)),
            "gsd_m": self.optional_number(parameters, self.GSD, context),
            **self.extent_values(parameters, self.EXTENT, context),
            "aoi": self._aoi[0],
            "aoi_layer": self._aoi[1],
            "device": self.parameterAsEnumString(parameters, self.DEVICE, context) or DEVICES[0],
            "cache": settings.cache,
        }

    def with_readable_raster(
        self, job: RasterJob, scratch: Path, feedback: QgsProcessingFeedback
    ) -> RasterJob:
        """The job with a raster that the worker opens: what it cannot open, QGIS exports to `scratch`.

        Raises:
            RasterError: The layer cannot be exported.
            ModelError: There is no model, whose ground resolution decides that of a tile service.
        """
        question = DescribeRaster(raster=job.raster, bands=job.bands, gsd_m=job.gsd_m, crs=job.crs)
        if self._export is None or self.worker_opens(question, feedback):
            return job
        exported = scratch / "exported.tif"
        gsd_m = self.find_model(job, len(job.bands) or self._raster.band_count).card.gsd_m
        self._export.write(exported, gsd_m, feedback)
        # An export is another file each time, which no later run could resume from.
        return replace(job, raster=str(exported), crs="", source=self._export.origin, resume=False)
