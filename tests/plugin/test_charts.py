"""Charts and the arithmetic behind them."""

from __future__ import annotations

import math

import pytest
from qgis.PyQt.QtCore import QEvent, QPoint, QPointF, Qt
from qgis.PyQt.QtGui import QColor, QMouseEvent, QPalette
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QToolTip

from aftermap.plugin.training.axes import Axis, short
from aftermap.plugin.training.charts import Level, LineChart, Series
from aftermap.plugin.training.share_histogram import ShareHistogram
from aftermap.plugin.training.tiles import Tile, split_at


def tile(share, problem="", pixels=100):
    return Tile("f", "s", "i", "m", pixels, 1, shares={"road": share}, problem=problem)


def test_sides_weigh_tiles_by_their_pixels_and_leave_out_broken_ones():
    tiles = [tile(0.1), tile(0.3, pixels=300), tile(0.2), tile(0.9, problem="broken")]
    below, above = split_at(tiles, "road", 0.2)
    assert (below.tiles, above.tiles) == (1, 2)
    assert below.share == pytest.approx(0.1)
    assert above.share == pytest.approx((0.3 * 300 + 0.2 * 100) / 400)
    assert split_at([], "road", 0.5)[0].share == 0


@pytest.mark.parametrize(
    "axis",
    [
        *(Axis(0, 1), Axis(-3, 17), Axis(0, 3.2e-4), Axis(2e5, 9e6), Axis(0.99, 1.01)),
        *(Axis(1e-6, 1, is_log=True), Axis(0.2, 0.7, is_log=True), Axis(0, 3.4, is_whole=True)),
    ],
)
def test_ticks_are_few_and_on_the_axis(axis):
    ticks = axis.ticks(6)
    assert 2 <= len(ticks) <= 9
    assert all(-1e-6 <= axis.position(tick) <= 1 + 1e-6 for tick in ticks)
    assert len({short(tick) for tick in ticks}) == len(ticks), "labels tell them apart"
    assert not axis.is_whole or all(tick == int(tick) for tick in ticks)


@pytest.mark.parametrize("axis", [Axis(-2, 5), Axis(1e-6, 10, is_log=True)])
def test_value_is_the_inverse_of_position(axis):
    for place in (0, 0.25, 1):
        assert axis.position(axis.value(place)) == pytest.approx(place)


@pytest.mark.parametrize("values", [[], [math.nan], [3.0], [0.0], [math.inf, 2.0]])
@pytest.mark.parametrize("anchor", [None, 0.0])
def test_axis_has_room_whatever_the_values(values, anchor):
    axis = Axis.around(values, anchor=anchor)
    assert axis.low < axis.high
    assert all(axis.low <= v <= axis.high for v in values if math.isfinite(v))


def colours(widget):
    """The colours of a widget as it is drawn."""
    image = widget.grab().toImage()
    return {
        QColor(image.pixel(x, y)).name() for x in range(0, image.width(), 2) for y in range(image.height())
    }


@pytest.fixture
def chart(qgis_app):
    chart = LineChart("Loss", "step", anchor=0.0, empty="nothing yet")
    chart.resize(400, 240)
    return chart


def test_curves_are_drawn_in_colours_of_the_theme(chart):
    line = [(n, 1 / (n + 1)) for n in range(50)]
    assert "#0072b2" not in colours(chart)
    chart.show_series([Series("loss", line)], [Level("constant", 0.3)])
    assert "#0072b2" in colours(chart)
    dark = QPalette()
    dark.setColor(QPalette.ColorRole.Base, QColor("#222222"))
    dark.setColor(QPalette.ColorRole.Text, QColor("#eeeeee"))
    chart.setPalette(dark)
    assert {"#56b4e9", "#222222"} <= colours(chart)


def test_gaps_and_values_that_a_log_axis_cannot_show_do_no_harm(qgis_app):
    chart = LineChart("Test", "rate", is_log_x=True, is_log_y=True)
    chart.resize(400, 240)
    chart.show_series([Series("loss", [(1e-5, 1.0), (1e-4, math.nan), (1e-3, 0.0), (1e-2, 0.1)])])
    assert "#0072b2" in colours(chart)


def move_to(widget, place):
    """Move the mouse there; QTest's own moves get lost where there is no screen."""
    none = Qt.MouseButton.NoButton
    move = QMouseEvent(QEvent.Type.MouseMove, QPointF(place), none, none, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(widget, move)


def test_tooltip_tells_the_nearest_point(chart):
    chart.show_series([Series("loss", [(0, 1.0), (10, 0.5)]), Series("other", [(0, 0.1), (10, 0.1)])])
    chart.show()
    move_to(chart, chart.to_pixel(10, 0.52))
    assert QToolTip.text() == "loss\nstep: 10\n0.5"
    move_to(chart, chart.to_pixel(0, 0.1))
    assert QToolTip.text() == "other\nstep: 0\n0.1"


@pytest.fixture
def histogram(qgis_app):
    histogram = ShareHistogram()
    histogram.resize(600, 300)
    histogram.show_shares([0.0, 0.0, 0.05, 0.1, 0.25, 0.28])
    return histogram


def test_line_says_the_share_where_the_mouse_puts_it(histogram):
    moved = []
    histogram.min_share_moved.connect(moved.append)
    place = histogram.to_pixel(0.2, 1).toPoint()
    QTest.mouseClick(histogram, Qt.MouseButton.LeftButton, pos=place)
    assert moved == [pytest.approx(0.2, abs=0.002)]
    QTest.mouseClick(histogram, Qt.MouseButton.LeftButton, pos=place)
    assert len(moved) == 1, "nothing new is not said"
    QTest.mouseClick(histogram, Qt.MouseButton.LeftButton, pos=QPoint(1, place.y()))
    assert moved[-1] == 0, "left of the axis is 0"


def test_bars_left_of_the_line_lose_their_colour(histogram):
    def share_of_colour():
        image = histogram.grab().toImage()
        names = [
            QColor(image.pixel(x, y)).name()
            for x in range(image.width())
            for y in range(0, image.height(), 5)
        ]
        return names.count("#0072b2")

    everything = share_of_colour()
    histogram.set_min_share(0.2)
    assert 0 < share_of_colour() < everything / 2


def test_every_tile_is_in_a_bar_whatever_its_share(histogram):
    histogram.show_shares([0.0, 1.0, 0.999, 0.5])
    assert sum(histogram.counts) == 4
    assert histogram.counts[-1] == 2
