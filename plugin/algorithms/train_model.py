"""Train a Model: folders of labelled tiles, or of pairs of images, become a model package."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputFolder,
    QgsProcessingOutputHtml,
    QgsProcessingOutputNumber,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtGui import QIcon

from ...core import jobs
from ...core.cards import PACKAGE_SUFFIX
from ...core.jobs import TrainModel as Job
from ..icons import TRAIN_MODEL_ICON
from ..scores import DAMAGE_SCORES, as_number, damage_scores
from ..settings import Settings
from ..translation import tr
from .base import DEVICES, MODEL_WIDGET, JobAlgorithm, advanced

TASKS = ("roads", "buildings", "damage")
LOSSES = ("bce_dice", "bce", "weighted_bce", "focal", "dice", "tversky", "focal_dice")
SCHEDULES = ("wsd", "cosine", "one_cycle", "step", "plateau", "constant")
STEP_UNITS = ("epoch", "batch")
SAMPLERS = ("weighted", "uniform")
AUGMENTATIONS = ("structure", "mild", "none")
START_MODEL_WIDGET = MODEL_WIDGET.replace(".ModelWidget", ".StartModelWidget")

# Parameter → field of the job that has its value, unchanged.
FIELDS = {
    "TASK": "task",
    "VALIDATION": "validation",
    "MODEL": "start_from",
    "GSD": "gsd_m",
    "EPOCHS": "epochs",
    "LOSS": "loss",
    "SCHEDULE": "schedule",
    "SAMPLER": "sampler",
    "MIN_SHARE": "min_share",
    "AUGMENTATION": "augmentation",
    "SPLITS": "splits",
    "VALIDATION_SHARE": "validation_share",
    "MASK_VALUE": "mask_value",
    "WORKING_GSD": "working_gsd_m",
    "ENCODER_WEIGHTS": "encoder_weights",
    "STEPS": "steps",
    "BATCH_SIZE": "batch_size",
    "CROP": "crop_px",
    "ACCUMULATE": "accumulate",
    "LEARNING_RATE": "learning_rate",
    "STEP_EVERY": "step_every",
    "STEP_UNIT": "step_unit",
    "POSITIVE_WEIGHT": "positive_weight",
    "SKELETON_WEIGHT": "skeleton_weight",
    "SCALE_JITTER": "scale_jitter",
    "SYNTHETIC_SHARE": "synthetic_share",
    "PATIENCE": "patience",
    "SEED": "seed",
    "DEVICE": "device",
}


class TrainModel(JobAlgorithm):
    """The algorithm ``aftermap:trainmodel``."""

    FOLDER = "FOLDER"
    MORE_FOLDERS = "MORE_FOLDERS"
    OUTPUT_MODEL = "OUTPUT_MODEL"
    REPORT = "REPORT"
    FIGURES = "FIGURES"
    SCORES = ("IOU", "F1", "PRECISION", "RECALL", "THRESHOLD")

    def name(self) -> str:  # noqa: D102
        return "trainmodel"

    def displayName(self) -> str:  # noqa: D102, N802
        return tr("Train a Model")

    def group(self) -> str:  # noqa: D102
        return tr("Training")

    def groupId(self) -> str:  # noqa: D102, N802
        return "training"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(TRAIN_MODEL_ICON))

    def tags(self) -> list[str]:  # noqa: D102
        return tr(
            "train,road,building,damage,deep learning,U-Net,fine-tune,network,class imbalance,model"
        ).split(",")

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Trains a model for roads, buildings or building damage on folders of labelled tiles.")

    def shortHelpString(self) -> str:  # noqa: D102, N802
        return tr(HELP).replace("\n", " ")

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: D102, N802
        folder = QgsProcessingParameterFile.Behavior.Folder
        self.addParameter(self._choice("TASK", tr("Task"), TASKS))
        self.addParameter(
            QgsProcessingParameterFile(
                self.FOLDER, tr("Folder of labelled tiles, or of pairs"), behavior=folder
            )
        )
        self.addParameter(
            QgsProcessingParameterFile(
                "VALIDATION",
                tr("Folder for the validation (empty: a share of the tiles)"),
                behavior=folder,
                optional=True,
            )
        )
        start = QgsProcessingParameterString("MODEL", tr("Start from"), Job.start_from, optional=True)
        start.setMetadata({"widget_wrapper": {"class": START_MODEL_WIDGET}})
        self.addParameter(start)
        self.addParameter(
            self._number("GSD", tr("Ground size of a pixel (m; only where tiles state none)"), low=0.001)
        )
        self.addParameter(self._number("EPOCHS", tr("Epochs (0: as many as the data ask for)")))
        for name, text, options in (
            ("LOSS", tr("Loss"), LOSSES),
            ("SCHEDULE", tr("Schedule of the learning rate"), SCHEDULES),
            ("SAMPLER", tr("Sampler"), SAMPLERS),
        ):
            self.addParameter(self._choice(name, text, options))
        self.addParameter(
            self._number("MIN_SHARE", tr("Only tiles with at least this share of the class"), high=1)
        )
        self.addParameter(self._choice("AUGMENTATION", tr("Augmentation"), AUGMENTATIONS))
        for parameter in self._advanced_parameters():
            self.addParameter(advanced(parameter))
        self.addParameter(
            QgsProcessingParameterFileDestination(
                self.OUTPUT_MODEL, tr("Model"), tr("Model packages") + f" (*{PACKAGE_SUFFIX})"
            )
        )
        self.addOutput(QgsProcessingOutputHtml(self.REPORT, tr("Report")))
        self.addOutput(QgsProcessingOutputFolder(self.FIGURES, tr("Folder of curves and pictures")))
        for name in (*self.SCORES, *DAMAGE_SCORES):
            self.addOutput(QgsProcessingOutputNumber(name, name.replace("_", " ").capitalize()))

    def execute(  # noqa: D102
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        result = self.run_job(self._job(parameters, context), feedback)
        if result is None:
            return {}
        scores = {name: as_number(result.values.get(name.lower())) for name in self.SCORES}
        return {
            self.OUTPUT_MODEL: result.outputs["model"],
            self.REPORT: result.outputs.get("report", ""),
            self.FIGURES: result.outputs.get("figures", ""),
            **{name: value for name, value in scores.items() if value is not None},
            **damage_scores(result.values),
        }

    def _advanced_parameters(self) -> list[QgsProcessingParameterDefinition]:
        file = QgsProcessingParameterFile
        return [
            QgsProcessingParameterString(
                self.MORE_FOLDERS, tr("Further folders, one a line"), "", multiLine=True, optional=True
            ),
            file("SPLITS", tr("Lists of training and validation tiles"), extension="json", optional=True),
            self._number("VALIDATION_SHARE", tr("Share of the tiles for validation"), high=0.9),
            QgsProcessingParameterString(
                "MASK_VALUE", tr("Code or colour of the class in masks (empty: found out)"), "", optional=True
            ),
            self._number("WORKING_GSD", tr("Ground resolution of the network (m)"), low=0.05),
            file("ENCODER_WEIGHTS", tr("Encoder weights for a new network"), optional=True),
            self._number("STEPS", tr("Steps (0: after the epochs)")),
            self._number("BATCH_SIZE", tr("Crops in a batch (0: by their size)")),
            self._number("CROP", tr("Side of a crop (px; 0: what the tiles hold)")),
            self._number("ACCUMULATE", tr("Batches that make a step"), low=1),
            self._number("LEARNING_RATE", tr("Learning rate (0: the recipe's)"), high=1),
            self._number("STEP_EVERY", tr("Period of the schedule “step”"), low=1),
            self._choice("STEP_UNIT", tr("Unit of that period"), STEP_UNITS),
            self._number("POSITIVE_WEIGHT", tr("Weight of the class in “weighted_bce” (0: suggested)")),
            self._number("SKELETON_WEIGHT", tr("Weight of skeleton recall, added to the loss")),
            self._number("SCALE_JITTER", tr("Largest factor of enlarging and shrinking"), low=1, high=4),
            self._number("SYNTHETIC_SHARE", tr("Share of generated crops"), high=1),
            self._number("PATIENCE", tr("Stop after so many rounds without a better score (0: never)")),
            self._number("SEED", tr("Seed")),
            self._choice("DEVICE", tr("Device"), DEVICES),
        ]

    def _number(
        self, name: str, text: str, low: float = 0, high: float = 1e9
    ) -> QgsProcessingParameterNumber:
        default = getattr(Job, FIELDS[name])
        number = QgsProcessingParameterNumber
        kind = number.Type.Integer if isinstance(default, int) else number.Type.Double
        return number(name, text, kind, default, default is None, low, high)

    def _choice(self, name: str, text: str, options: tuple[str, ...]) -> QgsProcessingParameterEnum:
        return QgsProcessingParameterEnum(
            name, text, options, defaultValue=getattr(Job, FIELDS[name]), usesStaticStrings=True
        )

    def _job(self, parameters: dict[str, Any], context: QgsProcessingContext) -> Job:
        settings = Settings.load()
        more = self.parameterAsString(parameters, self.MORE_FOLDERS, context).splitlines()
        return Job(
            folders=(
                self.parameterAsString(parameters, self.FOLDER, context),
                *(line.strip() for line in more if line.strip()),
            ),
            output=self.parameterAsFileOutput(parameters, self.OUTPUT_MODEL, context),
            model_folders=tuple(str(folder) for folder in settings.model_folders),
            cache=settings.cache,
            **{field: self._value(parameters, name, context) for name, field in FIELDS.items()},
        )

    def _value(self, parameters: dict[str, Any], name: str, context: QgsProcessingContext) -> Any:
        default = getattr(Job, FIELDS[name])
        if default is None:
            return self.optional_number(parameters, name, context)
        if isinstance(self.parameterDefinition(name), QgsProcessingParameterEnum):
            return self.parameterAsEnumString(parameters, name, context)
        if isinstance(default, str):
            return self.parameterAsString(parameters, name, context).strip() or default
        read = self.parameterAsInt if isinstance(default, int) else self.parameterAsDouble
        return read(parameters, name, context)


def parameters_of(job: jobs.TrainModel) -> dict[str, Any]:
    """The algorithm's parameters that make this job, but for what the settings give."""
    return {
        TrainModel.FOLDER: job.folders[0],
        TrainModel.MORE_FOLDERS: "\n".join(job.folders[1:]),
        TrainModel.OUTPUT_MODEL: job.output,
        **{name: getattr(job, field) for name, field in FIELDS.items()},
    }


