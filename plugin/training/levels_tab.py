"""The tab *Levels of damage*: how many buildings teach each level, and what each weighs in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QLabel, QVBoxLayout, QWidget

from ..translation import tr
from .fields import Note, percent
from .level_bars import Bar, LevelBars
from .page import Page
from .tasks import Task
from .tiles import Tile, count_buildings


class LevelsTab(Page):
    """Nothing to choose: it shows the imbalance, and what the training does against it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """Without pairs yet."""
        super().__init__(parent)
        self._levels: Sequence[Mapping[str, Any]] = ()
        self.bars = LevelBars()
        self.bars.setObjectName("level_bars")
        self.legend = Note()
        self.merged = Note()
        self.merged.setObjectName("merged")
        self.weights = QLabel()
        self.weights.setTextFormat(Qt.TextFormat.RichText)
        self.weights.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.weights.setObjectName("weights")
        layout = QVBoxLayout(self)
        layout.addWidget(Note(tr("<b>Buildings by level of damage</b>")))
        layout.addWidget(self.bars)
        layout.addWidget(self.legend)
        layout.addSpacing(8)
        layout.addWidget(self.merged)
        layout.addWidget(self.weights)
        layout.addSpacing(8)
        layout.addWidget(
            Note(
                tr(
                    "Against the imbalance, three crops of five are drawn around a building, every level as "
                    "often as the others, and the cross-entropy of the levels, which is taken on buildings "
                    "only, has the weights above. An ordinal term makes it worse to take a destroyed "
                    "building for an undamaged one than for a damaged one. Where buildings are is learned "
                    "beside it, by BCE and Dice."
                )
            )
        )
        layout.addStretch(1)

    def show_task(self, task: Task) -> None:  # noqa: D102
        self._levels = ()
        self.bars.show_bars(())
        for label in (self.legend, self.merged, self.weights):
            label.setText("")

    def show_scan(self, levels: Sequence[Mapping[str, Any]], tiles: Sequence[Tile]) -> None:
        """Show the levels of all pairs of a scan, as it lists them."""
        self._levels = levels
        self.bars.show_bars(
            [Bar(one["name"], one["colour"], count_buildings(tiles, one["code"])) for one in levels]
        )
        self.legend.setText(tr("Buildings of all pairs."))
        self.merged.setText("")
        self.weights.setText("")

    def show_plan(self, values: Mapping[str, Any], tiles: Sequence[Tile]) -> None:
        """Show the levels on both sides of the split, and those that the model will tell apart."""
        train, judge = ([tile for tile in tiles if tile.part == part] for part in ("train", "validation"))
        self.bars.show_bars(
            [
                Bar(
                    one["name"],
                    one["colour"],
                    count_buildings(train, one["code"]),
                    count_buildings(judge, one["code"]),
                )
                for one in self._levels
            ]
        )
        self.legend.setText(
            tr("The full colour and the first number are buildings that are trained on, the pale ones judge.")
        )
        self.merged.setText("<br>".join(_sentence(one) for one in values["levels"] if one["merged"]))
        self.weights.setText(_table(values["levels"]))


def _sentence(one: Mapping[str, Any]) -> str:
    names = ", ".join(f"<i>{name}</i>" for name in one["merged"])
    text = tr("One level for this model, <b>{}</b>, for lack of 50 training buildings of each: {}.")
    return text.format(one["name"], names)


def _table(levels: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            tr("<b>The model will tell</b>"),
            tr("<b>training buildings</b>"),
            tr("<b>share</b>"),
            tr("<b>validation buildings</b>"),
            tr("<b>weight in the loss</b>"),
        )
    ]
    for one in levels:
        mark = f"<span style='color:{one['colour']}'>■</span> {one['name']}"
        weight = f"<b>{one['weight']:.2f}</b> &nbsp; = {one['formula']}"
        rows.append((mark, one["train"], percent(one["share"]), one["validation"], weight))
    cells = "".join(
        "<tr>" + "".join(f"<td style='padding-right:24px'>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table cellpadding='2'>{cells}</table>"
