"""Show a damage layer over its image in a desktop QGIS, review a sample, and photograph map and panel.

QGIS runs it as its ``--code``, with the image as its project. ``AFTERMAP_DAMAGE`` names the layer,
``AFTERMAP_DISTRICTS`` one of districts if there is one, ``AFTERMAP_PICTURES`` the folder of the pictures.
What the review writes goes to a copy.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import traceback
from pathlib import Path

from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QDockWidget
from qgis.utils import iface, plugins

SIZE_PX = (1400, 860)
SETTLE_MS = 2500
POLL_MS = 200
LIMIT_S = 120
SHOWN_SHARE = 0.6
REVIEWED = 30
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


def wait(is_true, then) -> None:
    """Do `then` once something holds, and the map is drawn."""
    give_up_at = time.monotonic() + LIMIT_S

    @guarded
    def look():
        if is_true() and not iface.mapCanvas().isDrawing():
            QTimer.singleShot(SETTLE_MS, guarded(then))
        elif time.monotonic() > give_up_at:
            raise TimeoutError(then.__name__)
        else:
            QTimer.singleShot(POLL_MS, look)

    look()


def panel():
    return plugins["aftermap"]._summary


def take(name: str, widget=None) -> None:
    picture = Path(os.environ["AFTERMAP_PICTURES"]) / f"damage-{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    iface.messageBar().clearWidgets()
    (widget or iface.mainWindow()).grab().save(str(picture))
    print(picture, f"{picture.stat().st_size / 1000:.0f} kB")


@guarded
def prepare() -> None:
    from aftermap.plugin.damage.buildings import levels_of
    from aftermap.plugin.damage.style import style_buildings

    window = iface.mainWindow()
    window.resize(*SIZE_PX)
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in KEPT_DOCKS)
    copy = Path(tempfile.mkdtemp()) / "building_damage.gpkg"
    shutil.copyfile(os.environ["AFTERMAP_DAMAGE"], copy)
    project = QgsProject.instance()
    image = next(layer for layer in project.mapLayers().values() if isinstance(layer, QgsRasterLayer))
    layer = QgsVectorLayer(str(copy), "Building damage")
    style_buildings(layer, levels_of(layer))
    project.addMapLayer(layer, False)
    group = project.layerTreeRoot().insertGroup(0, f"Damage – {image.name()}")
    group.addLayer(layer)
    extent = image.extent()
    extent.scale(SHOWN_SHARE)
    iface.mapCanvas().setExtent(extent)
    iface.setActiveLayer(layer)
    window.findChild(QAction, "aftermapDamageSummary").trigger()
    if os.environ.get("AFTERMAP_DISTRICTS"):
        districts = QgsVectorLayer(os.environ["AFTERMAP_DISTRICTS"], "districts")
        project.addMapLayer(districts, False)
        panel().district_box.setLayer(districts)
    window.resizeDocks([panel()], [430], Qt.Orientation.Horizontal)
    wait(lambda: panel().summary is not None, show_map)


def show_map() -> None:
    take("map")
    canvas = iface.mapCanvas()
    canvas.zoomScale(1500)
    wait(lambda: True, show_near)


def show_near() -> None:
    take("near")
    panel().start_review()
    review = panel().review_panel
    review.analyst.setText("A. Analyst")
    for place in range(REVIEWED):
        QTest.keyClick(review, Qt.Key.Key_4 if place % 9 == 8 else Qt.Key.Key_Return)
    wait(lambda: True, show_review)


def show_review() -> None:
    take("review")
    review = panel().review_panel
    while not review.review.is_over:
        QTest.keyClick(review, Qt.Key.Key_2 if review.review.position % 11 == 5 else Qt.Key.Key_Return)
    QTest.keyClick(review, Qt.Key.Key_Escape)
    wait(lambda: panel().summary is not None and panel().summary.has_estimates, show_counts)


def show_counts() -> None:
    take("counts")
    plugins["aftermap"].open_models()
    wait(lambda: True, show_models)


def show_models() -> None:
    (dialog,) = plugins["aftermap"]._dialogs
    take("models", dialog)
    finish(0)


QTimer.singleShot(SETTLE_MS, prepare)
