"""Assess Damage: an image from after an event, and perhaps one from before, become buildings with damage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsRasterLayer,
)
from qgis.PyQt.QtGui import QIcon

from ...core import jobs
from ...core.cards import find_damage_package
from ...core.jobs import Result
from ..damage.buildings import named_levels
from ..damage.style import DamageLayer, DamageLook
from ..icons import ASSESS_DAMAGE_ICON
from ..image_date import image_date, iso_date
from ..raster_input import RasterExport, RasterInput
from ..settings import Settings
from ..translation import tr
from ..vector_output import VectorOutput, finish_outputs
from .base import DEVICES, MODEL_WIDGET, JobAlgorithm, advanced, is_in_model
from .road_vectors import scratch_folder

TASK = "damage"
Job = jobs.AssessDamage


@dataclass(frozen=True)
class _Image:
    """One of the two images, as it was taken from its layer.

    Attributes:
        raster: How it reaches the worker.
        export: How it is exported where the worker cannot open it; none where that is out of the question.
        date: When it was taken, as far as the layer says; ISO 8601.
    """

    raster: RasterInput
    export: RasterExport | None
    date: str


class AssessDamage(JobAlgorithm):
    """The algorithm ``aftermap:assessdamage``."""

    POST = "POST"
    PRE = "PRE"
    FOOTPRINTS = "FOOTPRINTS"
    MODEL = "MODEL"
    EXTENT = "EXTENT"
    AOI = "AOI"
    AOI_FIRST = "AOI_FIRST"
    MIN_AREA = "MIN_AREA"
    NUDGE_EAST = "NUDGE_EAST"
    NUDGE_NORTH = "NUDGE_NORTH"
    ALIGN = "ALIGN"
    POST_DATE = "POST_DATE"
    PRE_DATE = "PRE_DATE"
    BANDS = "BANDS"
    PRE_BANDS = "PRE_BANDS"
    GSD = "GSD"
    DEVICE = "DEVICE"
    OUTPUT_BUILDINGS = "OUTPUT_BUILDINGS"
    OUTPUT_DAMAGE = "OUTPUT_DAMAGE"
    OUTPUT_SUMMARY = "OUTPUT_SUMMARY"
    MANIFEST = "MANIFEST"
    BUILDINGS = "BUILDINGS"

    def name(self) -> str:  # noqa: D102
        return "assessdamage"

    def displayName(self) -> str:  # noqa: D102, N802
        return tr("Assess Damage")

    def group(self) -> str:  # noqa: D102
        return tr("Buildings")

    def groupId(self) -> str:  # noqa: D102, N802
        return "buildings"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(ASSESS_DAMAGE_ICON))

    def tags(self) -> list[str]:  # noqa: D102
        return tr("damage,building,disaster,earthquake,change,xBD,deep learning,satellite,aerial").split(",")

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Finds out how badly each building is damaged, from images before and after an event.")

    def shortHelpString(self) -> str:  # noqa: D102, N802
        return tr(HELP).replace("\n", " ")  # Processing would make a paragraph of each line

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: D102, N802
        polygons = [QgsProcessing.SourceType.TypeVectorPolygon]
        model = QgsProcessingParameterString(self.MODEL, tr("Model"), "", optional=True)
        model.setMetadata({"widget_wrapper": {"class": MODEL_WIDGET, "task": TASK}})
        for parameter in (
            QgsProcessingParameterRasterLayer(self.POST, tr("Image after the event")),
            QgsProcessingParameterRasterLayer(self.PRE, tr("Image before the event"), optional=True),
            QgsProcessingParameterFeatureSource(
                self.FOOTPRINTS, tr("Known buildings (empty: found in the image)"), polygons, optional=True
            ),
            model,
            QgsProcessingParameterExtent(self.EXTENT, tr("Extent"), optional=True),
            QgsProcessingParameterFeatureSource(self.AOI, tr("Area of interest"), polygons, optional=True),
            QgsProcessingParameterBoolean(
                self.AOI_FIRST, tr("Area of interest first, then the rest too"), Job.aoi_first
            ),
            self._number(
                self.MIN_AREA, tr("Smallest building that is looked for (m²)"), Job.min_area_m2, minValue=0
            ),
        ):
            self.addParameter(parameter)
        for parameter in self._advanced_parameters():
            self.addParameter(advanced(parameter))
        self.addParameter(
            QgsProcessingParameterVectorDestination(
                self.OUTPUT_BUILDINGS, tr("Building damage"), polygons[0], optional=True, createByDefault=True
            )
        )
        self.addParameter(
            QgsProcessingParameterRasterDestination(
                self.OUTPUT_DAMAGE, tr("Damage probability"), optional=True, createByDefault=False
            )
        )
        self.addParameter(
            QgsProcessingParameterFileDestination(
                self.OUTPUT_SUMMARY,
                tr("Table of counts"),
                tr("CSV files") + " (*.csv)",
                optional=True,
                createByDefault=False,
            )
        )
        self.addOutput(QgsProcessingOutputFile(self.MANIFEST, tr("Manifest of the run")))
        self.addOutput(QgsProcessingOutputNumber(self.BUILDINGS, tr("Number of buildings")))

    def prepareAlgorithm(  # noqa: D102, N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        post = self.parameterAsRasterLayer(parameters, self.POST, context)
        if post is None or not post.isValid():
            raise QgsProcessingException(self.invalidRasterError(parameters, self.POST))
        self._pre = None
        if parameters.get(self.PRE) not in (None, ""):
            pre = self.parameterAsRasterLayer(parameters, self.PRE, context)
            if pre is None or not pre.isValid():
                raise QgsProcessingException(self.invalidRasterError(parameters, self.PRE))
            self._pre = self._image(pre, parameters, self.PRE_DATE, context)
        self._post = self._image(post, parameters, self.POST_DATE, context)
        self._footprints = self.layer_file(parameters, self.FOOTPRINTS, context, feedback)
        self._aoi = self.layer_file(parameters, self.AOI, context, feedback)
        return True

    def execute(  # noqa: D102
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        with scratch_folder() as scratch:
            buildings = VectorOutput.at(
                self.parameterAsOutputLayer(parameters, self.OUTPUT_BUILDINGS, context), scratch, "buildings"
            )
            job = self._job(parameters, context, buildings)
            job = self._export_images(job, scratch, feedback)
            with self.showing_partials(
                context,
                buildings.destination,
                tr("Building damage (so far)"),
                partial(self._look, DamageLayer.BUILDINGS),
            ) as take_partial:
                result = None if feedback.isCanceled() else self.run_job(job, feedback, take_partial)
                if result is None:
                    return {}
                manifest = finish_outputs(
                    [buildings], Path(result.outputs["manifest"]), context.transformContext()
                )
        _tell(result, feedback)
        group = "" if is_in_model(context) else tr("Damage – {}").format(self._post.raster.name)
        for kind, path in (
            (DamageLayer.BUILDINGS, buildings.destination),
            (DamageLayer.PROBABILITY, job.output_damage),
        ):
            self._styles.attach(context, path, self._look(kind, result.values, group))
        return {
            self.OUTPUT_BUILDINGS: buildings.destination,
            self.OUTPUT_DAMAGE: job.output_damage,
            self.OUTPUT_SUMMARY: job.output_summary,
            self.MANIFEST: str(manifest),
            self.BUILDINGS: result.values["buildings"],
        }

    def _look(self, kind: DamageLayer, values: Mapping[str, Any], group: str = "") -> DamageLook:
        """How a layer looks, by what the worker says of the run: in a result, or with a part of one."""
        return DamageLook(kind, named_levels(values["levels"]), group, self._post.raster.has_crs)

    def _advanced_parameters(self) -> list[QgsProcessingParameterDefinition]:
        day = QgsProcessingParameterDateTime.Type.Date
        return [
            QgsProcessingParameterBoolean(
                self.ALIGN, tr("Estimate and correct shifts between images and buildings"), Job.align
            ),
            self._number(self.NUDGE_EAST, tr("Move the buildings east (m)"), 0.0),
            self._number(self.NUDGE_NORTH, tr("Move the buildings north (m)"), 0.0),
            QgsProcessingParameterDateTime(
                self.POST_DATE, tr("Date of the image after (empty: as its layer says)"), day, optional=True
            ),
            QgsProcessingParameterDateTime(
                self.PRE_DATE, tr("Date of the image before (empty: as its layer says)"), day, optional=True
            ),
            self._bands(self.BANDS, self.POST, tr("Bands of the image after, in the model's order")),
            self._bands(self.PRE_BANDS, self.PRE, tr("Bands of the image before, in the model's order")),
            self._number(
                self.GSD,
                tr("Size of a pixel of the image after on the ground (m; only without CRS)"),
                None,
                optional=True,
                minValue=0.001,
            ),
            QgsProcessingParameterEnum(
                self.DEVICE, tr("Device"), DEVICES, defaultValue=DEVICES[0], usesStaticStrings=True
            ),
        ]

    def _number(
        self, name: str, text: str, default: float | None, **limits: Any
    ) -> QgsProcessingParameterNumber:
        number = QgsProcessingParameterNumber
        return number(name, text, number.Type.Double, default, **limits)

    def _bands(self, name: str, parent: str, text: str) -> QgsProcessingParameterBand:
        return QgsProcessingParameterBand(
            name, text, parentLayerParameterName=parent, optional=True, allowMultiple=True
        )

    def _image(
        self, layer: QgsRasterLayer, parameters: dict[str, Any], date: str, context: QgsProcessingContext
    ) -> _Image:
        raster, export = RasterInput.of_layer(layer), None
        if not raster.is_plain:
            extent = self.parameterAsExtent(parameters, self.EXTENT, context, layer.crs())
            export = RasterExport.of_layer(layer, extent, context.transformContext())
        given = ""
        if parameters.get(date) not in (None, ""):
            given = iso_date(self.parameterAsDateTime(parameters, date, context))
        return _Image(raster, export, given or image_date(layer))

    def _job(
        self, parameters: dict[str, Any], context: QgsProcessingContext, buildings: VectorOutput
    ) -> jobs.AssessDamage:
        settings = Settings.load()
        return Job(
            post=self._post.raster.path,
            crs=self._post.raster.crs,
            post_date=self._post.date,
            bands=tuple(self.parameterAsInts(parameters, self.BANDS, context)),
            gsd_m=self.optional_number(parameters, self.GSD, context),
            pre=self._pre.raster.path if self._pre else "",
            pre_crs=self._pre.raster.crs if self._pre else "",
            pre_date=self._pre.date if self._pre else "",
            pre_bands=tuple(self.parameterAsInts(parameters, self.PRE_BANDS, context)),
            footprints=self._footprints[0],
            footprints_layer=self._footprints[1],
            model=self.parameterAsString(parameters, self.MODEL, context).strip(),
            model_folders=tuple(str(folder) for folder in settings.model_folders),
            **self.extent_values(parameters, self.EXTENT, context),
            aoi=self._aoi[0],
            aoi_layer=self._aoi[1],
            aoi_first=self.parameterAsBool(parameters, self.AOI_FIRST, context),
            nudge_m=(
                self.parameterAsDouble(parameters, self.NUDGE_EAST, context),
                self.parameterAsDouble(parameters, self.NUDGE_NORTH, context),
            ),
            align=self.parameterAsBool(parameters, self.ALIGN, context),
            min_area_m2=self.parameterAsDouble(parameters, self.MIN_AREA, context),
            output_buildings=buildings.geopackage,
            output_damage=self.parameterAsOutputLayer(parameters, self.OUTPUT_DAMAGE, context),
            output_summary=self.parameterAsFileOutput(parameters, self.OUTPUT_SUMMARY, context),
            device=self.parameterAsEnumString(parameters, self.DEVICE, context) or DEVICES[0],
            cache=settings.cache,
        )

    def _export_images(
        self, job: jobs.AssessDamage, scratch: Path, feedback: QgsProcessingFeedback
    ) -> jobs.AssessDamage:
        """The job with images that the worker opens: what it cannot open, QGIS exports."""
        post, pre = self._post, self._pre
        # An export is another file each time, which no later run could resume from.
        if self._must_export(post, job.bands, job.gsd_m, feedback):
            path = str(scratch / "post.tif")
            post.export.write(Path(path), job.gsd_m or self._model_gsd_m(job), feedback)
            job = replace(job, post=path, crs="", source=post.export.origin, resume=False)
        if pre is not None and self._must_export(pre, job.pre_bands, None, feedback):
            path = str(scratch / "pre.tif")
            pre.export.write(Path(path), self._model_gsd_m(job), feedback)
            job = replace(job, pre=path, pre_crs="", pre_source=pre.export.origin, resume=False)
        return job

    def _model_gsd_m(self, job: jobs.AssessDamage) -> float:
        """The ground resolution at which a layer without pixels of its own is fetched."""
        return find_damage_package(job.model, [Path(folder) for folder in job.model_folders]).card.gsd_m

    def _must_export(
        self, image: _Image, bands: tuple[int, ...], gsd_m: float | None, feedback: QgsProcessingFeedback
    ) -> bool:
        if image.export is None or feedback.isCanceled():
            return False
        question = jobs.DescribeRaster(
            raster=image.raster.path, bands=bands, gsd_m=gsd_m, crs=image.raster.crs
        )
        return not self.worker_opens(question, feedback)


def _tell(result: Result, feedback: QgsProcessingFeedback) -> None:
    """Say what was found, and on which device."""
    values = result.values
    levels = named_levels(values["levels"])
    counts: Mapping[str, int] = values["counts"]
    found = ", ".join(f"{counts[level.name]} {level.name}" for level in levels if counts.get(level.name))
    feedback.pushInfo(
        tr("{} buildings: {}. This is the model's count, unreviewed.").format(
            values["buildings"], found or tr("none")
        )
    )
    if "device" in values:
        feedback.pushInfo(tr("Computed on {}.").format(values["device"]))


HELP = """
<p>Finds out how badly each building is damaged, and writes one polygon a building, with its level of damage,
the probability of each level and how sure the model is. Everything runs on this computer, in a process of its
own, on the GPU if there is one.</p>
<p><b>Image after the event</b>: any raster layer of about 0.3 to 1 m per pixel. <b>Image before</b>: makes
the result better; it may have another resolution, extent and CRS, and is moved to fit.</p>
<p><b>Known buildings</b>: a polygon layer whose features all come back, each once, with their attributes. A
selection or filter of the layer holds. Empty: buildings are found in the image before, or in the one after if
there is none, which misses those that are gone.</p>
<p><b>Model</b>: empty: the one that fits best. <i>Aftermap → Models…</i> shows what each was trained on and
how good it is. On an event unlike those, expect less: look at the layer, and review a sample.</p>
<p><b>Extent</b>, <b>Area of interest</b>: only what lies inside is computed; both may be in another CRS.
<b>Area of interest first</b>: its buildings appear on the map before the run goes on with the rest;
the area is looked at twice for that.</p>
<p><b>Estimate and correct shifts</b> (advanced): roofs lean, and images are placed badly by some metres.
Where neighbourhoods differ, each is moved by its own shift; field <i>moved_m</i> says how far. Where the
buildings still lie beside their roofs, <b>move</b> them.</p>
<p><b>Building damage</b>: field <i>damage</i> is 1, no visible damage, to 4, destroyed; 0 is unknown (cloud,
deep shadow, outside of the image), which is <i>not</i> undamaged. <i>No visible damage</i> is what an image
from above can say; walls, floors and cracks it does not show. Hatched buildings are uncertain.</p>
<p>While it runs, buildings that are done appear on the map; they are provisional, until the result replaces
them.</p>
<p><b>Counts</b> are the model's until someone has reviewed a sample: <i>Aftermap → Damage Summary and
Review</i>.</p>
<p>A cancelled run leaves no files; started again with the same parameters, it continues where it stopped.</p>
"""
