"""The fields of the dialog's forms, made in one line each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qgis.core import QgsApplication
from qgis.gui import QgsDoubleSpinBox, QgsFileWidget, QgsSpinBox
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QResizeEvent, QShowEvent
from qgis.PyQt.QtWidgets import QComboBox, QLabel, QListWidget, QListWidgetItem

from ..translation import tr

WIDEST_PX = 260  # of a number


def choice(name: str, options: Iterable[tuple[str, str]]) -> QComboBox:
    """A list of pairs of value and text."""
    box = QComboBox()
    box.setObjectName(name)
    for value, text in options:
        box.addItem(text, value)
    return box


def choose(box: QComboBox, value: str) -> None:
    """Choose the option with this value."""
    box.setCurrentIndex(max(box.findData(value), 0))


def number(
    name: str,
    high: float,
    low: float = 0.0,
    decimals: int = 2,
    step: float = 0.1,
    suffix: str = "",
    lowest_means: str = "",
) -> QgsDoubleSpinBox:
    """A number; `lowest_means` stands there in place of the lowest, which the clear button gives."""
    box = QgsDoubleSpinBox()
    box.setObjectName(name)
    box.setDecimals(decimals)
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setSuffix(suffix)
    box.setClearValue(low, lowest_means)
    box.setShowClearButton(bool(lowest_means))
    box.setMaximumWidth(WIDEST_PX)
    return box


def integer(
    name: str, high: int, low: int = 0, step: int = 1, suffix: str = "", lowest_means: str = ""
) -> QgsSpinBox:
    """A whole number; see `number`."""
    box = QgsSpinBox()
    box.setObjectName(name)
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setSuffix(suffix)
    box.setClearValue(low, lowest_means)
    box.setShowClearButton(bool(lowest_means))
    box.setMaximumWidth(WIDEST_PX)
    return box


def folder_field(name: str, placeholder: str = "") -> QgsFileWidget:
    """A folder."""
    return _path(name, QgsFileWidget.StorageMode.GetDirectory, placeholder)


def file_field(name: str, file_filter: str, placeholder: str = "", is_new: bool = False) -> QgsFileWidget:
    """A file that is there, or one that is made."""
    mode = QgsFileWidget.StorageMode.SaveFile if is_new else QgsFileWidget.StorageMode.GetFile
    field = _path(name, mode, placeholder)
    field.setFilter(file_filter)
    return field


class Note(QLabel):
    """A text that explains, as high as its lines are: forms give a label that wraps too much room."""

    def __init__(self, text: str = "") -> None:
        """Show `text`."""
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.setOpenExternalLinks(True)
        self.setText(text)

    def setText(self, text: str) -> None:  # noqa: D102, N802  Qt's name
        super().setText(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: D102, N802
        super().resizeEvent(event)
        self._fit()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: D102, N802
        super().showEvent(event)
        self._fit()  # what was set while it was hidden was measured without the theme's font

    def _fit(self) -> None:
        self.setFixedHeight(self.heightForWidth(self.width()) if self.text() else 0)


class Sentences(QListWidget):
    """Findings in words, each with a sign that says whether it is a warning."""

    def __init__(self, name: str) -> None:
        """No findings."""
        super().__init__()
        self.setObjectName(name)
        self.setWordWrap(True)
        self.setSelectionMode(QListWidget.SelectionMode.NoSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def show_sentences(self, warnings: Iterable[str], otherwise: str = "") -> None:
        """Show these in place of the ones before; where there are none, `otherwise`."""
        self.clear()
        for text in warnings:
            self.add(text)
        if not self.count() and otherwise:
            self.add(otherwise, "mIconSuccess.svg")

    def add(self, text: str, icon: str = "mIconWarning.svg") -> None:
        """Show one more."""
        self.addItem(QListWidgetItem(QgsApplication.getThemeIcon(icon), text))

    def texts(self) -> list[str]:
        """What is shown."""
        return [self.item(row).text() for row in range(self.count())]


def existing_folder(text: str) -> str:
    """`text` if it names a folder; empty otherwise."""
    text = text.strip()
    return text if text and Path(text).is_dir() else ""


def percent(share: float) -> str:
    """A share for reading: 4.2 %."""
    return tr("{:.1f} %").format(100 * share)


def _path(name: str, mode: QgsFileWidget.StorageMode, placeholder: str) -> QgsFileWidget:
    field = QgsFileWidget()
    field.setObjectName(name)
    field.setStorageMode(mode)
    field.lineEdit().setPlaceholderText(placeholder)
    return field
