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
from .loss_tab import LossTab
from .page import Page, scrolled
from .schedule_tab import ScheduleTab
from .split_tab import SplitTab
from .tiles import Tile

FINDINGS_PX = 112


class WorkbenchPage(Page):
    """Tabs for what can be chosen, and under them the findings, in words."""

    def __init__(
        self, workers: WorkerPool, canvas: QgsMapCanvas | None, parent: QWidget | None = None
    ) -> None:
        """Without tiles yet."""
        super().__init__(parent)
        self.balance = BalanceTab(workers)
        self.split = SplitTab(canvas)
        self.loss = LossTab()
        self.schedule = ScheduleTab(workers)
        self.augmentation = AugmentationTab()
        self._pages: tuple[Page, ...] = (
            self.balance,
            self.split,
            self.loss,
            self.schedule,
            self.augmentation,
        )
        titles = (tr("Class balance"), tr("Split"), tr("Loss"), tr("Schedule"), tr("Augmentation"))
        self.tabs = QTabWidget()
        for page, title in zip(self._pages, titles):
            self.tabs.addTab(scrolled(page), title)
            page.changed.connect(self.changed)
            page.objected.connect(self.objected)
        self.findings = Sentences("findings")
        self.findings.setFixedHeight(FINDINGS_PX)
        self._status = QLabel()
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._status)
        layout.addWidget(self.findings)
        self.say_status(tr("What the diagnosis says"))

    def values(self) -> dict[str, Any]:  # noqa: D102
        return {name: value for page in self._pages for name, value in page.values().items()}

    def show_job(self, job: TrainModel) -> None:  # noqa: D102
        for page in self._pages:
            page.show_job(job)

    def show_tiles(self, tiles: Sequence[Tile]) -> None:
        """Show what the scan found."""
        self.balance.show_tiles(tiles)

    def show_plan(self, values: Mapping[str, Any], tiles: Sequence[Tile], sheet: Path | None) -> None:
        """Show what the training would do."""
        self.balance.show_plan(values, tiles)
        self.split.show_plan(values, tiles)
        self.loss.show_plan(values)
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
