"""Train a model in a desktop QGIS by its dialog, and photograph the workbench, the run and the result.

QGIS runs it as its ``--code``; ``AFTERMAP_TILES`` names the folder of labelled tiles or pairs (generated
ones, where the pictures are published), ``AFTERMAP_TASK`` what is trained (empty: roads),
``AFTERMAP_PICTURES`` the folder of the pictures.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from pathlib import Path

from qgis.core import QgsProject
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QAction
from qgis.utils import iface, plugins

SIZE_PX = (1160, 780)
SETTLE_MS = 2500
POLL_MS = 200
LIMIT_S = 600
ROADS = "roads"
TASK = os.environ.get("AFTERMAP_TASK") or ROADS
BATCH, CROP_PX, LEARNING_RATE = 8, 192, 5e-5
STEPS = 80 if TASK == ROADS else 24  # minutes on two cores
MIN_SHARE = 0.08
SHOWN_ROUNDS = 9 if TASK == ROADS else 6  # damage has eight


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
    """Do `then` once something holds."""
    give_up_at = time.monotonic() + LIMIT_S

    @guarded
    def look():
        if is_true():
            QTimer.singleShot(POLL_MS, guarded(then))
        elif time.monotonic() > give_up_at:
            raise TimeoutError(then.__name__)
        else:
            QTimer.singleShot(POLL_MS, look)

    look()


def dialog():
    return plugins["aftermap"]._training


def take(name: str) -> None:
    """Photograph the dialog."""
    task = "" if TASK == ROADS else f"-{TASK}"
    picture = Path(os.environ["AFTERMAP_PICTURES"]) / f"train{task}-{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    dialog().grab().save(str(picture))
    print(picture, f"{picture.stat().st_size / 1000:.0f} kB")


def is_planned() -> bool:
    window = dialog()
    return bool(
        window.workbench_page.findings.count()
        and not window._timer.isActive()
        and not window._plan.is_running
    )


@guarded
def choose_tiles() -> None:
    iface.mainWindow().findChild(QAction, "aftermapTrainModel").trigger()
    dialog().resize(*SIZE_PX)
    tasks = dialog().data_page.task
    tasks.setCurrentIndex(tasks.findData(TASK))
    dialog().data_page.folders.set_folders((os.environ["AFTERMAP_TILES"],))
    wait(lambda: dialog().data_page.tiles, set_up)


def set_up() -> None:
    window = dialog()
    schedule = window.workbench_page.schedule
    schedule.length.setCurrentIndex(schedule.length.findData("steps"))
    schedule.steps.setValue(STEPS)
    schedule.learning_rate.setValue(LEARNING_RATE)
    # Not among the user's models: a run that names none would take it.
    name = Path(window.run_page.output.filePath()).name
    window.run_page.output.setFilePath(str(Path(tempfile.mkdtemp()) / name))
    window.run_page.batch_size.setValue(BATCH)
    window.run_page.crop_px.setValue(CROP_PX)
    if TASK == ROADS:
        window.workbench_page.balance.min_share.setValue(MIN_SHARE)
    window.show_page(window.workbench_page)
    wait(is_planned, show_workbench)


def show_workbench() -> None:
    take("workbench")
    if TASK == ROADS:
        dialog().workbench_page.balance.keep_all.click()
    wait(is_planned, train)


def train() -> None:
    window = dialog()
    window.show_page(window.run_page)
    window.run_page.start_button.click()

    def rounds() -> int:
        series = window.run_page.score_chart.series
        return len(series[0].points) if series else 0

    wait(lambda: rounds() >= SHOWN_ROUNDS or not window.run_page.run.is_running, show_run)


def show_run() -> None:
    take("run")
    wait(lambda: not dialog().run_page.run.is_running, show_result)


def show_result() -> None:
    window = dialog()
    window.show_page(window.result_page)
    window.result_page.worst.selectRow(0)
    QTimer.singleShot(POLL_MS, guarded(lambda: (take("result"), finish(0))))


QTimer.singleShot(SETTLE_MS, choose_tiles)
