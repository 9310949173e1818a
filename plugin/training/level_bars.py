"""How many buildings there are of each level of damage, as bars with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qgis.PyQt.QtCore import QPointF, QRectF, QSize, Qt
from qgis.PyQt.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent
from qgis.PyQt.QtWidgets import QSizePolicy, QWidget

from ..translation import tr
from .charts import faded, ink, paper

ROW_LINES = 2.4  # height of a row, in lines of text
PALE = 0.4


@dataclass(frozen=True)
class Bar:
    """A level.

    Attributes:
        name: Written to the left of it.
        colour: As ``#rrggbb``.
        train: Buildings that are trained on.
        validation: Buildings that judge.
    """

    name: str
    colour: str
    train: int
    validation: int = 0


class LevelBars(QWidget):
    """A row for each level; what judges is drawn paler, behind what is trained on."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """No levels."""
        super().__init__(parent)
        self._bars: tuple[Bar, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(tr("Buildings by level of damage"))

    @property
    def bars(self) -> tuple[Bar, ...]:
        """What is shown, from top to bottom."""
        return self._bars

    def show_bars(self, bars: Sequence[Bar]) -> None:
        """Show these levels in place of those before."""
        self._bars = tuple(bars)
        self.setAccessibleDescription("; ".join(f"{bar.name}: {_numbers(bar)}" for bar in bars))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:  # noqa: D102, N802  Qt's name
        line = QFontMetricsF(self.font()).height()
        return QSize(480, round(line * (0.8 + ROW_LINES * max(len(self._bars), 1))))

    def minimumSizeHint(self) -> QSize:  # noqa: D102, N802
        return QSize(320, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: D102, N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), paper(self.palette()))
        if not self._bars:
            return
        metrics = QFontMetricsF(self.font())
        line = metrics.height()
        left = max(metrics.horizontalAdvance(bar.name) for bar in self._bars) + 1.4 * line
        right = max(metrics.horizontalAdvance(_numbers(bar)) for bar in self._bars) + 1.4 * line
        room = max(self.width() - left - right, 1.0)
        most = max(1, *(bar.train + bar.validation for bar in self._bars))
        text = ink(self.palette())
        for number, bar in enumerate(self._bars):
            middle = line * (0.4 + ROW_LINES * (number + 0.5))
            top, height = middle - 0.7 * line, 1.4 * line
            trained, judged = (room * count / most for count in (bar.train, bar.validation))
            colour = QColor(bar.colour)
            painter.fillRect(QRectF(left, top, trained, height), colour)
            painter.fillRect(QRectF(left + trained, top, judged, height), faded(colour, PALE))
            painter.setPen(faded(text, 0.4))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(QRectF(left, top, max(trained + judged, 1.0), height))
            painter.setPen(text)
            base = middle + 0.32 * line
            name = left - 0.6 * line - metrics.horizontalAdvance(bar.name)
            painter.drawText(QPointF(name, base), bar.name)
            painter.drawText(QPointF(left + trained + judged + 0.6 * line, base), _numbers(bar))


def _numbers(bar: Bar) -> str:
    return f"{bar.train} + {bar.validation}" if bar.validation else str(bar.train)
