"""The plugin as QGIS sees it: a button, a menu, a page of options and the Processing provider."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from qgis.core import Qgis, QgsApplication, QgsMapLayer, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgisInterface
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction, QDialog, QPushButton

from ..core.cards import best_fit, list_packages
from ..core.errors import ModelError, WorkerError
from .algorithms.assess_damage import AssessDamage
from .algorithms.export_damage import ExportDamage
from .algorithms.segment_roads import TASK, SegmentRoads
from .damage.buildings import is_damage_layer
from .damage.suggestions import assess_damage_parameters
from .damage.summary_panel import SummaryPanel
from .ground_resolution import pixel_size_m
from .icons import (
    ASSESS_DAMAGE_ICON,
    DAMAGE_SUMMARY_ICON,
    EXPORT_DAMAGE_ICON,
    MODELS_ICON,
    PLUGIN_ICON,
    SEGMENT_ROADS_ICON,
    TRAIN_MODEL_ICON,
)
from .interpreter import InterpreterFinder
from .models_dialog import ModelsDialog
from .partial_layers import PartialLayers
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
        self._partials: PartialLayers | None = None
        self._provider: AftermapProvider | None = None
        self._actions: list[QAction] = []
        self._settings_page: SettingsPageFactory | None = None
        self._dialogs: set[QDialog] = set()  # they are not modal: a reference keeps each alive
        self._training: TrainingDialog | None = None
        self._summary: SummaryPanel | None = None

    def initProcessing(self) -> None:  # noqa: N802  QGIS's name
        """Register the algorithms; this alone happens under ``qgis_process``."""
        finder = InterpreterFinder(lambda: Settings.load().python)
        self._workers = WorkerPool(finder.find)
        if self._iface is not None:
            self._partials = PartialLayers()
        self._provider = AftermapProvider(self._workers, self._partials)
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:  # noqa: N802  QGIS's name
        """Register the algorithms, and add button, menu and options."""
        self.initProcessing()
        buttons = (
            self._action(
                "aftermapSegmentRoads",
                SEGMENT_ROADS_ICON,
                tr("Segment Roads"),
                tr("Find the roads of the active raster layer"),
                self.open_segment_roads,
            ),
            self._action(
                "aftermapAssessDamage",
                ASSESS_DAMAGE_ICON,
                tr("Assess Damage"),
                tr("Find out how badly each building is damaged in the active raster layer"),
                self.open_assess_damage,
            ),
            self._action(
                "aftermapDamageSummary",
                DAMAGE_SUMMARY_ICON,
                tr("Damage Summary and Review"),
                tr("Count the buildings by damage, and review a sample of them"),
                self.open_damage_summary,
            ),
            self._action(
                "aftermapExportDamage",
                EXPORT_DAMAGE_ICON,
                tr("Export Damage…"),
                tr("Write building damage as GeoPackage, Shapefile, GeoJSON and a table"),
                self.open_export_damage,
            ),
            self._action(
                "aftermapTrainModel",
                TRAIN_MODEL_ICON,
                tr("Train a Model…"),
                tr("Train a model for roads, buildings or damage on tiles of your own"),
                self.open_training,
            ),
        )
        menu_only = (
            self._action(
                "aftermapModels",
                MODELS_ICON,
                tr("Models…"),
                tr("See which models there are, and add one"),
                self.open_models,
            ),
            self._action("aftermapSettings", PLUGIN_ICON, tr("Settings…"), "", self.open_settings),
        )
        self._actions = [*buttons, *menu_only]
        for action in buttons:
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
        if self._summary is not None:
            self._summary.close_down()
            self._iface.removeDockWidget(self._summary)
            self._summary.deleteLater()
            self._summary = None
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
        if self._partials is not None:
            self._partials.close()
            self._partials = None

    def open_segment_roads(self) -> None:
        """Open the algorithm's dialog, filled in for the active raster layer."""
        layer = self._iface.activeLayer()
        if not isinstance(layer, QgsRasterLayer):
            self._say(tr("Select a raster layer first: Segment Roads finds the roads of the active layer."))
        elif self._has_worker():
            self._open_algorithm("segmentroads", segment_roads_parameters(layer, *_place(layer)))

    def open_assess_damage(self) -> None:
        """Open the algorithm's dialog, filled in for the active raster layer as the image after."""
        layer = self._iface.activeLayer()
        if not isinstance(layer, QgsRasterLayer):
            self._say(tr("Select the image from after the event first: it is the active layer."))
        elif self._has_worker():
            dialog = self._open_algorithm("assessdamage", assess_damage_parameters(layer, *_place(layer)))
            dialog.algorithmFinished.connect(self._show_counts)

    def open_export_damage(self) -> None:
        """Open the algorithm's dialog, filled in for the active damage layer, or the only one."""
        layer = self._damage_layer()
        if layer is None:
            self._say(tr("Select a layer of building damage first: Assess Damage makes one."))
            return
        _, folder = _place(layer)
        self._open_algorithm(
            "exportdamage", {ExportDamage.INPUT: layer.id(), ExportDamage.OUTPUT: str(folder)}
        )

    def open_damage_summary(self) -> None:
        """Show the panel with the counts of the active damage layer, or the only one."""
        if self._summary is None:
            self._summary = SummaryPanel(self._iface)
            self._iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self._summary)
        layer = self._damage_layer()
        if layer is not None:
            self._summary.show_layer(layer)
        self._summary.show()
        self._summary.raise_()

    def open_models(self) -> None:
        """Open the list of models."""
        dialog = ModelsDialog(self._iface.mainWindow())
        self._keep(dialog)
        dialog.show()

    def open_training(self) -> None:
        """Open the dialog in which models are trained: the same one again, perhaps while it trains."""
        if not self._has_worker():
            return
        if self._training is None:
            # It needs the Processing plugin, which may load later.
            from .training.dialog import TrainingDialog

            self._training = TrainingDialog(self._iface, self._workers)
        self._training.reopen()

    def open_settings(self) -> None:
        """Open the plugin's page of QGIS's options."""
        self._iface.showOptionsDialog(self._iface.mainWindow(), PAGE_NAME)

    def _action(self, name: str, icon: Path, text: str, tip: str, slot: Callable[[], None]) -> QAction:
        action = QAction(QIcon(str(icon)), text, self._iface.mainWindow())
        action.setObjectName(name)
        if tip:
            action.setToolTip(tip)
        action.triggered.connect(lambda _: slot())
        return action

    def _has_worker(self) -> bool:
        """Whether there is a Python for the worker; where there is none, the user is told."""
        try:
            self._workers.find_python()
        except WorkerError as error:
            self._offer_settings(str(error))
            return False
        return True

    def _open_algorithm(self, name: str, parameters: dict[str, Any]) -> QDialog:
        from processing import createAlgorithmDialog  # it needs the Processing plugin, which may load later

        dialog = createAlgorithmDialog(f"{PROVIDER_ID}:{name}", parameters)
        self._keep(dialog)
        dialog.show()
        return dialog

    def _keep(self, dialog: QDialog) -> None:
        self._dialogs.add(dialog)
        dialog.destroyed.connect(partial(self._dialogs.discard, dialog))

    def _damage_layer(self) -> QgsVectorLayer | None:
        """The active layer if it tells damage, else the only one of the project that does."""
        active = self._iface.activeLayer()
        if is_damage_layer(active):
            return active
        found = [layer for layer in QgsProject.instance().mapLayers().values() if is_damage_layer(layer)]
        return found[0] if len(found) == 1 else None

    def _show_counts(self, is_done: bool, results: dict[str, Any]) -> None:
        """Show the counts of a run that has ended, if QGIS has loaded its layer."""
        path = results.get(AssessDamage.OUTPUT_BUILDINGS) if is_done else ""
        for layer in QgsProject.instance().mapLayers().values():
            if path and layer.source().partition("|")[0] == path and is_damage_layer(layer):
                self._iface.setActiveLayer(layer)
                self.open_damage_summary()

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


def _place(layer: QgsMapLayer) -> tuple[QgsProject, Path]:
    """The project, and the folder for the results of a layer."""
    project = QgsProject.instance()
    return project, run_folder(Settings.load().run_folder, project, layer.name(), datetime.now())


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
