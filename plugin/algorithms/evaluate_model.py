"""Evaluate a Road Model: scores on a folder of labelled tiles, and a report."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtGui import QIcon

from ...core import jobs
from ..icons import EVALUATE_MODEL_ICON
from ..settings import Settings
from ..translation import tr
from .base import DEVICES, MODEL_WIDGET, JobAlgorithm, advanced

PARTS = ("validation", "train")


class EvaluateModel(JobAlgorithm):
    """The algorithm ``aftermap:evaluatemodel``."""

    MODEL = "MODEL"
    FOLDER = "FOLDER"
    GSD = "GSD"
    THRESHOLD = "THRESHOLD"
    PROBE = "PROBE"
    SPLITS = "SPLITS"
    PART = "PART"
    MASK_VALUE = "MASK_VALUE"
    DEVICE = "DEVICE"
    OUTPUT_REPORT = "OUTPUT_REPORT"
    REPORT_HTML = "REPORT_HTML"
    SCORES = (
        *("IOU", "F1", "PRECISION", "RECALL", "RELAXED_F1", "CLDICE", "APLS", "ROOF_FPR", "ECE"),
        *("USED_THRESHOLD", "TILES", "WORST_DROP"),
    )

    def name(self) -> str:  # noqa: D102
        return "evaluatemodel"

    def displayName(self) -> str:  # noqa: D102, N802
        return tr("Evaluate a Road Model")

    def group(self) -> str:  # noqa: D102
        return tr("Training")

    def groupId(self) -> str:  # noqa: D102, N802
        return "training"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(EVALUATE_MODEL_ICON))

    def tags(self) -> list[str]:  # noqa: D102
        return tr("evaluate,score,accuracy,IoU,F1,APLS,clDice,calibration,road,model").split(",")

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Scores a road model on a folder of labelled tiles.")

    def shortHelpString(self) -> str:  # noqa: D102, N802
        return tr(HELP).replace("\n", " ")

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: D102, N802
        number = QgsProcessingParameterNumber
        model = QgsProcessingParameterString(self.MODEL, tr("Model"), "", optional=True)
        model.setMetadata({"widget_wrapper": {"class": MODEL_WIDGET}})
        self.addParameter(model)
        self.addParameter(
            QgsProcessingParameterFile(
                self.FOLDER,
                tr("Folder of labelled tiles"),
                behavior=QgsProcessingParameterFile.Behavior.Folder,
            )
        )
        self.addParameter(
            number(
                self.GSD,
                tr("Ground size of a pixel (m; only where tiles state none)"),
                number.Type.Double,
                optional=True,
                minValue=0.001,
            )
        )
        self.addParameter(
            number(
                self.THRESHOLD,
                tr("Threshold (0 to 1; empty: the model's)"),
                number.Type.Double,
                optional=True,
                minValue=0,
                maxValue=1,
            )
        )
        self.addParameter(
            QgsProcessingParameterBoolean(self.PROBE, tr("Measure how the scores depend on colour"), False)
        )
        for parameter in (
            QgsProcessingParameterFile(
                self.SPLITS, tr("Lists of training and validation tiles"), extension="json", optional=True
            ),
            QgsProcessingParameterEnum(
                self.PART, tr("List that is scored"), PARTS, defaultValue=PARTS[0], usesStaticStrings=True
            ),
            QgsProcessingParameterString(
                self.MASK_VALUE,
                tr("Code or colour of the class in masks (empty: found out)"),
                "",
                optional=True,
            ),
            QgsProcessingParameterEnum(
                self.DEVICE, tr("Device"), DEVICES, defaultValue=DEVICES[0], usesStaticStrings=True
            ),
        ):
            self.addParameter(advanced(parameter))
        self.addParameter(
            QgsProcessingParameterFolderDestination(
                self.OUTPUT_REPORT, tr("Folder of the report"), optional=True, createByDefault=True
            )
        )
        self.addOutput(QgsProcessingOutputHtml(self.REPORT_HTML, tr("Report")))
        for name in self.SCORES:
            self.addOutput(QgsProcessingOutputNumber(name, name.replace("_", " ").capitalize()))

    def execute(  # noqa: D102
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        settings = Settings.load()
        report = self.parameterAsString(parameters, self.OUTPUT_REPORT, context)
        job = jobs.EvaluateModel(
            model=self.parameterAsString(parameters, self.MODEL, context).strip(),
            folder=self.parameterAsString(parameters, self.FOLDER, context),
            model_folders=tuple(str(folder) for folder in settings.model_folders),
            mask_value=self.parameterAsString(parameters, self.MASK_VALUE, context).strip(),
            gsd_m=self.optional_number(parameters, self.GSD, context),
            splits=self.parameterAsString(parameters, self.SPLITS, context),
            part=self.parameterAsEnumString(parameters, self.PART, context) or PARTS[0],
            threshold=self.optional_number(parameters, self.THRESHOLD, context),
            report=report,
            probe=self.parameterAsBool(parameters, self.PROBE, context),
            device=self.parameterAsEnumString(parameters, self.DEVICE, context) or DEVICES[0],
        )
        result = self.run_job(job, feedback)
        if result is None:
            return {}
        values = {
            **result.values,
            "used_threshold": result.values.get("threshold"),
            "worst_drop": (result.values.get("colour_probe") or {}).get("worst_drop"),
        }
        scores = {name: values.get(name.lower()) for name in self.SCORES}
        for name, value in scores.items():
            if value is not None:
                feedback.pushInfo(f"{name}: {value:.4g}")
        return {
            self.OUTPUT_REPORT: report,
            self.REPORT_HTML: result.outputs.get("report", ""),
            **{name: value for name, value in scores.items() if value is not None},
        }


HELP = """
<p>Scores a road model on a folder of labelled tiles that it was not trained on.</p>
<p><b>IoU</b>, <b>F1</b>, <b>precision</b> and <b>recall</b> compare pixels. <b>Relaxed F1</b> forgives
3 pixels. <b>clDice</b> compares centrelines, and <b>APLS</b> the lengths of the ways from place to place:
both fall when a road is cut. <b>Roof FPR</b> is the share of roof pixels that were taken for road, where the
folder has <i>building_masks/</i>. <b>ECE</b> says by how much the probabilities are off.</p>
<p><b>Measure how the scores depend on colour</b> scores the model on the same tiles in grey, with shifted
hue, swapped channels, another gamma and a lost band; the worst relative drop of IoU tells how much it will
suffer from another sensor, season or haze. This takes six times as long.</p>
<p>The <b>report</b> is a page with curves and pictures of the best and worst tiles, which opens in a browser
without network.</p>
"""
