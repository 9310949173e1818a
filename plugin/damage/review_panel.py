"""The review as an analyst sees it: the building on the map, what the model says of it, keys to answer."""

from __future__ import annotations

import contextlib
from html import escape
from typing import Callable

from qgis.core import (
    QgsApplication,
    QgsCoordinateTransform,
    QgsCsException,
    QgsGeometry,
    QgsMapLayer,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsSettings,
    QgsWkbTypes,
)
from qgis.gui import QgsMapCanvas, QgsRubberBand
from qgis.PyQt.QtCore import QEvent, QObject, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QKeyEvent
from qgis.PyQt.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..ground_resolution import units_per_metre
from ..translation import tr
from .buildings import number
from .review import Review, current_level
from .style import swatch

ANALYST_SETTING = "aftermap/analyst"
SURROUNDINGS = 4.0  # the view's side in sides of the building
LEAST_VIEW_M = 60.0
HIGHEST_SHOWN = 0.99
ACCEPT_KEYS = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space)
LEVEL_KEYS = {getattr(Qt.Key, f"Key_{code}"): code for code in range(5)}
KEYS = {*ACCEPT_KEYS, *LEVEL_KEYS, Qt.Key.Key_Backspace, Qt.Key.Key_Escape, Qt.Key.Key_B}


