"""Line charts that Qt alone draws, in the colours of QGIS's theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qgis.PyQt.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qgis.PyQt.QtGui import (
    QColor,
    QFontMetricsF,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
    QPolygonF,
    QTextOption,
)
from qgis.PyQt.QtWidgets import QSizePolicy, QToolTip, QWidget

from .axes import Axis, short

# Okabe and Ito (2008), told apart by the colour-blind too; those for dark themes are its lighter half.
ON_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
ON_DARK = ("#56b4e9", "#e69f00", "#20c997", "#f0a5cb")
NEAR_PX = 24.0
LEAST_CONTRAST = 0.35  # of lightness
OPAQUE = 255


def paper(palette: QPalette) -> QColor:
    """The colour that a theme writes on; one that lets through shows what is behind."""
    base = palette.color(QPalette.ColorRole.Base)
    return base if base.alpha() == OPAQUE else palette.color(QPalette.ColorRole.Window)


def ink(palette: QPalette) -> QColor:
    """The colour that a theme writes in.

    QGIS's dark themes are style sheets, which set some of a palette's colours and leave the others as they
    were: the first that can be read on the paper is taken.
    """
    ground = paper(palette)
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.WindowText):
        colour = palette.color(role)
        if abs(colour.lightnessF() - ground.lightnessF()) > LEAST_CONTRAST:
            return colour
    return QColor("#dddddd") if ground.lightnessF() < 0.5 else QColor("#222222")


def series_colour(palette: QPalette, number: int) -> QColor:
    """The colour of the series with this number."""
    colours = ON_DARK if paper(palette).lightnessF() < 0.5 else ON_LIGHT
    return QColor(colours[number % len(colours)])


def faded(colour: QColor, alpha: float) -> QColor:
    """The colour, let through to `alpha`."""
    pale = QColor(colour)
    pale.setAlphaF(alpha)
    return pale


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: For legend and tooltip.
        points: Pairs of x and y; a y that is not finite is a gap.
        is_faint: Drawn thin and pale, beside a smoothed one.
        has_markers: Each point is marked, as where there are few.
    """

    name: str
    points: Sequence[tuple[float, float]]
    is_faint: bool = False
    has_markers: bool = False


@dataclass(frozen=True)
class Level:
    """A value to which a chart's lines are compared: dashed, across the chart.

    Attributes:
        name: Written beside it.
        value: Where; on the y axis, or on the x axis if it `is_upright`.
        is_upright: Whether the line runs from bottom to top.
    """

    name: str
    value: float
    is_upright: bool = False


