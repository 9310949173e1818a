"""The plugin as QGIS sees it: a button, a menu, a page of options and the Processing provider."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qgis.core import Qgis, QgsApplication, QgsProject, QgsRasterLayer
from qgis.gui import QgisInterface
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction, QDialog, QPushButton

from ..core.cards import best_fit, list_packages
from ..core.errors import ModelError, WorkerError
from .algorithms.segment_roads import TASK, SegmentRoads
from .ground_resolution import pixel_size_m
from .icons import PLUGIN_ICON, SEGMENT_ROADS_ICON, TRAIN_MODEL_ICON
from .interpreter import InterpreterFinder
from .provider import PROVIDER_ID, AftermapProvider
from .raster_input import image_band_count
from .run_folder import file_name, run_folder
from .settings import Settings
from .settings_page import PAGE_NAME, SettingsPageFactory
from .translation import tr
from .worker_client import WorkerPool

if TYPE_CHECKING:
    from .training.dialog import TrainingDialog

MENU = "Aftermap"


class AftermapPlugin:
    """Registers everything and undoes it; `iface` is None under ``qgis_process``."""

    def __init__(self, iface: QgisInterface | None) -> None:
        """Do nothing yet: QGIS calls `initGui` or `initProcessing`."""
        self._iface = iface
        self._workers: WorkerPool | None = None
        self._provider: AftermapProvider | None = None
        self._actions: list[QAction] = []
        self._settings_page: SettingsPageFactory | None = None
        self._dialogs: set[QDialog] = set()  # they are not modal: a reference keeps each alive
        self._training: TrainingDialog | None = None

    def initProcessing(self) -> None:  # noqa: N802  QGIS's name
        """Register the algorithms; this alone happens under ``qgis_process``."""
        finder = InterpreterFinder(lambda: Settings.load().python)
        self._workers = WorkerPool(finder.find)
        self._provider = AftermapProvider(self._workers)
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:  # noqa: N802  QGIS's name
        """Register the algorithms, and add button, menu and options."""
        self.initProcessing()
        window = self._iface.mainWindow()
        segment = QAction(QIcon(str(SEGMENT_ROADS_ICON)), tr("Segment Roads"), window)
        segment.setObjectName("aftermapSegmentRoads")
        segment.setToolTip(tr("Find the roads of the active raster layer"))
        segment.triggered.connect(self.open_segment_roads)
        train = QAction(QIcon(str(TRAIN_MODEL_ICON)), tr("Train a Model…"), window)
        train.setObjectName("aftermapTrainModel")
        train.setToolTip(tr("Train a road model on tiles of your own"))
        train.triggered.connect(self.open_training)
        settings = QAction(QIcon(str(PLUGIN_ICON)), tr("Settings…"), window)
        settings.setObjectName("aftermapSettings")
        settings.triggered.connect(self.open_settings)
        self._actions = [segment, train, settings]
        for action in (segment, train):
            self._iface.addToolBarIcon(action)
        for action in self._actions:
            self._iface.addPluginToRasterMenu(MENU, action)
        self._settings_page = SettingsPageFactory()
        self._iface.registerOptionsWidgetFactory(self._settings_page)

    def unload(self) -> None:
        """Undo all of it, and end the workers."""
        for dialog in tuple(self._dialogs):
            dialog.close()
        self._dialogs.clear()
        if self._training is not None:
            self._training.shut_down()
            self._training.deleteLater()
            self._training = None
        if self._settings_page is not None:
            self._iface.unregisterOptionsWidgetFactory(self._settings_page)
            self._settings_page = None
        for action in self._actions:
            self._iface.removeToolBarIcon(action)
            self._iface.removePluginRasterMenu(MENU, action)
            action.deleteLater()
        self._actions = []
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def open_segment_roads(self) -> None:
        """Open the algorithm's dialog, filled in for the active raster layer."""
        layer = self._iface.activeLayer()
        if not isinstance(layer, QgsRasterLayer):
            self._say(tr("Select a raster layer first: Segment Roads finds the roads of the active layer."))
            return
        try:
            self._workers.find_python()
        except WorkerError as error:
            self._offer_settings(str(error))
            return
        from processing import createAlgorithmDialog  # it needs the Processing plugin, which may load later

        project = QgsProject.instance()
        folder = run_folder(Settings.load().run_folder, project, layer.name(), datetime.now())
        dialog = createAlgorithmDialog(
            f"{PROVIDER_ID}:segmentroads", segment_roads_parameters(layer, project, folder)
        )
        self._dialogs.add(dialog)
        dialog.destroyed.connect(partial(self._dialogs.discard, dialog))
        dialog.show()

    def open_training(self) -> None:
        """Open the dialog in which models are trained: the same one again, perhaps while it trains."""
        try:
            self._workers.find_python()
        except WorkerError as error:
            self._offer_settings(str(error))
            return
        if self._training is None:
            from .training.dialog import (
                TrainingDialog,
            )  # it needs the Processing plugin, which may load later

            self._training = TrainingDialog(self._iface, self._workers)
        self._training.reopen()

    def open_settings(self) -> None:
        """Open the plugin's page of QGIS's options."""
        self._iface.showOptionsDialog(self._iface.mainWindow(), PAGE_NAME)

    def _say(self, text: str) -> None:
        self._iface.messageBar().pushMessage("Aftermap", text, Qgis.MessageLevel.Info)

    def _offer_settings(self, text: str) -> None:
        bar = self._iface.messageBar()
        item = bar.createMessage("Aftermap", text)
        button = QPushButton(tr("Settings…"), item)
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        button.clicked.connect(self.open_settings)
        item.layout().addWidget(button)
        bar.pushWidget(item, Qgis.MessageLevel.Warning)


def segment_roads_parameters(layer: QgsRasterLayer, project: QgsProject, folder: Path) -> dict[str, Any]:
    """What the dialog is filled in with: the layer, the model that fits it best, and files in `folder`."""
    packages = list_packages(Settings.load().model_folders, TASK)
    try:
        model = best_fit(
            packages, image_band_count(layer), pixel_size_m(layer, project.transformContext())
        ).card.name
    except ModelError:
        model = ""  # the run says what is missing; the user may still choose a package
    name = file_name(layer.name())
    return {
        SegmentRoads.INPUT: layer.id(),
        SegmentRoads.MODEL: model,
        SegmentRoads.OUTPUT_PROBABILITY: str(folder / f"{name}_road_probability.tif"),
        SegmentRoads.OUTPUT_POLYGONS: str(folder / f"{name}_road_polygons.gpkg"),
        SegmentRoads.OUTPUT_CENTRELINES: str(folder / f"{name}_road_centrelines.gpkg"),
    }
