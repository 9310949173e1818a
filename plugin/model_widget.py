"""The widget of a model: the models at hand in a list, and a button for a package file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from processing.gui.wrappers import WidgetWrapper
from qgis.core import QgsProcessingOutputFile, QgsProcessingOutputString, QgsProcessingParameterString
from qgis.gui import QgsProcessingGui
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

from ..core.cards import PACKAGE_SUFFIX, list_packages
from .settings import Settings
from .translation import tr


class ModelField(QWidget):
    """A list of models by name, in which a package file may be typed or chosen too."""

    changed = pyqtSignal()

    def __init__(
        self,
        first: Iterable[tuple[str, str]],
        parent: QWidget | None = None,
        task: str = "",
        head: str = "",
    ) -> None:
        """List models, after `first`: pairs of a text and the value that it stands for.

        Args:
            first: Entries before the models.
            parent: As of any widget.
            task: Only models of this task; empty: all.
            head: Only models whose network has this output; empty: all.
        """
        super().__init__(parent)
        self.list = QComboBox(self)
        self.list.setEditable(True)
        self.list.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        for text, value in first:
            self.list.addItem(text, value)
        for package in list_packages(Settings.load().model_folders, task, head):
            self.list.addItem(package.card.name, package.card.name)
            self.list.setItemData(self.list.count() - 1, package.card.title, Qt.ItemDataRole.ToolTipRole)
        self.list.editTextChanged.connect(lambda _: self.changed.emit())
        button = QToolButton(self)
        button.setText("…")
        button.setToolTip(tr("Choose a model package"))
        button.clicked.connect(self._choose_file)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list, 1)
        layout.addWidget(button)
        self.setFocusProxy(self.list)

    def value(self) -> Any:
        """Name or path of the model, or what stands for one of the first entries."""
        text = self.list.currentText().strip()
        index = self.list.findText(text, Qt.MatchFlag.MatchExactly)
        return self.list.itemData(index) if index >= 0 else text

    def set_value(self, value: Any) -> None:
        """Show `value`, whether the list has it or not."""
        index = self.list.findData(value)
        if index >= 0:
            self.list.setCurrentIndex(index)
        else:
            self.list.setEditText(str(value or ""))

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self.window(), tr("Model package"), "", tr("Model packages") + f" (*{PACKAGE_SUFFIX})"
        )
        if path:
            self.set_value(path)


class ModelWidgetWrapper(WidgetWrapper):
    """Works in the dialog, in batch processing and in the model designer, where it lists strings too."""

    def createWidget(self, task: str = "", head: str = "") -> QWidget:  # noqa: N802  QGIS's name
        """The list; what limits it comes from the parameter's metadata."""
        field = ModelField(self.first(), task=task, head=head)
        field.list.lineEdit().setPlaceholderText(tr("The best fit"))
        if self.dialogType == QgsProcessingGui.WidgetType.Modeler:
            strings = self.dialog.getAvailableValuesOfType(
                [QgsProcessingParameterString], [QgsProcessingOutputString, QgsProcessingOutputFile]
            )
            for value in strings:
                field.list.addItem(self.dialog.resolveValueDescription(value), value)
        return field

    def first(self) -> Iterable[tuple[str, str]]:
        """Entries before the models, each a text and a value."""
        return [("", "")]

    def setValue(self, value: Any) -> None:  # noqa: D102, N802
        self.widget.set_value(value)

    def value(self) -> Any:  # noqa: D102
        return self.widget.value()


class StartModelWidgetWrapper(ModelWidgetWrapper):
    """The model that a training starts from."""

    def first(self) -> Iterable[tuple[str, str]]:
        """The starter model, and none."""
        return start_models()


def start_models() -> list[tuple[str, str]]:
    """What a training may start from besides the models at hand: text, and value in a job."""
    return [
        (tr("The starter model (recommended)"), "starter"),
        (tr("From scratch: a new network"), "scratch"),
    ]
