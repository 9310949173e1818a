"""The Processing provider: all jobs of Aftermap, for the toolbox, models, batch and ``qgis_process``."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from ..core.version import read_version
from .algorithms.assess_damage import AssessDamage
from .algorithms.detect_buildings import DetectBuildings
from .algorithms.evaluate_model import EvaluateModel
from .algorithms.export_damage import ExportDamage
from .algorithms.export_training_tiles import ExportTrainingTiles
from .algorithms.revectorize_roads import RevectorizeRoads
from .algorithms.segment_roads import SegmentRoads
from .algorithms.train_model import TrainModel
from .icons import PLUGIN_ICON
from .layers import LayerStyles
from .partial_layers import PartialLayers
from .vector_output import FORMATS
from .worker_client import WorkerPool

PROVIDER_ID = "aftermap"
ALGORITHMS = (
    SegmentRoads,
    RevectorizeRoads,
    DetectBuildings,
    AssessDamage,
    ExportTrainingTiles,
    TrainModel,
    EvaluateModel,
)


class AftermapProvider(QgsProcessingProvider):
    """Registers the algorithms; what they share (workers, styles) lives as long as it does."""

    def __init__(self, workers: WorkerPool, partials: PartialLayers | None = None) -> None:
        """Make the provider.

        Args:
            workers: Where the algorithms' jobs run.
            partials: Shows what runs have finished so far; none where there is no interface.
        """
        super().__init__()
        self._workers = workers
        self._partials = partials
        self._styles = LayerStyles()

    def id(self) -> str:  # noqa: D102
        return PROVIDER_ID

    def name(self) -> str:  # noqa: D102
        return "Aftermap"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(PLUGIN_ICON))

    def versionInfo(self) -> str:  # noqa: D102, N802
        return read_version()

    def loadAlgorithms(self) -> None:  # noqa: D102, N802
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm(self._workers, self._styles, self._partials))
        self.addAlgorithm(ExportDamage())

    def supportsNonFileBasedOutput(self) -> bool:  # noqa: D102, N802
        return False

    def supportedOutputRasterLayerExtensions(self) -> list[str]:  # noqa: D102, N802
        return ["tif"]

    def supportedOutputVectorLayerExtensions(self) -> list[str]:  # noqa: D102, N802
        return list(FORMATS)

    def defaultRasterFileExtension(self) -> str:  # noqa: D102, N802
        return "tif"

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:  # noqa: D102, N802, N803
        return "gpkg"
