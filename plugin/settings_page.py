"""The page of the settings in QGIS's options dialog, under Aftermap."""

from __future__ import annotations

from qgis.gui import QgsFileWidget, QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QFormLayout, QLabel, QWidget

from .icons import PLUGIN_ICON
from .settings import Settings, data_folder
from .translation import tr

PAGE_NAME = "aftermapOptions"


class SettingsPage(QgsOptionsPageWidget):
    """The form of the settings."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """Fill the form with the settings as they are."""
        super().__init__(parent)
        self.setObjectName(PAGE_NAME)
        self._fields: dict[str, QgsFileWidget] = {}
        layout = QFormLayout(self)
        file, folder = QgsFileWidget.StorageMode.GetFile, QgsFileWidget.StorageMode.GetDirectory
        for name, label, mode, default in (
            ("python", tr("Python of the worker"), file, tr("found by itself")),
            ("run_folder", tr("Folder for results"), folder, tr("beside the project, or documents")),
            ("models", tr("Folder with models"), folder, str(data_folder() / "models")),
            ("cache", tr("Folder for unfinished work"), folder, tr("the user's cache")),
        ):
            field = QgsFileWidget(self)
            field.setStorageMode(mode)
            field.setFilePath(getattr(Settings.load(), name))
            field.lineEdit().setPlaceholderText(default)
            layout.addRow(label, field)
            self._fields[name] = field
        note = QLabel(
            tr(
                "The worker is the process that runs the networks. Its Python needs torch and rasterio; "
                "leave the field empty to use the environment that “make” builds."
            )
        )
        note.setWordWrap(True)
        layout.addRow(note)

    def apply(self) -> None:
        """Save the form; QGIS calls this on OK."""
        Settings(**{name: field.filePath().strip() for name, field in self._fields.items()}).save()


class SettingsPageFactory(QgsOptionsWidgetFactory):
    """Adds the page to QGIS's options dialog."""

    def __init__(self) -> None:
        """Name the page."""
        super().__init__("Aftermap", QIcon(str(PLUGIN_ICON)))

    def createWidget(self, parent: QWidget | None = None) -> QgsOptionsPageWidget:  # noqa: N802  QGIS's name
        """A new form for each time that the dialog opens."""
        return SettingsPage(parent)
