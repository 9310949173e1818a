"""The page *Workbench*: what the training will see, by what it is judged, and what is odd about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtWidgets import QLabel, QTabWidget, QVBoxLayout, QWidget

from ...core.jobs import TrainModel
from ..translation import tr
from ..worker_client import WorkerPool
from .augmentation_tab import AugmentationTab
from .balance_tab import BalanceTab
from .fields import Sentences
from .levels_tab import LevelsTab
from .loss_tab import LossTab
from .page import Page, scrolled
from .schedule_tab import ScheduleTab
from .split_tab import SplitTab
from .tasks import Task, tasks
from .tiles import Tile

FINDINGS_PX = 112


class WorkbenchPage(Page):
    """Tabs for what can be chosen, and under them the findings, in words."""

    def __init__(
        self, workers: WorkerPool, canvas: QgsMapCanvas | None, parent: QWidget | None = None
    ) -> None:
        """Without tiles yet."""
        super().__init__(parent)
        self._task = tasks()[0]
        self.balance = BalanceTab(workers)
        self.levels = LevelsTab()
        self.split = SplitTab(canvas)
        self.loss = LossTab()
        self.schedule = ScheduleTab(workers)
        self.augmentation = AugmentationTab()
        self._titles: dict[Page, str] = {
            self.balance: tr("Class balance"),
            self.levels: tr("Levels of damage"),
            self.split: tr("Split"),
            self.loss: tr("Loss"),
            self.schedule: tr("Schedule"),
            self.augmentation: tr("Augmentation"),
        }
        self._areas = {page: scrolled(page) for page in self._titles}
        self.tabs = QTabWidget()
        for page in self._titles:
            page.changed.connect(self.changed)
            page.objected.connect(self.objected)
        self.findings = Sentences("findings")
        self.findings.setFixedHeight(FINDINGS_PX)
        self._status = QLabel()
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._status)
        layout.addWidget(self.findings)
        self.show_task(self._task)

    @property
    def pages(self) -> list[Page]:
        """The tabs that the task has."""
        others = (self.balance, self.loss) if self._task.is_damage else (self.levels,)
        return [page for page in self._titles if page not in others]

    def values(self) -> dict[str, Any]:  # noqa: D102
        return {name: value for page in self.pages for name, value in page.values().items()}

    def show_task(self, task: Task) -> None:  # noqa: D102
        self._task = task
        self.tabs.clear()
        for page in self.pages:
            self.tabs.addTab(self._areas[page], self._titles[page])
            page.show_task(task)
        self.findings.clear()
        self.say_status(tr("What the diagnosis says"))

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        for page in self.pages:
            page.show_job(job)

    def show_scan(self, scan: Mapping[str, Any], tiles: Sequence[Tile]) -> None:
        """Show what the scan found."""
        if self._task.is_damage:
            self.levels.show_scan(scan["levels"], tiles)
        else:
            self.balance.show_tiles(tiles)

    def show_plan(self, values: Mapping[str, Any], tiles: Sequence[Tile], sheet: Path | None) -> None:
        """Show what the training would do."""
        if self._task.is_damage:
            self.levels.show_plan(values, tiles)
        else:
            self.balance.show_plan(values, tiles)
            self.loss.show_plan(values)
        self.split.show_plan(values, tiles)
        self.schedule.show_plan(values)
        self.augmentation.show_sheet(sheet)
        self.findings.show_sentences(values.get("findings", ()), tr("Nothing speaks against this training."))
        self.say_status(tr("What the diagnosis says"))

    def say_status(self, text: str) -> None:
        """Say what the findings are, or that they are on their way."""
        self._status.setText(f"<b>{text}</b>")

    def show_refusal(self, message: str) -> None:
        """Say why there is no plan."""
        self.findings.show_sentences([message])
        self.say_status(tr("This cannot be trained"))

    def close_down(self) -> None:
        """Stop what runs in the background, and take the outlines from the map."""
        self.balance.close_down()
        self.schedule.close_down()
        self.split.clear_map()
