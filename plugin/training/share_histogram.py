"""How many tiles have how much of a class, with a minimum share that is moved by mouse or keyboard."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qgis.PyQt.QtCore import QEvent, QPointF, QRectF, Qt, pyqtSignal
from qgis.PyQt.QtGui import QFontMetricsF, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from qgis.PyQt.QtWidgets import QToolTip, QWidget

from ..translation import tr
from .axes import Axis
from .charts import PlotArea, faded, ink, series_colour

BINS = 40
LEAST_RANGE = 0.3  # so that the usual 0.20 can be reached whatever the tiles hold
KEY_STEP = 0.01
GRIP_PX = 8.0


class ShareHistogram(PlotArea):
    """A bar for each range of the class share; those left of the line are tiles that go."""

    min_share_moved = pyqtSignal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        """A histogram of nothing."""
        super().__init__("", tr("Share of the class in a tile"), tr("Tiles"), parent)
        self._shares: list[float] = []
        self._counts: list[int] = []
        self._min_share = 0.0
        self._is_dragging = False
        self._is_movable = True
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(360, 200)
        self.setAccessibleName(tr("Histogram of class shares"))
        self.setAccessibleDescription(tr("Left and right arrow keys move the minimum share."))

    @property
    def min_share(self) -> float:
        """Where the line is."""
        return self._min_share

    def allow_moving(self, is_movable: bool) -> None:
        """Show the line, or not: the minimum share is one of the task's class alone."""
        self._is_movable = is_movable
        self.setEnabled(is_movable)
        self.update()

    @property
    def counts(self) -> list[int]:
        """Tiles in each bar, from the left."""
        return self._counts

    def show_shares(self, shares: Sequence[float]) -> None:
        """Draw the shares of these tiles, 0 to 1 each."""
        self._shares = list(shares)
        greatest = max([LEAST_RANGE, *self._shares])
        self.x_axis = Axis(0.0, min(1.0, math.ceil(greatest * 20) / 20))
        self._counts = [0] * BINS
        for share in self._shares:
            self._counts[min(BINS - 1, int(share / self.x_axis.high * BINS))] += 1
        self.y_axis = Axis(0.0, max([1, *self._counts]) * 1.15, is_whole=True)
        self.update()

    def set_min_share(self, share: float) -> None:
        """Put the line there, and say so if it was elsewhere."""
        share = round(min(max(share, 0.0), self.x_axis.high), 3)
        if share != self._min_share:
            self._min_share = share
            self.update()
            self.min_share_moved.emit(share)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: D102, N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = self.draw_frame(painter)
        kept = series_colour(self.palette(), 0)
        gone = faded(ink(self.palette()), 0.3)
        line = self.to_pixel(self._min_share, 0).x() if self._is_movable else area.left()
        if line > area.left():
            painter.fillRect(
                QRectF(area.left(), area.top(), line - area.left(), area.height()), faded(gone, 0.07)
            )
        width = self.x_axis.high / BINS
        for number, count in enumerate(self._counts):
            bar = QRectF(
                self.to_pixel(number * width, count), self.to_pixel((number + 1) * width, 0)
            ).adjusted(1, 0, -1, 0)
            cut = min(max(line, bar.left()), bar.right())
            painter.fillRect(QRectF(bar.topLeft(), QPointF(cut, bar.bottom())), gone)
            painter.fillRect(QRectF(QPointF(cut, bar.top()), bar.bottomRight()), kept)
        if self._is_movable:
            self._draw_line(painter, area, line)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: D102, N802
        if event.button() == Qt.MouseButton.LeftButton and self._shares:
            self._is_dragging = True
            self._follow(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: D102, N802
        if self._is_dragging:
            self._follow(event)
            return
        is_near = abs(event.pos().x() - self.to_pixel(self._min_share, 0).x()) < GRIP_PX
        self.setCursor(Qt.CursorShape.SplitHCursor if is_near else Qt.CursorShape.ArrowCursor)
        self._explain(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: D102, N802
        self._is_dragging = False

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: D102, N802
        steps = {Qt.Key.Key_Left: -KEY_STEP, Qt.Key.Key_Right: KEY_STEP}
        if event.key() in steps:
            self.set_min_share(self._min_share + steps[event.key()])
        elif event.key() == Qt.Key.Key_Home:
            self.set_min_share(0.0)
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QEvent) -> None:  # noqa: D102, N802
        super().focusInEvent(event)
        self.update()

    def _follow(self, event: QMouseEvent) -> None:
        area = self.plot_rectangle()
        self.set_min_share(self.x_axis.value((event.pos().x() - area.left()) / area.width()))

    def _explain(self, event: QMouseEvent) -> None:
        area = self.plot_rectangle()
        share = self.x_axis.value((event.pos().x() - area.left()) / area.width())
        number = int(share / self.x_axis.high * BINS)
        if not (self._counts and area.contains(QPointF(event.pos())) and 0 <= number < BINS):
            return
        width = self.x_axis.high / BINS
        text = tr("{} tiles with {:.3f} to {:.3f} of the class").format(
            self._counts[number], number * width, (number + 1) * width
        )
        QToolTip.showText(self.mapToGlobal(event.pos()), text, self)

    def _draw_line(self, painter: QPainter, area: QRectF, x: float) -> None:
        colour = series_colour(self.palette(), 1)
        painter.setPen(QPen(colour, 3 if self.hasFocus() else 2))
        painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
        painter.setBrush(colour)
        painter.drawEllipse(QPointF(x, area.top()), 5, 5)
        metrics = QFontMetricsF(self.font())
        text = tr("minimum share {:.2f}").format(self._min_share) if self._min_share else tr("all tiles kept")
        room = metrics.horizontalAdvance(text) + 10
        left = x + 10 if x + room < area.right() else x - room
        painter.drawText(QPointF(left, area.top() + metrics.ascent()), text)
