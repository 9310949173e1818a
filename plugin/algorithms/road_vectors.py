"""The parameters and results that all algorithms with road vectors share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingOutputNumber,
    QgsProcessingParameterNumber,
    QgsProcessingParameterVectorDestination,
)

from ...core.jobs import Result, SegmentRoads
from ..layers import LayerLook, RoadLayer
from ..raster_input import RasterInput
from ..translation import tr
from ..vector_output import VectorOutput, finish_outputs
from .base import JobAlgorithm, is_in_model


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for what lies between the layers and the worker; it goes with what is in it."""
    folder = tempfile.mkdtemp(prefix="aftermap-")
    try:
        yield Path(folder)
    finally:
        # A file that Windows still holds open must not turn a finished run into a failed one.
        shutil.rmtree(folder, ignore_errors=True)


class RoadVectorAlgorithm(JobAlgorithm):
    """An algorithm that writes road polygons and centrelines."""

    THRESHOLD = "THRESHOLD"
    MIN_AREA = "MIN_AREA"
    SIMPLIFY = "SIMPLIFY"
    OUTPUT_POLYGONS = "OUTPUT_POLYGONS"
    OUTPUT_CENTRELINES = "OUTPUT_CENTRELINES"
    MANIFEST = "MANIFEST"
    USED_THRESHOLD = "USED_THRESHOLD"

    def group(self) -> str:  # noqa: D102
        return tr("Roads")

    def groupId(self) -> str:  # noqa: D102, N802
        return "roads"

    def tags(self) -> list[str]:  # noqa: D102
        return tr("road,street,network,segmentation,deep learning,U-Net,vectorize,satellite,aerial").split(
            ","
        )

    def add_vector_parameters(self) -> None:
        """Add the parameters of the vectors; destinations come with `add_vector_destinations`."""
        number = QgsProcessingParameterNumber
        threshold = number(
            self.THRESHOLD,
            tr("Threshold (0 to 1)"),
            number.Type.Double,
            optional=True,
            minValue=0,
            maxValue=1,
        )
        area = number(
            self.MIN_AREA,
            tr("Smallest road polygon (m²)"),
            number.Type.Double,
            SegmentRoads.min_area_m2,
            minValue=0,
        )
        simplify = number(
            self.SIMPLIFY,
            tr("Simplification (m)"),
            number.Type.Double,
            SegmentRoads.simplify_m,
            minValue=0,
        )
        for parameter in (threshold, area, simplify):
            self.addParameter(parameter)

    def add_vector_destinations(self) -> None:
        """Add the destinations, and the results that are no layers."""
        for name, description, kind in (
            (self.OUTPUT_POLYGONS, tr("Road polygons"), QgsProcessing.SourceType.TypeVectorPolygon),
            (self.OUTPUT_CENTRELINES, tr("Road centrelines"), QgsProcessing.SourceType.TypeVectorLine),
        ):
            self.addParameter(
                QgsProcessingParameterVectorDestination(
                    name, description, kind, optional=True, createByDefault=True
                )
            )
        self.addOutput(QgsProcessingOutputFile(self.MANIFEST, tr("Manifest of the run")))
        self.addOutput(QgsProcessingOutputNumber(self.USED_THRESHOLD, tr("Threshold that was used")))

    def vector_values(self, parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, Any]:
        """The fields of a job that `add_vector_parameters` asks for."""
        return {
            "threshold": self.optional_number(parameters, self.THRESHOLD, context),
            "min_area_m2": self.parameterAsDouble(parameters, self.MIN_AREA, context),
            "simplify_m": self.parameterAsDouble(parameters, self.SIMPLIFY, context),
        }

    def vector_outputs(
        self, parameters: dict[str, Any], context: QgsProcessingContext, scratch: Path
    ) -> tuple[VectorOutput, VectorOutput]:
        """Polygons and centrelines on their way.

        Call this where the algorithm runs, not in `prepareAlgorithm`: the context of the preparation does
        not keep which layers are to be loaded.

        Raises:
            JobError: A destination is of no known format.
        """
        polygons = self.parameterAsOutputLayer(parameters, self.OUTPUT_POLYGONS, context)
        centrelines = self.parameterAsOutputLayer(parameters, self.OUTPUT_CENTRELINES, context)
        return (
            VectorOutput.at(polygons, scratch, "road_polygons"),
            VectorOutput.at(centrelines, scratch, "road_centrelines"),
        )

    def finish(
        self,
        result: Result,
        outputs: Iterable[VectorOutput],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> str:
        """Convert the vector results, keep the manifest where they go, and say what was found.

        Returns:
            The path of the manifest.

        Raises:
            OutputError: A file cannot be written.
        """
        manifest = finish_outputs(outputs, Path(result.outputs["manifest"]), context.transformContext())
        feedback.pushInfo(_summary(result))
        return str(manifest)

    def results(
        self,
        result: Result,
        manifest: str,
        layers: dict[str, tuple[RoadLayer, str]],
        raster: RasterInput,
        context: QgsProcessingContext,
    ) -> dict[str, Any]:
        """The algorithm's outputs; layers that will be loaded get style and group.

        Args:
            result: What the worker said.
            manifest: Path of the manifest.
            layers: Output → what it is, and its file; an empty file was not wanted.
            raster: What the run was made from.
            context: Context of the run.
        """
        threshold, uncertain_from = result.values["threshold"], result.values["uncertain_from"]
        group = "" if is_in_model(context) else tr("Roads – {}").format(raster.name)
        for kind, path in layers.values():
            self._styles.attach(
                context, path, LayerLook(kind, threshold, uncertain_from, group, raster.has_crs)
            )
        return {
            **{output: path for output, (_, path) in layers.items()},
            self.MANIFEST: manifest,
            self.USED_THRESHOLD: threshold,
        }


def _summary(result: Result) -> str:
    """What was found, on which device and how fast, in a line."""
    values, parts = result.values, []
    if "polygons" in result.outputs:
        area_ha = values["area_m2"] / 1e4
        parts.append(tr("{} road polygons of {:.1f} ha").format(values["polygons"], area_ha))
    if "centrelines" in result.outputs:
        length_km = values["length_m"] / 1e3
        parts.append(tr("{} centrelines of {:.1f} km").format(values["centrelines"], length_km))
    if "device" in values:
        parts.append(tr("computed on {}").format(values["device"]))
    return ", ".join((*parts, tr("in {:.0f} s").format(values["seconds"]))) + "."
