"""Evaluate a Model: scores on a folder of labelled tiles or pairs, and a report."""

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
from ..scores import DAMAGE_SCORES, as_number, damage_scores
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
        return tr("Evaluate a Model")

    def group(self) -> str:  # noqa: D102
        return tr("Training")

    def groupId(self) -> str:  # noqa: D102, N802
        return "training"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(EVALUATE_MODEL_ICON))

    def tags(self) -> list[str]:  # noqa: D102
        return tr(
            "evaluate,score,accuracy,IoU,F1,APLS,clDice,AUC,xView2,calibration,road,building,damage,model"
        ).split(",")

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Scores a model for roads, buildings or damage on a folder of labelled tiles.")

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
                tr("Folder of labelled tiles, or of pairs"),
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
        for name in (*self.SCORES, *DAMAGE_SCORES):
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
        found = {name: as_number(values.get(name.lower())) for name in self.SCORES}
        scores = {name: value for name, value in found.items() if value is not None}
        scores.update(damage_scores(values))
        for name, value in scores.items():
            feedback.pushInfo(f"{name}: {value:.4g}")
        return {self.OUTPUT_REPORT: report, self.REPORT_HTML: result.outputs.get("report", ""), **scores}


HELP = """
<p>Scores a model on a folder of labelled tiles that it was not trained on. What is scored depends on what
the model was made for.</p>
<p><b>Roads and buildings.</b> <b>IoU</b>, <b>F1</b>, <b>precision</b> and <b>recall</b> compare pixels.
<b>Relaxed F1</b> forgives 3 pixels. For roads, <b>clDice</b> compares centrelines, and <b>APLS</b> the
lengths of the ways from place to place: both fall when a road is cut; <b>roof FPR</b> is the share of roof
pixels that were taken for road, where the folder has <i>building_masks/</i>. <b>ECE</b> says by how much
the probabilities are off.</p>
<p><b>Building damage.</b> The folder holds pairs of images as xBD lays them out, or chips of one building
each. <b>Building IoU</b> and <b>F1</b> say how well the pixels of buildings are found. All else counts
buildings, one by one: <b>macro F1</b> is the mean F1 of the levels that the model tells apart; <b>destroyed
F1</b> is that of destroyed buildings against the rest; <b>AUC</b> is the chance that a destroyed building
is ranked above one that is not, <b>AUC within tiles</b> the same for two buildings of one scene, which no
difference between scenes can help; <b>recall at 1 % false alarms</b> says how many of the destroyed ones
are found when one intact building in a hundred is taken for destroyed. <b>xView2</b> is the score of that
challenge, which dies with one level that is missing.</p>
<p><b>Measure how the scores depend on colour</b> scores the model on the same tiles in grey, with shifted
hue, swapped channels, another gamma and a lost band; the worst relative drop of IoU tells how much it will
suffer from another sensor, season or haze. This takes six times as long. It, the ground size of a pixel and
the code of the class have no effect on a damage model.</p>
<p>The <b>report</b> is a page with curves and pictures of the best and worst tiles, which opens in a
browser without network.</p>
"""
