"""Click Segment Roads in a desktop QGIS, wait for the layers, and photograph the window.

QGIS runs it as its ``--code``; ``AFTERMAP_SCREENSHOT`` names the picture. The first raster layer of the
project is the scene.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from processing.gui.AlgorithmDialog import AlgorithmDialog
from qgis.core import Qgis, QgsApplication, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QAction, QApplication, QDockWidget
from qgis.utils import iface

SIZE_PX = (1280, 800)
SETTLE_MS = 2500
SHOWN_SHARE = 0.5
KEPT_DOCKS = {"Layers"}


def finish(exit_status: int) -> None:
    """End QGIS at once: nothing of this profile is worth a question whether to save it."""
    QgsProject.instance().setDirty(False)
    os._exit(exit_status)


def guarded(step):
    """`step`, with an error that ends QGIS instead of leaving it open for ever."""

    def run(*arguments):
        try:
            step(*arguments)
        except Exception:  # the outermost frame: Qt would swallow it
            traceback.print_exc()
            finish(1)

    return run


@guarded
def prepare() -> None:
    window = iface.mainWindow()
    window.resize(*SIZE_PX)
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in KEPT_DOCKS)
    layer = next(
        layer for layer in QgsProject.instance().mapLayers().values() if isinstance(layer, QgsRasterLayer)
    )
    iface.setActiveLayer(layer)
    # The middle of the scene, so that it fills the window.
    extent = layer.extent()
    extent.scale(SHOWN_SHARE)
    iface.mapCanvas().setExtent(extent)
    window.findChild(QAction, "aftermapSegmentRoads").trigger()
    QTimer.singleShot(SETTLE_MS, click_run)


@guarded
def click_run() -> None:
    dialog = next(w for w in QApplication.topLevelWidgets() if isinstance(w, AlgorithmDialog))
    dialog.algorithmFinished.connect(guarded(lambda succeeded, _: ended(dialog, succeeded)))
    dialog.runButton().click()


def ended(dialog: AlgorithmDialog, succeeded: bool) -> None:
    if not succeeded:
        print(dialog.log.toPlainText() if hasattr(dialog, "log") else "Segment Roads failed.")
        finish(1)
    # Layers are loaded after the signal.
    QTimer.singleShot(SETTLE_MS, guarded(lambda: frame(dialog)))


def frame(dialog: AlgorithmDialog) -> None:
    dialog.close()
    for node in QgsProject.instance().layerTreeRoot().findGroups():
        node.setExpanded(True)
    iface.mapCanvas().refreshAllLayers()
    QTimer.singleShot(2 * SETTLE_MS, take)


@guarded
def take() -> None:
    picture = Path(os.environ["AFTERMAP_SCREENSHOT"])
    picture.parent.mkdir(parents=True, exist_ok=True)
    iface.messageBar().clearWidgets()
    iface.mainWindow().grab().save(str(picture))
    print(picture)
    for layer in QgsProject.instance().mapLayers().values():
        print(f"  {layer.name()}: {layer.source()}")
    finish(0)


QgsApplication.messageLog().messageReceived.connect(
    lambda message, tag, level: print(f"{tag}: {message}") if level >= Qgis.MessageLevel.Warning else None
)
QTimer.singleShot(SETTLE_MS, prepare)
