"""Pictures of the dialog: one that fills its place, a sheet of thumbnails, and a window that enlarges."""

from __future__ import annotations

from pathlib import Path

from qgis.PyQt.QtCore import QRectF, QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QIcon, QMouseEvent, QPainter, QPaintEvent, QPixmap
from qgis.PyQt.QtWidgets import QDialog, QListWidget, QListWidgetItem, QSizePolicy, QVBoxLayout, QWidget

from ...core.jobs import Figure
from ..translation import tr
from .charts import faded, ink

THUMBNAIL = QSize(264, 96)
WINDOW_SHARE = 0.7  # of the screen


class Picture(QWidget):
    """A picture as large as its place allows; a click enlarges it."""

    clicked = pyqtSignal()

    def __init__(self, empty: str = "", parent: QWidget | None = None) -> None:
        """No picture; `empty` stands in its place."""
        super().__init__(parent)
        self._pixmap = QPixmap()
        self._empty = empty
        self.setMinimumSize(240, 140)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    @property
    def pixmap(self) -> QPixmap:
        """The picture."""
        return self._pixmap

    def show_file(self, path: Path | None) -> None:
        """Show a file, or none."""
        self._pixmap = QPixmap(str(path)) if path else QPixmap()
        self.setCursor(
            Qt.CursorShape.ArrowCursor if self._pixmap.isNull() else Qt.CursorShape.PointingHandCursor
        )
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: D102, N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if self._pixmap.isNull():
            painter.setPen(faded(ink(self.palette()), 0.6))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self._empty)
            return
        size = self._pixmap.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        place = QRectF(
            (self.width() - size.width()) / 2,
            (self.height() - size.height()) / 2,
            size.width(),
            size.height(),
        )
        painter.drawPixmap(place, self._pixmap, QRectF(self._pixmap.rect()))

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: D102, N802
        if not self._pixmap.isNull():
            self.clicked.emit()


class Thumbnails(QListWidget):
    """The latest picture of each title; a click, or Enter, enlarges it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """No pictures."""
        super().__init__(parent)
        self.setViewMode(QListWidget.ViewMode.IconMode)
        self.setIconSize(THUMBNAIL)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setMovement(QListWidget.Movement.Static)
        self.setWordWrap(True)
        self.setSpacing(4)
        self.itemClicked.connect(self._enlarge)
        self.itemActivated.connect(self._enlarge)

    def show_figure(self, figure: Figure) -> None:
        """Show a picture, in place of the one with the same title."""
        pixmap = QPixmap(figure.path)
        if pixmap.isNull():
            return
        same = self.findItems(figure.title, Qt.MatchFlag.MatchExactly)
        item = same[0] if same else QListWidgetItem(figure.title, self)
        item.setIcon(QIcon(pixmap))
        item.setData(Qt.ItemDataRole.UserRole, figure.path)
        item.setToolTip(tr("{}: click to enlarge").format(figure.title))

    def turn_to(self, title: str) -> None:
        """Bring the picture with this title into view, if there is one."""
        for item in self.findItems(title, Qt.MatchFlag.MatchExactly):
            self.setCurrentItem(item)

    def _enlarge(self, item: QListWidgetItem) -> None:
        enlarge(self, Path(item.data(Qt.ItemDataRole.UserRole)), item.text())


def enlarge(parent: QWidget, path: Path, title: str) -> QDialog:
    """Open a window with the picture; it closes by Escape."""
    window = QDialog(parent.window())
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    window.setWindowTitle(title)
    picture = Picture()
    picture.show_file(path)
    layout = QVBoxLayout(window)
    layout.setContentsMargins(6, 6, 6, 6)
    layout.addWidget(picture)
    screen = parent.screen().availableSize() if hasattr(parent, "screen") else QSize(1200, 800)
    window.resize(picture.pixmap.size().scaled(screen * WINDOW_SHARE, Qt.AspectRatioMode.KeepAspectRatio))
    window.show()
    return window
