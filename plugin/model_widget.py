"""The widget of the parameter MODEL: the models at hand in a list, and a button for a package file."""

from __future__ import annotations

from typing import Any

from processing.gui.wrappers import WidgetWrapper
from qgis.core import QgsProcessingOutputFile, QgsProcessingOutputString, QgsProcessingParameterString
from qgis.gui import QgsProcessingGui
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

from ..core.cards import PACKAGE_SUFFIX, list_packages
from .settings import Settings
from .translation import tr


class ModelWidgetWrapper(WidgetWrapper):
    """Works in the dialog, in batch processing and in the model designer, where it lists strings too."""

    def createWidget(self) -> QWidget:  # noqa: D102, N802
        self._list = QComboBox()
        self._list.setEditable(True)
        self._list.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._list.lineEdit().setPlaceholderText(tr("The best fit"))
        self._list.addItem("", "")
        for package in list_packages(Settings.load().model_folders):
            self._list.addItem(package.card.name, package.card.name)
            self._list.setItemData(self._list.count() - 1, package.card.title, Qt.ItemDataRole.ToolTipRole)
        if self.dialogType == QgsProcessingGui.WidgetType.Modeler:
            strings = self.dialog.getAvailableValuesOfType(
                [QgsProcessingParameterString], [QgsProcessingOutputString, QgsProcessingOutputFile]
            )
            for value in strings:
                self._list.addItem(self.dialog.resolveValueDescription(value), value)
        button = QToolButton()
        button.setText("…")
        button.setToolTip(tr("Choose a model package"))
        button.clicked.connect(self._choose_file)
        widget = QWidget()
        layout = QHBoxLayout(widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._list, 1)
        layout.addWidget(button)
        return widget

    def setValue(self, value: Any) -> None:  # noqa: D102, N802
        index = self._list.findData(value)
        if index >= 0:
            self._list.setCurrentIndex(index)
        else:
            self._list.setEditText(str(value or ""))

    def value(self) -> Any:  # noqa: D102
        text = self._list.currentText().strip()
        index = self._list.findText(text, Qt.MatchFlag.MatchExactly)
        return self._list.itemData(index) if index >= 0 else text

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self._list.window(), tr("Model package"), "", tr("Model packages") + f" (*{PACKAGE_SUFFIX})"
        )
        if path:
            self.setValue(path)