class ReviewPanel(QWidget):
    """One building after the other; its keys work in the panel and on the map."""

    ended = pyqtSignal()

    def __init__(self, review: Review, canvas: QgsMapCanvas, parent: QWidget | None = None) -> None:
        """Begin with the first building that was not reviewed."""
        super().__init__(parent)
        self.review = review
        self._canvas = canvas
        self._map = ReviewMap(review.layer, canvas)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.place = QLabel()
        self.progress = QProgressBar()
        self.progress.setRange(0, len(review.sample))
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(6)
        self.named = QLabel()
        self.named.setTextFormat(Qt.TextFormat.RichText)
        self.named.setWordWrap(True)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.analyst = QLineEdit(_known_analyst())
        self.analyst.setPlaceholderText(tr("your name or initials"))
        self.analyst.returnPressed.connect(self.setFocus)
        self.accept_button = _button(tr("Accept  (Enter)"), "accept", self.review.accept)
        self.level_buttons = {
            level.code: _button(
                f"{level.code}  {level.name}",
                f"level_{level.code}",
                lambda code=level.code: self._relabel(code),
            )
            for level in review.levels
        }
        for level in review.levels:
            self.level_buttons[level.code].setIcon(swatch(level.colour))
            self.level_buttons[level.code].setStyleSheet("text-align: left; padding: 4px 8px")
        self.blink_button = _button(tr("Blink with the image below  (B)"), "blink", self._blink)
        self.image = QLabel()
        self.image.setWordWrap(True)
        self._lay_out()
        review.analyst = self.analyst.text().strip()
        self.analyst.textChanged.connect(self._keep_analyst)
        review.moved.connect(self._show)
        review.refused.connect(self.message.setText)
        QgsProject.instance().layersWillBeRemoved.connect(self._end_without)
        canvas.installEventFilter(self)
        self._is_over = False
        self._show()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: D102, N802
        if self.analyst.hasFocus() or not self._take_key(event.key()):
            super().keyPressEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: D102, N802
        if watched is self._canvas and event.type() in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
            key = event.key()
            if key in KEYS:  # the space bar would drag the map
                return event.type() == QEvent.Type.KeyRelease or self._take_key(key)
        return super().eventFilter(watched, event)

    def end(self) -> None:
        """Leave the map as it was before."""
        if self._is_over:
            return
        self._is_over = True
        self._canvas.removeEventFilter(self)
        QgsProject.instance().layersWillBeRemoved.disconnect(self._end_without)
        self._map.clear()
        self.ended.emit()

    def _take_key(self, key: int) -> bool:
        if key in ACCEPT_KEYS:
            self.accept_button.click()
        elif key in LEVEL_KEYS:
            self._relabel(LEVEL_KEYS[key])
        elif key == Qt.Key.Key_Backspace:
            self.review.back()
        elif key == Qt.Key.Key_B:
            self._blink()
        elif key == Qt.Key.Key_Escape:
            self.end()
        else:
            return False
        return True

    def _blink(self) -> None:
        self._map.blink()
        self._show_image()

    def _show_image(self) -> None:
        name = self._map.image_name()
        self.image.setText(
            tr("You see <b>{}</b>.").format(escape(name)) if name else tr("No image is shown.")
        )

    def _relabel(self, code: int) -> None:
        if not self.review.is_over:
            self.review.relabel(code)

    def _show(self) -> None:
        review, total = self.review, len(self.review.sample)
        self.message.clear()
        self._show_image()
        self.progress.setValue(review.reviewed_count)
        self.accept_button.setEnabled(not review.is_over)
        if review.is_over:
            self.place.setText(tr("All {} buildings of the sample are reviewed.").format(total))
            self.named.setText(tr("Backspace goes back, Esc ends. A larger sample narrows the intervals."))
            self._map.show(QgsGeometry())
            return
        self.place.setText(
            tr("Building {} of {}; {} reviewed").format(review.position + 1, total, review.reviewed_count)
        )
        self.named.setText(self._told())
        self._map.show(review.geometry())
        if not self.analyst.hasFocus():
            self.setFocus()

    def _told(self) -> str:
        level = current_level(self.review)
        if level is None:
            return tr("This building is gone; Enter goes on.")
        feature = self.review.feature()
        if number(feature["reviewed"]):
            analyst = feature["analyst"] or tr("someone")
            head = tr("Reviewed by {}:").format(analyst)
            sure = ""
        else:
            head = tr("The model says:")
            confidence = number(feature["confidence"])
            sure = "" if confidence is None else f" ({_percent(confidence)})"
        area = number(feature["area_m2"])
        size = "" if area is None else "<br>" + tr("{:.0f} m²").format(area)
        swatch = f"<span style='color:{level.colour}; font-size:x-large'>■</span>"
        return f"{head}<br>{swatch} <b style='font-size:large'>{level.name}</b>{sure}{size}"

    def _keep_analyst(self, text: str) -> None:
        self.review.analyst = text.strip()
        QgsSettings().setValue(ANALYST_SETTING, text.strip())

    def _end_without(self, ids: list[str]) -> None:
        if self.review.layer.id() in ids:
            self.end()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(_button(tr("Back  (Backspace)"), "back", self.review.back))
        row.addWidget(_button(tr("End  (Esc)"), "end", self.end))
        form = QFormLayout()
        form.addRow(tr("Analyst"), self.analyst)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.place, self.progress, self.image, self.named, self.accept_button):
            layout.addWidget(widget)
        layout.addWidget(QLabel(tr("or say what it is, by key:")))
        for button in self.level_buttons.values():
            layout.addWidget(button)
        layout.addWidget(self.message)
        layout.addWidget(self.blink_button)
        layout.addLayout(row)
        layout.addLayout(form)