class PlotArea(QWidget):
    """The frame that charts share: title, axes with ticks and grid, and the place inside them."""

    def __init__(self, title: str, x_label: str, y_label: str, parent: QWidget | None = None) -> None:
        """An empty chart."""
        super().__init__(parent)
        self.title, self.x_label, self.y_label = title, x_label, y_label
        self.x_axis, self.y_axis = Axis(0, 1), Axis(0, 1)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(220, 140)
        self.setAccessibleName(title)

    def sizeHint(self) -> QSize:  # noqa: D102, N802  QGIS's name
        return QSize(380, 220)

    def plot_rectangle(self) -> QRectF:
        """The place of the curves, in pixels of the widget."""
        metrics = QFontMetricsF(self.font())
        line = metrics.height()
        ticks = self.y_axis.ticks(self._tick_count(self.height(), 3 * line))
        widest = max((metrics.horizontalAdvance(short(t)) for t in ticks), default=0)
        left = widest + 0.9 * line + (line if self.y_label else 0)
        top = (1.5 * line if self.title else 0.6 * line) + self.header_height()
        bottom = 1.5 * line + (line if self.x_label else 0)
        return QRectF(
            left, top, max(self.width() - left - 0.9 * line, 1), max(self.height() - top - bottom, 1)
        )

    def header_height(self) -> float:
        """Room between title and curves, for a legend."""
        return 0.0

    def to_pixel(self, x: float, y: float, area: QRectF | None = None) -> QPointF:
        """Where a point of the chart lies in the widget.

        Args:
            x: In values of the x axis.
            y: In values of the y axis.
            area: `plot_rectangle`, where many points are asked for: it takes longer than all else.
        """
        area = area or self.plot_rectangle()
        return QPointF(
            area.left() + self.x_axis.position(x) * area.width(),
            area.bottom() - self.y_axis.position(y) * area.height(),
        )

    def draw_frame(self, painter: QPainter) -> QRectF:
        """Draw all but the curves.

        Returns:
            The place of the curves.
        """
        area, metrics = self.plot_rectangle(), QFontMetricsF(self.font())
        line = metrics.height()
        text = ink(self.palette())
        painter.fillRect(self.rect(), paper(self.palette()))
        self.draw_title(painter, area.left())
        grid = QPen(faded(text, 0.13), 1)
        pale = faded(text, 0.75)
        for tick in self.x_axis.ticks(self._tick_count(area.width(), 4.5 * line)):
            x = area.left() + self.x_axis.position(tick) * area.width()
            painter.setPen(grid)
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
            painter.setPen(pale)
            width = metrics.horizontalAdvance(short(tick))
            left = min(x - width / 2, self.width() - width - 1)
            painter.drawText(QPointF(left, area.bottom() + 1.15 * line), short(tick))
        for tick in self.y_axis.ticks(self._tick_count(area.height(), 2.2 * line)):
            y = area.bottom() - self.y_axis.position(tick) * area.height()
            painter.setPen(grid)
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(pale)
            width = metrics.horizontalAdvance(short(tick))
            painter.drawText(QPointF(area.left() - width - 0.4 * line, y + 0.32 * line), short(tick))
        painter.setPen(pale)
        if self.x_label:
            width = metrics.horizontalAdvance(self.x_label)
            painter.drawText(
                QPointF(area.center().x() - width / 2, self.height() - 0.35 * line), self.x_label
            )
        if self.y_label:
            painter.save()
            painter.translate(0.95 * line, area.center().y() + metrics.horizontalAdvance(self.y_label) / 2)
            painter.rotate(-90)
            painter.drawText(QPointF(0, 0), self.y_label)
            painter.restore()
        painter.setPen(QPen(faded(text, 0.4), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.drawLine(area.bottomLeft(), area.topLeft())
        return area

    def draw_title(self, painter: QPainter, left: float) -> None:
        """Draw the title, from `left` on."""
        font = self.font()
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(ink(self.palette()))
        painter.drawText(QPointF(left, 1.15 * QFontMetricsF(font).height()), self.title)
        painter.setFont(self.font())

    @staticmethod
    def _tick_count(room: float, each: float) -> int:
        return max(2, min(8, int(room / each)))


class LineChart(PlotArea):
    """Curves over a common x, with legend, levels to compare to, and a tooltip at the nearest point."""

    def __init__(
        self,
        title: str,
        x_label: str,
        y_label: str = "",
        *,
        is_log_x: bool = False,
        is_log_y: bool = False,
        anchor: float | None = None,
        empty: str = "",
        parent: QWidget | None = None,
    ) -> None:
        """A chart without curves.

        Args:
            title: Its title.
            x_label: What its x axis shows.
            y_label: What its y axis shows.
            is_log_x: Whether the x axis is logarithmic.
            is_log_y: Whether the y axis is logarithmic.
            anchor: A value that the y axis always shows.
            empty: What stands there while there are no curves.
            parent: The widget that it is on.
        """
        super().__init__(title, x_label, y_label, parent)
        self._is_log = (is_log_x, is_log_y)
        self._anchor = anchor
        self._empty = empty
        self._series: tuple[Series, ...] = ()
        self._levels: tuple[Level, ...] = ()
        self._hovered: tuple[int, tuple[float, float]] | None = None

    @property
    def series(self) -> tuple[Series, ...]:
        """The curves."""
        return self._series

    @property
    def levels(self) -> tuple[Level, ...]:
        """What they are compared to."""
        return self._levels

    def show_series(self, series: Sequence[Series], levels: Sequence[Level] = (), x_end: float = 0.0) -> None:
        """Draw these curves in place of the ones before.

        Args:
            series: The curves.
            levels: What they are compared to.
            x_end: Where the x axis, from 0, will end once they are whole; 0: where they end now.
        """
        self._series, self._levels, self._hovered = tuple(series), tuple(levels), None
        points = [point for one in series for point in one.points]
        upright = [level.value for level in levels if level.is_upright]
        across = [level.value for level in levels if not level.is_upright]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        self.x_axis = _tight(xs + upright + ([0.0, x_end] if x_end else []), self._is_log[0])
        self.y_axis = Axis.around(ys + across, self._is_log[1], self._anchor)
        self.update()

    def header_height(self) -> float:  # noqa: D102
        return 1.2 * QFontMetricsF(self.font()).height() * len(self._legend_rows())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: D102, N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not any(one.points for one in self._series):
            area = QRectF(self.rect()).adjusted(12, 12, -12, -12)
            painter.fillRect(self.rect(), paper(self.palette()))
            self.draw_title(painter, area.left())
            painter.setPen(faded(ink(self.palette()), 0.6))
            painter.drawText(area, self._empty, QTextOption(Qt.AlignmentFlag.AlignCenter))
            return
        area = self.draw_frame(painter)
        self._draw_legend(painter, area)
        painter.setClipRect(area.adjusted(-4, -4, 4, 4))
        for level in self._levels:
            self._draw_level(painter, area, level)
        for number, one in enumerate(self._series):
            self._draw_series(painter, area, number, one)
        if self._hovered is not None:
            number, point = self._hovered
            painter.setPen(QPen(paper(self.palette()), 1.5))
            painter.setBrush(self._colour(number))
            painter.drawEllipse(self.to_pixel(*point), 4.5, 4.5)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: D102, N802
        self._hovered = self._nearest(QPointF(event.pos()))
        if self._hovered is None:
            QToolTip.hideText()
        else:
            number, (x, y) = self._hovered
            text = f"{self._series[number].name}\n{self.x_label or 'x'}: {short(x)}\n{y:.4g}"
            QToolTip.showText(self.mapToGlobal(event.pos()), text, self)
        self.update()

    def leaveEvent(self, event: QEvent) -> None:  # noqa: D102, N802
        self._hovered = None
        self.update()

    def _colour(self, number: int) -> QColor:
        return series_colour(self.palette(), number)

    def _legend_rows(self) -> list[list[int]]:
        """The numbers of the series in the legend's rows, so that it fits the width."""
        if len(self._series) < 2:
            return []
        metrics = QFontMetricsF(self.font())
        rows: list[list[int]] = [[]]
        left = start = 3.5 * metrics.height()
        for number, one in enumerate(self._series):
            width = 2.5 * metrics.height() + metrics.horizontalAdvance(one.name)
            if rows[-1] and left + width > self.width():
                rows.append([])
                left = start
            rows[-1].append(number)
            left += width
        return rows

    def _draw_legend(self, painter: QPainter, area: QRectF) -> None:
        metrics = QFontMetricsF(self.font())
        line = metrics.height()
        rows = self._legend_rows()
        for place, row in enumerate(rows):
            x, y = area.left(), area.top() - (0.7 + 1.2 * (len(rows) - 1 - place)) * line
            for number in row:
                one = self._series[number]
                painter.setPen(QPen(self._colour(number), 1 if one.is_faint else 2.5))
                painter.drawLine(QPointF(x, y), QPointF(x + 1.3 * line, y))
                painter.setPen(ink(self.palette()))
                painter.drawText(QPointF(x + 1.6 * line, y + 0.32 * line), one.name)
                x += 2.5 * line + metrics.horizontalAdvance(one.name)

    def _draw_level(self, painter: QPainter, area: QRectF, level: Level) -> None:
        metrics = QFontMetricsF(self.font())
        colour = faded(ink(self.palette()), 0.7)
        painter.setPen(QPen(colour, 1.2, Qt.PenStyle.DashLine))
        width = metrics.horizontalAdvance(level.name)
        if level.is_upright:
            x = area.left() + self.x_axis.position(level.value) * area.width()
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
            left = x + 5 if x + 5 + width < area.right() else x - 5 - width
            painter.drawText(QPointF(left, area.top() + metrics.ascent()), level.name)
        else:
            y = area.bottom() - self.y_axis.position(level.value) * area.height()
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            above = y - 3 if y - metrics.height() > area.top() else y + metrics.ascent() + 2
            painter.drawText(QPointF(area.right() - width - 2, above), level.name)

    def _draw_series(self, painter: QPainter, area: QRectF, number: int, one: Series) -> None:
        colour = self._colour(number)
        painter.setPen(QPen(faded(colour, 0.45) if one.is_faint else colour, 1 if one.is_faint else 2))
        for run in self._runs(one, area):
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPolyline(QPolygonF(run))
            if one.has_markers or len(run) == 1:
                painter.setBrush(colour)
                for point in run:
                    painter.drawEllipse(point, 2.6, 2.6)

    def _runs(self, one: Series, area: QRectF) -> list[list[QPointF]]:
        """The line's pieces between its gaps, in pixels."""
        runs: list[list[QPointF]] = [[]]
        for x, y in one.points:
            if math.isfinite(y) and (y > 0 or not self._is_log[1]):
                runs[-1].append(self.to_pixel(x, y, area))
            elif runs[-1]:
                runs.append([])
        return [run for run in runs if run]

    def _nearest(self, place: QPointF) -> tuple[int, tuple[float, float]] | None:
        best, least, area = None, NEAR_PX, self.plot_rectangle()
        for number, one in enumerate(self._series):
            for x, y in one.points:
                if not math.isfinite(y) or (y <= 0 and self._is_log[1]):
                    continue
                away = self.to_pixel(x, y, area) - place
                distance = math.hypot(away.x(), away.y())
                if distance < least:
                    best, least = (number, (x, y)), distance
        return best


def _tight(values: Sequence[float], is_log: bool) -> Axis:
    """An x axis: it ends where the curves end."""
    seen = [v for v in values if math.isfinite(v) and (v > 0 or not is_log)]
    if not seen or min(seen) == max(seen):
        return Axis.around(seen, is_log)
    return Axis(min(seen), max(seen), is_log)