HELP = """
<p>Trains a model for <i>roads</i>, <i>buildings</i> or building <i>damage</i>. The dialog
<i>Raster → Aftermap → Train a Model…</i> runs this algorithm, shows the tiles and their classes before, and
the curves while it trains.</p>
<p><b>Folder</b> for <i>roads</i> and <i>buildings</i>: images, and masks of the same names: <i>images/</i>
with <i>masks/</i>, <i>building_masks/</i> or <i>groundtruth/</i>, <i>sat/</i> with <i>map/</i>, or
<i>*_sat</i> with <i>*_mask</i>. Masks may be 0/1, 0/255, class codes or colours. For <i>damage</i>: pairs of
images laid out as xBD, <i>images/</i> with <i>labels/</i> or <i>targets/</i>, or chips of one building each
(<i>images/</i> and <i>masks/</i> with <i>damaged_…</i> and <i>intact_…</i>). What cannot be read is named and
left out.</p>
<p><b>Start from</b>: the starter model (recommended: 100 to 500 tiles of your own place are enough), a model
of your own, or a new network, which needs thousands of tiles.</p>
<p><b>Validation</b>: tiles that the training never sees and by which it is judged: a folder of their own, or
a share of the tiles, split so that no two parts overlap on the ground.</p>
<p><b>Sampler</b>: <i>weighted</i> shows tiles with much of the class more often, and keeps at least
15 per cent without it, since these teach what is none. <b>Only tiles with at least this share</b> throws
the others away, and what they teach with them.</p>
<p><b>Augmentation</b>: <i>structure</i> changes colours so much that the network must learn shapes; images
of another sensor or season then work too.</p>
<p><b>Damage</b> has a loss, a sampler and weights of its own, made for few damaged buildings among many; a
level with fewer than 50 training buildings is merged with its neighbour. <i>Loss</i>, <i>sampler</i>,
<i>weight of the class</i>, <i>skeleton recall</i>, <i>only tiles with at least this share</i>, <i>generated
crops</i>, <i>code or colour of the class</i> and <i>ground size of a pixel</i> have no effect on it.</p>
<p>A cancelled run leaves no files; started again with the same parameters, it continues where it stopped.
The model appears in the list of <i>Segment Roads</i>, <i>Detect Buildings</i> or <i>Assess Damage</i> if it
lies in the folder of models.</p>
"""