class ReviewMap:
    """Shows one building on the map, outlined; the damage layer is hidden meanwhile."""

    def __init__(self, layer: QgsMapLayer, canvas: QgsMapCanvas) -> None:
        """Hide the layer: what is under its colours is what the analyst judges."""
        self._layer = layer
        self._canvas = canvas
        self._bands = [_outline(canvas, QColor(0, 0, 0, 160), 5), _outline(canvas, QColor("#40e0d0"), 2)]
        self._extent_before = canvas.extent()
        self._hidden: list[str] = []
        self._top_image = ""
        self._hide(layer.id())

    def show(self, footprint: QgsGeometry) -> None:
        """Outline a footprint and zoom to it; a null one takes the outline away."""
        for band in self._bands:
            band.reset(QgsWkbTypes.GeometryType.PolygonGeometry)
            if not footprint.isNull():
                band.setToGeometry(footprint, self._layer)
        if footprint.isNull():
            return
        zoom_to(self._canvas, self._layer, footprint)

    def blink(self) -> None:
        """Hide the topmost image, so that the one below is seen, or show it again."""
        if self._top_image in self._hidden:
            self._show_again(self._top_image)
            return
        image = self._image()
        if image is not None and self._hide(image.id()):
            self._top_image = image.id()

    def image_name(self) -> str:
        """The image that is seen: of two dates, it matters which one; empty if there is none."""
        image = self._image()
        return image.name() if image is not None else ""

    def _image(self) -> QgsRasterLayer | None:
        root = QgsProject.instance().layerTreeRoot()
        images = (layer for layer in root.layerOrder() if isinstance(layer, QgsRasterLayer))
        return next((image for image in images if root.findLayer(image.id()).isVisible()), None)

    def clear(self) -> None:
        """Take the outline away, and show again what was shown."""
        for band in self._bands:
            self._canvas.scene().removeItem(band)
        self._bands = []
        for layer_id in tuple(self._hidden):
            self._show_again(layer_id)
        self._canvas.setExtent(self._extent_before)

    def _hide(self, layer_id: str) -> bool:
        node = QgsProject.instance().layerTreeRoot().findLayer(layer_id)
        if node is None or not node.isVisible():
            return False
        node.setItemVisibilityChecked(False)
        self._hidden.append(layer_id)
        return True

    def _show_again(self, layer_id: str) -> None:
        self._hidden.remove(layer_id)
        node = QgsProject.instance().layerTreeRoot().findLayer(layer_id)
        if node is not None:
            node.setItemVisibilityChecked(True)


def zoom_to(canvas: QgsMapCanvas, layer: QgsMapLayer, footprint: QgsGeometry) -> None:
    """Show a building and its surroundings, unless the project's CRS does not reach there."""
    crs = canvas.mapSettings().destinationCrs()
    transform = QgsCoordinateTransform(layer.crs(), crs, QgsProject.instance())
    with contextlib.suppress(QgsCsException):
        canvas.setExtent(transform.transformBoundingBox(view_of(footprint, layer)))
        canvas.refresh()


def view_of(footprint: QgsGeometry, layer: QgsMapLayer) -> QgsRectangle:
    """What the map shows of a building: the building and its surroundings, in the layer's CRS."""
    view = footprint.boundingBox()
    view.scale(SURROUNDINGS)
    across, up = LEAST_VIEW_M, LEAST_VIEW_M
    if layer.crs().isValid() and not view.isEmpty():
        x, y = units_per_metre(layer.crs(), layer.transformContext(), view)
        across, up = across * x, up * y
    return QgsRectangle.fromCenterAndSize(view.center(), max(view.width(), across), max(view.height(), up))


def _percent(confidence: float) -> str:
    """A confidence, which is never a certainty."""
    if confidence > HIGHEST_SHOWN:
        return tr("over {:.0f} %").format(100 * HIGHEST_SHOWN)
    return tr("{:.0f} %").format(100 * confidence)


def _outline(canvas: QgsMapCanvas, colour: QColor, width: int) -> QgsRubberBand:
    band = QgsRubberBand(canvas, QgsWkbTypes.GeometryType.PolygonGeometry)
    band.setStrokeColor(colour)
    band.setFillColor(QColor(0, 0, 0, 0))
    band.setWidth(width)
    return band


def _button(text: str, name: str, slot: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the space bar accepts the building, and presses nothing
    button.clicked.connect(lambda _: slot())
    return button


def _known_analyst() -> str:
    return QgsSettings().value(ANALYST_SETTING, "", type=str) or QgsApplication.userFullName()
