"""The dialog *Train a Model*: data, workbench, run, result, compare."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from qgis.core import Qgis, QgsSettings
from qgis.gui import QgisInterface, QgsMessageBar
from qgis.PyQt.QtCore import QSize, Qt, QTimer
from qgis.PyQt.QtGui import QCloseEvent, QIcon
from qgis.PyQt.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
)

from ...core.errors import JobError
from ...core.jobs import PlanTraining, Result, TrainModel, job_from_json, to_json
from ..icons import TRAIN_MODEL_ICON
from ..scores import as_number
from ..settings import PREFIX, Settings
from ..translation import tr
from ..worker_client import WorkerPool
from .background import WorkerJob
from .compare_page import ComparePage
from .data_page import DataPage
from .page import Page
from .result_page import ResultPage
from .run_page import RunPage
from .tasks import Task, task_named
from .tiles import Tile, read_tiles, write_lists
from .workbench_page import WorkbenchPage

PLAN_DELAY_MS = 300
UNFINISHED = f"{PREFIX}/unfinished_training"
# What a plan and a training share is the whole job, but for where the model goes.
PLANNED_OUTPUT = "planned.aftermap"
LISTS_NAME = "splits.json"


class TrainingDialog(QDialog):
    """Not modal; closing it hides it, and a training goes on meanwhile."""

    def __init__(self, iface: QgisInterface, workers: WorkerPool) -> None:
        """An empty dialog, or the offer to continue a training that was cut short."""
        super().__init__(iface.mainWindow())
        self._iface = iface
        self._plan = WorkerJob(workers, tr("Planning a training"), self)
        self._is_plan_stale = False
        self._preview = tempfile.TemporaryDirectory(prefix="aftermap-preview-")
        self._running: TrainModel | None = None
        self._planned: tuple[TrainModel | None, list[Tile]] = (None, [])
        self._asked: TrainModel | None = None
        self._running_tiles: list[Tile] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PLAN_DELAY_MS)
        self.data_page = DataPage(workers)
        self.workbench_page = WorkbenchPage(workers, iface.mapCanvas())
        self.run_page = RunPage()
        self.result_page = ResultPage(iface.mapCanvas())
        self.compare_page = ComparePage(workers)
        self._pages: tuple[Page, ...] = (
            self.data_page,
            self.workbench_page,
            self.run_page,
            self.result_page,
            self.compare_page,
        )
        self._build()
        self._connect()
        self._offer_unfinished()

    def job(self) -> TrainModel | None:
        """The training as it is set up; none before there are tiles."""
        values = {name: value for page in self._pages for name, value in page.values().items()}
        if not values["folders"] or not self.data_page.tiles:
            return None
        settings = Settings.load()
        return TrainModel(
            **values,
            model_folders=tuple(str(folder) for folder in settings.model_folders),
            cache=settings.cache,
        )

    def show_page(self, page: Page) -> None:
        """Turn to a page."""
        self.list.setCurrentRow(self._pages.index(page))

    def start(self) -> None:
        """Train as set up."""
        job = self.job()
        if job is None:
            self.object_to(tr("Choose a folder that can be trained on first."))
            self.show_page(self.data_page)
        elif not job.output:
            self.object_to(tr("Name the file of the new model first."))
        else:
            self.bar.clearWidgets()
            planned, tiles = self._planned
            # Where it is known which tiles judge, later evaluations may judge by them too.
            self._running_tiles = tiles if planned == replace(job, output="") else []
            self.run_page.start_job(job)

    def object_to(self, message: str) -> None:
        """Say what is wrong, above the pages."""
        self.bar.clearWidgets()
        self.bar.pushMessage(message, Qgis.MessageLevel.Warning, 0)

    def shut_down(self) -> None:
        """End everything: the plugin goes."""
        self._timer.stop()
        self._plan.cancel()
        self.data_page.close_down()
        self.workbench_page.close_down()
        self.result_page.close_down()
        self.compare_page.close_down()
        self.run_page.run.close()
        self._preview.cleanup()
        self.close()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: D102, N802
        self.workbench_page.split.clear_map()
        if self.run_page.run.is_running:
            self._iface.messageBar().pushMessage(
                "Aftermap",
                tr("The training goes on; Raster → Aftermap → Train a Model… shows it again."),
                Qgis.MessageLevel.Info,
            )
        super().closeEvent(event)

    def _build(self) -> None:
        self.setWindowTitle(tr("Train a Model"))
        self.setWindowIcon(QIcon(str(TRAIN_MODEL_ICON)))
        self.setObjectName("aftermapTrainModelDialog")
        self.setWindowFlags(self.windowFlags() | Qt.WindowType.WindowMinMaxButtonsHint)
        self.resize(1240, 820)
        self.list = QListWidget()
        self.list.setObjectName("pages")
        self.list.setIconSize(QSize(20, 20))
        self.list.setFixedWidth(150)
        self.stack = QStackedWidget()
        titles = (tr("1  Data"), tr("2  Workbench"), tr("3  Run"), tr("4  Result"), tr("Compare"))
        for page, title in zip(self._pages, titles):
            item = QListWidgetItem(title, self.list)
            item.setSizeHint(QSize(0, 38))
            self.stack.addWidget(page)
            page.objected.connect(self.object_to)
        self.bar = QgsMessageBar()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.back = buttons.addButton(tr("Back"), QDialogButtonBox.ButtonRole.ActionRole)
        self.next = buttons.addButton(tr("Next"), QDialogButtonBox.ButtonRole.ActionRole)
        for button in buttons.buttons():
            button.setAutoDefault(False)  # Enter in a field must not close the dialog
        buttons.rejected.connect(self.close)
        body = QHBoxLayout()
        body.addWidget(self.list)
        body.addWidget(self.stack, 1)
        layout = QVBoxLayout(self)
        layout.addWidget(self.bar)
        layout.addLayout(body, 1)
        layout.addWidget(buttons)
        for button in self.findChildren(QPushButton):
            button.setAutoDefault(False)

    def _connect(self) -> None:
        self.list.currentRowChanged.connect(self._turn)
        self.back.clicked.connect(lambda: self.list.setCurrentRow(self.list.currentRow() - 1))
        self.next.clicked.connect(lambda: self.list.setCurrentRow(self.list.currentRow() + 1))
        self.list.setCurrentRow(0)
        self.data_page.scanned.connect(self._take_scan)
        self.data_page.task_changed.connect(self._show_task)
        for page in (self.data_page, self.workbench_page, self.run_page):
            page.changed.connect(self._timer.start)
        self.workbench_page.schedule.ask_job = self.job
        self._timer.timeout.connect(self._make_plan)
        self._plan.succeeded.connect(self._take_plan)
        self._plan.failed.connect(self._refuse_plan)
        self._plan.ended.connect(self._plan_again)
        self.run_page.start_asked.connect(self.start)
        self.run_page.started.connect(self._remember)
        self.run_page.finished.connect(self._take_result)
        self.run_page.broke.connect(self._offer_again)
        self.run_page.cancelled.connect(self._forget)

    def _turn(self, row: int) -> None:
        self.stack.setCurrentIndex(row)
        self.back.setEnabled(row > 0)
        self.next.setEnabled(row < self._last_row)

    @property
    def _last_row(self) -> int:
        """The last page that is shown: damage models are not compared here."""
        return len(self._pages) - (2 if self.data_page.chosen_task.is_damage else 1)

    def _show_task(self, task: Task) -> None:
        """Show what a training for this task needs; a plan for another one is void."""
        self._plan.cancel()
        self._planned = (None, [])
        for page in self._pages:
            page.show_task(task)
        compare = self._pages.index(self.compare_page)
        self.list.item(compare).setHidden(task.is_damage)
        self._turn(self.list.currentRow())

    def _take_scan(self) -> None:
        values = self.data_page.values()
        self.workbench_page.show_scan(self.data_page.scan, self.data_page.tiles)
        self.workbench_page.balance.set_data(values)
        self.run_page.suggest_output(values["folders"])

    def _make_plan(self) -> None:
        job = self.job()
        if job is None:
            return
        if self._plan.is_running:
            self._is_plan_stale = True  # the running one ends soon, and the worker stays warm
            return
        fields = {**asdict(job), "output": str(Path(self._preview.name) / PLANNED_OUTPUT)}
        self.workbench_page.say_status(tr("The plan is being made …"))
        self._asked = replace(job, output="")
        self._plan.start(PlanTraining(**fields, preview=self._preview.name))

    def _plan_again(self) -> None:
        if self._is_plan_stale:
            self._is_plan_stale = False
            self._make_plan()

    @property
    def _is_plan_void(self) -> bool:
        """Whether what was asked for is no longer what is wanted."""
        is_for_task = self._asked is not None and self._asked.task == self.data_page.chosen_task.name
        return self._is_plan_stale or not is_for_task

    def _take_plan(self, result: Result) -> None:
        if self._is_plan_void:
            return
        tiles = read_tiles(Path(result.outputs["tiles"]))
        self._planned = (self._asked, tiles)
        sheet = result.outputs.get("augmentation")
        self.workbench_page.show_plan(result.values, tiles, Path(sheet) if sheet else None)
        self.run_page.show_plan(result.values)

    def _refuse_plan(self, message: str) -> None:
        if not self._is_plan_void:
            self.workbench_page.show_refusal(message)

    def _remember(self, job: TrainModel) -> None:
        self._running = job
        QgsSettings().setValue(UNFINISHED, to_json(job))

    def _take_result(self, result: Result) -> None:
        QgsSettings().remove(UNFINISHED)
        if self._running is None:
            return
        self.result_page.show_training(self._running, result, self.run_page.figures.values())
        self._suggest_tiles(self._running, result)
        self.compare_page.refresh()
        self.show_page(self.result_page)
        if not self.isVisible():
            task = task_named(self._running.task)
            score = as_number(result.values.get(task.best))
            name = Path(self._running.output).stem
            text = task.trained.format(name, float("nan") if score is None else score)
            where = tr("It is in the list of {}.").format(task.tool)
            self._tell(f"{text} {where}", Qgis.MessageLevel.Success)

    def _suggest_tiles(self, job: TrainModel, result: Result) -> None:
        """Have evaluations judge by the tiles that judged the training."""
        folder, lists = job.validation, job.splits
        if not folder:
            folder = job.folders[0]
            figures = Path(result.outputs.get("figures", ""))
            if not lists and self._running_tiles and figures.is_dir():
                lists = str(figures / LISTS_NAME)
                try:
                    write_lists(Path(lists), self._running_tiles)
                except OSError as error:
                    self.object_to(tr("The list of tiles cannot be written: {}").format(error))
                    lists = ""
        if job.validation or lists:
            self.result_page.suggest_tiles(folder, lists)
            self.compare_page.suggest_tiles(folder, lists)

    def _offer_again(self, message: str) -> None:
        if self._running is not None:
            name = Path(self._running.output).stem
            self._offer(tr("The training of {} stopped; below it says why.").format(name), self._running)
        if not self.isVisible():
            self._tell(message, Qgis.MessageLevel.Warning)

    def _tell(self, text: str, level: Qgis.MessageLevel) -> None:
        bar = self._iface.messageBar()
        item = bar.createMessage("Aftermap", text)
        button = QPushButton(tr("Show"), item)
        button.clicked.connect(self.reopen)
        item.layout().addWidget(button)
        bar.pushWidget(item, level)

    def reopen(self) -> None:
        """Show the dialog, in front of others."""
        self.show()
        self.raise_()
        self.activateWindow()

    def _offer_unfinished(self) -> None:
        line = QgsSettings().value(UNFINISHED, "", type=str)
        if not line:
            return
        try:
            job = job_from_json(line)
        except JobError:  # of another version
            QgsSettings().remove(UNFINISHED)
            return
        self._offer(tr("The training of {} did not end.").format(Path(job.output).stem), job)

    def _offer(self, text: str, job: TrainModel) -> None:
        self.bar.clearWidgets()
        item = self.bar.createMessage(text)
        go_on = QPushButton(tr("Continue Where It Stopped"), item)
        forget = QPushButton(tr("Forget It"), item)
        go_on.setObjectName("continue")
        forget.setObjectName("forget")
        for button in (go_on, forget):
            button.setAutoDefault(False)
        go_on.clicked.connect(lambda: self._continue(job))
        forget.clicked.connect(self._forget)
        item.layout().addWidget(go_on)
        item.layout().addWidget(forget)
        self.bar.pushWidget(item, Qgis.MessageLevel.Warning)

    def _continue(self, job: TrainModel) -> None:
        self.bar.clearWidgets()
        for page in self._pages:
            page.show_job(job)
        settings = Settings.load()
        folders = tuple(str(folder) for folder in settings.model_folders)
        self.show_page(self.run_page)
        self.run_page.start_job(replace(job, model_folders=folders, cache=settings.cache))

    def _forget(self) -> None:
        QgsSettings().remove(UNFINISHED)
        self.bar.clearWidgets()
