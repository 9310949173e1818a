"""The tab *Schedule*: how long, and with which learning rate at which step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Callable

from qgis.PyQt.QtWidgets import (
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...core.jobs import FindLearningRate, Metric, Result, TrainModel
from ..translation import tr
from ..worker_client import WorkerPool
from .axes import short
from .background import WorkerJob
from .charts import Level, LineChart, Series
from .fields import Note, choice, choose, integer, number
from .page import Page
from .tasks import Task

BY_DATA, BY_EPOCHS, BY_STEPS = "data", "epochs", "steps"


class ScheduleTab(Page):
    """Length, schedule with its curve over the whole run, and the test that finds a learning rate."""

    def __init__(self, workers: WorkerPool, parent: QWidget | None = None) -> None:
        """The defaults of the job."""
        super().__init__(parent)
        self.ask_job: Callable[[], TrainModel | None] = lambda: None
        self._test = WorkerJob(workers, tr("Learning-rate range test"), self)
        self._tried: list[tuple[float, float, float]] = []
        self._suggested = 0.0
        self._has_test = True
        self._make_fields()
        self.curve = LineChart(
            tr("Learning rate over the run"), tr("step"), anchor=0.0, empty=tr("Choose tiles first")
        )
        self.curve.setObjectName("schedule_curve")
        self.test_chart = LineChart(
            tr("Range test: loss at each learning rate"),
            tr("learning rate"),
            is_log_x=True,
            empty=tr("“Find Learning Rate” tries them all, in a minute or two"),
        )
        layout = QVBoxLayout(self)
        layout.addLayout(self._form())
        charts = QHBoxLayout()
        charts.addWidget(self.curve)
        charts.addWidget(self.test_chart)
        layout.addLayout(charts, 1)
        layout.addLayout(self._test_row())
        self._connect()
        self._show_fields()

    def values(self) -> dict[str, Any]:  # noqa: D102
        length = self.length.currentData()
        return {
            "epochs": self.epochs.value() if length == BY_EPOCHS else 0.0,
            "steps": self.steps.value() if length == BY_STEPS else 0,
            "schedule": self.schedule.currentData(),
            "step_every": self.step_every.value(),
            "step_unit": self.step_unit.currentData(),
            "learning_rate": self.learning_rate.value(),
        }

    def show_task(self, task: Task) -> None:  # noqa: D102
        self._test.cancel()
        self._tried, self._suggested = [], 0.0
        self._draw_tries()
        self.curve.show_series([])
        self.length_note.setText("")
        self._has_test = not task.is_damage
        self._show_fields()

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        if job.epochs:
            self.epochs.setValue(job.epochs)
        if job.steps:
            self.steps.setValue(job.steps)
        choose(self.length, BY_STEPS if job.steps else BY_EPOCHS if job.epochs else BY_DATA)
        choose(self.schedule, job.schedule)
        self.step_every.setValue(job.step_every)
        choose(self.step_unit, job.step_unit)
        self.learning_rate.setValue(job.learning_rate)

    def show_plan(self, values: Mapping[str, Any]) -> None:
        """Draw the learning rate over the whole run."""
        rates = [(step, rate) for step, rate in values["learning_rates"]]
        self.curve.show_series([Series(tr("learning rate"), rates)])
        self.length_note.setText(
            tr("{} steps of {} crops of {} px, or {} epochs; the peak rate is {}.").format(
                values["steps"],
                values["batch_size"],
                values["crop_px"],
                short(round(values["steps"] / values["steps_per_epoch"], 1)),
                short(values["learning_rate"]),
            )
        )

    def close_down(self) -> None:
        """Stop what runs in the background."""
        self._test.cancel()

    def _make_fields(self) -> None:
        self.length = choice(
            "length",
            [
                (BY_DATA, tr("As many steps as the data ask for")),
                (BY_EPOCHS, tr("Epochs")),
                (BY_STEPS, tr("Steps")),
            ],
        )
        self.epochs = number("epochs", 10000, 0.1, 1, 1)
        self.epochs.setValue(20)
        self.steps = integer("steps", 10_000_000, 1, 100)
        self.steps.setValue(1000)
        self.length_note = Note()
        self.length_note.setObjectName("length_note")
        self.schedule = choice(
            "schedule",
            [
                ("wsd", tr("Warm-up, stable, decay (recommended)")),
                ("cosine", tr("Cosine, after a warm-up")),
                ("one_cycle", tr("One cycle")),
                ("step", tr("Step: a tenth from time to time")),
                ("plateau", tr("Plateau: less when it no longer gets better")),
                ("constant", tr("Constant")),
            ],
        )
        self.step_every = integer("step_every", 1_000_000, 1)
        self.step_every.setValue(TrainModel.step_every)
        self.step_unit = choice("step_unit", [("epoch", tr("epochs")), ("batch", tr("batches"))])
        self.learning_rate = number("learning_rate", 1, 0, 6, 0.0001, "", tr("the recipe's"))
        self.find_button = QPushButton(tr("Find Learning Rate…"))
        self.find_button.setObjectName("find_rate")
        self.apply_button = QPushButton(tr("Apply"))
        self.apply_button.setObjectName("apply_rate")
        self.test_note = QLabel()
        self.test_note.setObjectName("test_note")

    def _form(self) -> QGridLayout:
        length, every = QHBoxLayout(), QHBoxLayout()
        length.addWidget(self.length)
        length.addWidget(self.epochs)
        length.addWidget(self.steps)
        length.addWidget(self.length_note, 1)
        self._every_label = QLabel(tr("a tenth every"))
        every.addWidget(self.schedule)
        every.addWidget(self._every_label)
        every.addWidget(self.step_every)
        every.addWidget(self.step_unit)
        every.addStretch(1)
        form = QFormLayout()
        form.addRow(tr("Length"), length)
        form.addRow(tr("Schedule"), every)
        form.addRow(tr("Peak learning rate"), self.learning_rate)
        grid = QGridLayout()
        grid.addLayout(form, 0, 0)
        return grid

    def _test_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(self.find_button)
        row.addWidget(self.test_note, 1)
        row.addWidget(self.apply_button)
        return row

    def _connect(self) -> None:
        for box in (self.length, self.schedule, self.step_unit):
            box.currentIndexChanged.connect(lambda _: self._follow())
        for box in (self.epochs, self.steps, self.step_every, self.learning_rate):
            box.valueChanged.connect(lambda _: self.changed.emit())
        self.find_button.clicked.connect(self._find_or_cancel)
        self.apply_button.clicked.connect(lambda: self.learning_rate.setValue(self._suggested))
        self._test.progressed.connect(lambda _, text: self.test_note.setText(text))
        self._test.metric.connect(self._add_try)
        self._test.succeeded.connect(self._take_suggestion)
        self._test.failed.connect(self._refuse)
        self._test.ended.connect(self._show_fields)

    def _follow(self) -> None:
        self._show_fields()
        self.changed.emit()

    def _show_fields(self) -> None:
        self.epochs.setVisible(self.length.currentData() == BY_EPOCHS)
        self.steps.setVisible(self.length.currentData() == BY_STEPS)
        for widget in (self._every_label, self.step_every, self.step_unit):
            widget.setVisible(self.schedule.currentData() == "step")
        self.find_button.setText(tr("Cancel") if self._test.is_running else tr("Find Learning Rate…"))
        self.apply_button.setVisible(self._suggested > 0 and not self._test.is_running)
        for widget in (self.find_button, self.test_note, self.test_chart):
            widget.setVisible(self._has_test)

    def _find_or_cancel(self) -> None:
        if self._test.is_running:
            self._test.cancel()
            return
        job = self.ask_job()
        if job is None:
            self.objected.emit(tr("Choose a folder of labelled tiles first."))
            return
        self._tried, self._suggested = [], 0.0
        self._draw_tries()
        self._test.start(FindLearningRate(**asdict(job)))
        self.test_note.setText(tr("Reading the tiles …"))
        self._show_fields()

    def _add_try(self, metric: Metric) -> None:
        values = metric.values
        self._tried.append((values["learning_rate"], values["loss"], values["smoothed"]))
        self._draw_tries()

    def _take_suggestion(self, result: Result) -> None:
        self._tried = [tuple(one) for one in result.values["curve"]]
        self._suggested = result.values["learning_rate"]
        self._draw_tries()
        self.test_note.setText(
            tr("Suggested: {}, where the loss falls steepest.").format(short(self._suggested))
        )

    def _refuse(self, message: str) -> None:
        self.test_note.setText("")
        self.objected.emit(message)

    def _draw_tries(self) -> None:
        levels = [Level(tr("suggested"), self._suggested, is_upright=True)] if self._suggested else []
        self.test_chart.show_series(
            [
                Series(tr("loss"), [(rate, loss) for rate, loss, _ in self._tried], is_faint=True),
                Series(tr("smoothed"), [(rate, smoothed) for rate, _, smoothed in self._tried]),
            ],
            levels,
        )
