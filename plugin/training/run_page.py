"""The page *Run*: what is trained and where it goes, and, while it trains, how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import QSignalBlocker, Qt, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from ...core.cards import PACKAGE_SUFFIX, heads_of, list_packages
from ...core.jobs import Figure, Metric, Result, TrainModel
from ..algorithms.base import DEVICES
from ..algorithms.train_model import parameters_of
from ..model_widget import ModelField, start_models
from ..run_folder import file_name
from ..settings import Settings
from ..translation import tr
from .background import AlgorithmRun
from .charts import Level, LineChart, Series
from .fields import Note, Sentences, choice, choose, file_field, integer, number
from .page import Page
from .pictures import Thumbnails
from .tasks import Task, task_named, tasks

ALGORITHM = "aftermap:trainmodel"
CURVES_FIGURE = "learning-curves.png"  # the page draws these itself
WARNINGS_PX = 84
REDRAW_MS = 250


class RunPage(Page):
    """The form of the run, its buttons, curves and pictures. It outlives the dialog's being closed."""

    started = pyqtSignal(object)
    finished = pyqtSignal(object)
    broke = pyqtSignal(str)
    cancelled = pyqtSignal()
    start_asked = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        """Nothing runs yet."""
        super().__init__(parent)
        self.run = AlgorithmRun(self)
        self._is_paused = False
        self._task = self._drawn_task = tasks()[0]
        self._suggested = ""
        self._training: dict[str, list[tuple[float, float]]] = {}
        self._validation: dict[str, list[tuple[float, float]]] = {}
        self._plan: Mapping[str, Any] = {}
        self._drawn_plan: Mapping[str, Any] = {}
        self.figures: dict[str, Figure] = {}
        self._redraw = QTimer(self)  # a fast training must not keep QGIS busy with curves
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        layout = QVBoxLayout(self)
        layout.addWidget(self._setup_box())
        layout.addLayout(self._button_row())
        layout.addWidget(self._status_row())
        self._view = self._make_view()
        self._view.hide()
        layout.addWidget(self._view, 1)
        layout.addStretch()
        self.warnings = Sentences("warnings")
        self.warnings.setFixedHeight(WARNINGS_PX)
        self.warnings.hide()
        layout.addWidget(self.warnings)
        self._connect()
        self.show_task(self._task)
        self._show_state()

    def values(self) -> dict[str, Any]:  # noqa: D102
        return {
            "start_from": self.start.value() or TrainModel.start_from,
            "encoder_weights": self.encoder_weights.filePath().strip(),
            "output": self.output.filePath().strip(),
            "working_gsd_m": self.working_gsd.value() or None,
            "batch_size": self.batch_size.value(),
            "crop_px": self.crop_px.value(),
            "accumulate": self.accumulate.value(),
            "patience": self.patience.value(),
            "seed": self.seed.value(),
            "device": self.device.currentData(),
        }

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        self.start.set_value(job.start_from)
        self.encoder_weights.setFilePath(job.encoder_weights)
        self.output.setFilePath(job.output)
        self.working_gsd.setValue(job.working_gsd_m or 0.0)
        self.batch_size.setValue(job.batch_size)
        self.crop_px.setValue(job.crop_px)
        self.accumulate.setValue(job.accumulate)
        self.patience.setValue(job.patience)
        self.seed.setValue(job.seed)
        choose(self.device, job.device)

    def show_task(self, task: Task) -> None:  # noqa: D102
        self._task, self._plan = task, {}
        self.summary.setText("")
        self._list_starts()
        if not self.run.is_running:
            self._draw_for(task)

    def suggest_output(self, folders: tuple[str, ...]) -> None:
        """Name the model after its task and tiles, in the user's folder of models, if no one has named it."""
        if folders and self.output.filePath().strip() in ("", self._suggested):
            name = f"{self._task.name}-{file_name(Path(folders[0]).name)}{PACKAGE_SUFFIX}"
            self._suggested = str(Settings.load().model_folders[0] / name)
            self.output.setFilePath(self._suggested)

    def show_plan(self, values: Mapping[str, Any]) -> None:
        """Say what would be trained; remember its length, and what a constant guess costs, for the charts."""
        self._plan = values
        sides = self._task.counts.format(values["train_tiles"], values["validation_tiles"])
        text = tr("{} steps of {} crops of {} px")
        steps = text.format(values["steps"], values["batch_size"], values["crop_px"])
        self.summary.setText(f"{sides}; {steps}.")

    def start_job(self, job: TrainModel) -> None:
        """Train; the run goes on when the dialog is closed."""
        self._training, self._validation = {}, {}
        self.pictures.clear()
        self.figures = {}
        self.warnings.clear()
        self.warnings.hide()
        self.progress.setValue(0)
        self.memory.setText("")
        self.status.setText(tr("The worker starts …"))
        self._is_paused = False
        self._setup.setCollapsed(True)
        self._view.show()
        self._drawn_plan = self._plan
        self._draw_for(task_named(job.task))
        self.run.start(ALGORITHM, parameters_of(job))
        self.started.emit(job)
        self._show_state()

    def _setup_box(self) -> QWidget:
        self._setup = QgsCollapsibleGroupBox(tr("What is trained, and where it goes"))
        self.start = ModelField([])
        self.start.setObjectName("start")
        self.output = file_field(
            "output", tr("Model packages") + f" (*{PACKAGE_SUFFIX})", tr("the new model"), is_new=True
        )
        self.device = choice("device", [(name, name) for name in DEVICES])
        self.device.setItemText(0, tr("the fastest that is there"))
        advanced = QgsCollapsibleGroupBox(tr("Advanced"))
        advanced.setCollapsed(True)
        self.batch_size = integer("batch_size", 512, 0, 1, "", tr("by their size"))
        self.crop_px = integer("crop_px", 2048, 0, 32, " px", tr("what the tiles hold"))
        self.accumulate = integer("accumulate", 64, 1)
        self.patience = integer("patience", 100, 0, 1, "", tr("never"))
        self.seed = integer("seed", 2**31 - 1)
        self.seed.setValue(TrainModel.seed)
        self.working_gsd = number("working_gsd", 10, 0, 2, 0.1, " m", tr("the start model's"))
        self.encoder_weights = file_field("encoder_weights", "safetensors (*.safetensors)", tr("none"))
        self._setup.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        form = QFormLayout(self._setup)
        form.addRow(tr("Start from"), self.start)
        form.addRow(tr("New model"), self.output)
        form.addRow(tr("Device"), self.device)
        self.summary = Note()
        self.summary.setObjectName("summary")
        form.addRow(tr("Plan"), self.summary)
        form.addRow(advanced)
        grid = QGridLayout(advanced)
        rows = (
            (tr("Crops in a batch"), self.batch_size),
            (tr("Side of a crop"), self.crop_px),
            (tr("Batches that make a step"), self.accumulate),
            (tr("Stop after rounds without a better score"), self.patience),
            (tr("Seed"), self.seed),
            (tr("Ground resolution of the network"), self.working_gsd),
            (tr("Encoder weights for a new network"), self.encoder_weights),
        )
        for number_, (text, widget) in enumerate(rows):
            grid.addWidget(QLabel(text), number_ // 2, 2 * (number_ % 2))
            grid.addWidget(widget, number_ // 2, 2 * (number_ % 2) + 1)
        return self._setup

    def _button_row(self) -> QHBoxLayout:
        self.start_button = QPushButton(tr("Start Training"))
        self.pause_button = QPushButton(tr("Pause"))
        self.finish_button = QPushButton(tr("Stop and Keep the Best"))
        self.cancel_button = QPushButton(tr("Cancel"))
        self.finish_button.setToolTip(tr("Ends now: the best network so far is calibrated and written."))
        self.cancel_button.setToolTip(
            tr("Writes no model; started again with the same settings, it continues where it stopped.")
        )
        row = QHBoxLayout()
        for name, button in (
            ("start_training", self.start_button),
            ("pause", self.pause_button),
            ("finish", self.finish_button),
            ("cancel_training", self.cancel_button),
        ):
            button.setObjectName(name)
            row.addWidget(button)
        self.hint = Note()
        row.addWidget(self.hint, 1)
        return row

    def _status_row(self) -> QWidget:
        self._status = QWidget()
        self.progress = QProgressBar()
        self.progress.setFixedWidth(220)
        self.status = QLabel()
        self.status.setObjectName("status")
        self.memory = QLabel()
        self.memory.setObjectName("memory")
        row = QHBoxLayout(self._status)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.progress)
        row.addWidget(self.status, 1)
        row.addWidget(self.memory)
        return self._status

    def _make_view(self) -> QWidget:
        step, soon = tr("step"), tr("drawn once it trains")
        self.loss_chart = LineChart(tr("Loss"), step, anchor=0.0, empty=soon)
        self.score_chart = LineChart(
            tr("Scores of the validation"), step, anchor=0.0, empty=tr("drawn after the first round")
        )
        self.rate_chart = LineChart(tr("Learning rate"), step, anchor=0.0, empty=soon)
        self.share_chart = LineChart("", step, anchor=0.0, empty=soon)
        self.sheet_note = Note()
        self.pictures = Thumbnails()
        self.pictures.setObjectName("triptychs")
        charts = QWidget()
        grid = QGridLayout(charts)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.loss_chart, 0, 0)
        grid.addWidget(self.score_chart, 0, 1)
        grid.addWidget(self.rate_chart, 1, 0)
        grid.addWidget(self.share_chart, 1, 1)
        sheet = QWidget()
        sheet_layout = QVBoxLayout(sheet)
        sheet_layout.setContentsMargins(0, 0, 0, 0)
        sheet_layout.addWidget(self.sheet_note)
        sheet_layout.addWidget(self.pictures, 1)
        splitter = QSplitter(Qt.Orientation.Horizontal)
        splitter.addWidget(charts)
        splitter.addWidget(sheet)
        splitter.setSizes([680, 340])
        return splitter

    def _connect(self) -> None:
        run = self.run
        self._redraw.timeout.connect(self._draw)
        run.progressed.connect(lambda percent: self.progress.setValue(round(percent)))
        run.said.connect(self._say)
        run.warned.connect(self._warn)
        run.metric.connect(self._add_metric)
        run.figure.connect(self._add_figure)
        run.succeeded.connect(self._succeed)
        run.failed.connect(self._fail)
        run.ended.connect(self._end)
        self.start_button.clicked.connect(self.start_asked)
        self.pause_button.clicked.connect(self._pause_or_resume)
        self.finish_button.clicked.connect(self._finish)
        self.cancel_button.clicked.connect(run.cancel)
        self.start.changed.connect(self.changed)
        for box in (
            self.batch_size,
            self.crop_px,
            self.accumulate,
            self.patience,
            self.seed,
            self.working_gsd,
        ):
            box.valueChanged.connect(lambda _: self.changed.emit())

    def _list_starts(self) -> None:
        """List the models that a training for the task can start from, and keep the chosen one."""
        field, head = self.start, self._task.head
        chosen = field.value() or TrainModel.start_from
        with QSignalBlocker(field.list):
            field.list.clear()
            for text, value in start_models():
                field.list.addItem(text, value)
            for package in list_packages(Settings.load().model_folders):
                if package.card.task == self._task.name or head in heads_of(package.card):
                    field.list.addItem(package.card.name, package.card.name)
                    last = field.list.count() - 1
                    field.list.setItemData(last, package.card.title, Qt.ItemDataRole.ToolTipRole)
            field.set_value(chosen if field.list.findData(chosen) >= 0 else TrainModel.start_from)

    def _draw_for(self, task: Task) -> None:
        """Draw the curves, and call them as this task does."""
        self._drawn_task = task
        self.share_chart.title = task.share
        self.sheet_note.setText(task.sheet)
        self._draw()

    def _pause_or_resume(self) -> None:
        self._is_paused = not self._is_paused
        self.run.tell("Pause" if self._is_paused else "Resume")
        self._show_state()

    def _finish(self) -> None:
        self.run.tell("Finish")
        self._is_paused = False
        self.finish_button.setEnabled(False)
        self.status.setText(tr("Ends with the best network so far …"))

    def _say(self, text: str) -> None:
        if not self._is_paused:
            self.status.setText(text)

    def _warn(self, text: str) -> None:
        self.warnings.add(text)
        self.warnings.show()
        self.warnings.scrollToBottom()

    def _add_metric(self, metric: Metric) -> None:
        known = {"training": self._training, "validation": self._validation}.get(metric.name)
        if known is None:
            return
        for name, value in metric.values.items():
            if isinstance(value, (int, float)):
                known.setdefault(name, []).append((metric.step, value))
        memory = metric.values.get("memory_mb")
        if memory:
            text = tr("{device}, {memory:.1f} GB of memory")
            self.memory.setText(text.format(device=metric.values.get("device", ""), memory=memory / 1000))
        if metric.name == "validation":
            self._draw()
        elif not self._redraw.isActive():
            self._redraw.start()

    def _add_figure(self, figure: Figure) -> None:
        if Path(figure.path).name != CURVES_FIGURE:
            self.figures[figure.title] = figure
            self.pictures.show_figure(figure)

    def _succeed(self, result: Result) -> None:
        self._draw()
        self.progress.setValue(self.progress.maximum())
        device = result.values.get("device")
        self.status.setText(tr("Done, on {}.").format(device) if device else tr("Done."))
        self.finished.emit(result)

    def _fail(self, message: str) -> None:
        self.status.setText(tr("Stopped: started again, it continues where it stopped."))
        self._warn(message)
        self.broke.emit(message)

    def _end(self) -> None:
        if self.run.is_cancelled:
            self.status.setText(tr("Cancelled: started again, it continues where it stopped."))
            self.cancelled.emit()
        self._is_paused = False
        self._show_state()

    def _show_state(self) -> None:
        is_running = self.run.is_running
        self._setup.setEnabled(not is_running)
        self.start_button.setEnabled(not is_running)
        for button in (self.pause_button, self.finish_button, self.cancel_button):
            button.setEnabled(is_running)
        self.pause_button.setText(tr("Resume") if self._is_paused else tr("Pause"))
        self._status.setVisible(is_running or bool(self.status.text()))
        if self._is_paused:
            self.status.setText(tr("Paused after this step."))
        self.hint.setText(
            tr("You may close this window and go on working: the training continues in the background.")
            if is_running
            else ""
        )

    def _draw(self) -> None:
        training, validation = self._training, self._validation
        task = self._drawn_task
        losses = [Series(tr("loss in training"), training.get("loss", ()))]
        levels = []
        if "bce" in training:
            losses.append(Series(task.plain_loss, training["bce"]))
        if "loss" in validation:
            losses.append(Series(task.judged_loss, validation["loss"], has_markers=True))
        plan = self._drawn_plan
        if "constant_loss" in plan and training:
            levels = [Level(task.constant_loss, plan["constant_loss"])]
        end = plan.get("steps", 0)
        self.loss_chart.show_series(losses, levels, end)
        self.score_chart.show_series(
            [
                Series(text, validation[name], is_faint=is_faint, has_markers=True)
                for name, text, is_faint in task.scores
                if name in validation
            ],
            x_end=end,
        )
        self.rate_chart.show_series(
            [Series(tr("learning rate"), training.get("learning_rate", ()))], x_end=end
        )
        self.share_chart.show_series([Series(tr("class share"), training.get("class_share", ()))], x_end=end)
