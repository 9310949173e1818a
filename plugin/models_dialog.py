"""The dialog *Models*: what there is, what each card says, and a package of one's own added or removed."""

from __future__ import annotations

from pathlib import Path

from qgis.core import Qgis
from qgis.gui import QgsMessageBar
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QBrush, QColor
from qgis.PyQt.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QSplitter,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from ..core.cards import PACKAGE_SUFFIX, Package, list_packages
from ..core.errors import AftermapError
from .card_text import card_page, is_non_commercial
from .model_folder import add_package, is_users, remove_package
from .settings import Settings
from .translation import tr

SIZE_PX = (880, 580)
LIST_PX = 270
NON_COMMERCIAL_COLOUR = "#9a6a00"


class ModelsDialog(QDialog):
    """Lists the starter models and the user's."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """List the models as they are now."""
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(tr("Aftermap: Models"))
        self.resize(*SIZE_PX)
        self.bar = QgsMessageBar()
        self.list = QListWidget()
        self.list.setWordWrap(True)
        self.page = QTextBrowser()
        self.page.setOpenExternalLinks(True)
        splitter = QSplitter()
        splitter.addWidget(self.list)
        splitter.addWidget(self.page)
        splitter.setStretchFactor(1, 1)
        splitter.setSizes([LIST_PX, SIZE_PX[0] - LIST_PX])
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.add_button = QPushButton(tr("Add from a File…"))
        self.remove_button = QPushButton(tr("Remove…"))
        buttons.addButton(self.add_button, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.addButton(self.remove_button, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.rejected.connect(self.reject)
        self.add_button.clicked.connect(self._choose_file)
        self.remove_button.clicked.connect(self._ask_removal)
        self.list.currentItemChanged.connect(lambda *_: self._show())
        layout = QVBoxLayout(self)
        layout.addWidget(self.bar)
        layout.addWidget(splitter, 1)
        layout.addWidget(buttons)
        self.refresh()

    def refresh(self, chosen: str = "") -> None:
        """List the models anew, and show the one that is called `chosen`, else the first."""
        self.list.clear()
        folders = Settings.load().model_folders
        for package in list_packages(folders):
            notes = [package.card.task]
            if is_non_commercial(package.card):
                notes.append(tr("non-commercial"))
            if is_users(package, folders):
                notes.append(tr("yours"))
            item = QListWidgetItem(f"{package.card.name}\n{', '.join(notes)}")
            item.setData(Qt.ItemDataRole.UserRole, package)
            item.setToolTip(package.card.title)
            if is_non_commercial(package.card):
                item.setForeground(QBrush(QColor(NON_COMMERCIAL_COLOUR)))
            self.list.addItem(item)
            if package.card.name == chosen:
                self.list.setCurrentItem(item)
        if self.list.currentRow() < 0:
            self.list.setCurrentRow(0)
        self._show()

    def package(self) -> Package | None:
        """The model that is shown."""
        item = self.list.currentItem()
        return item.data(Qt.ItemDataRole.UserRole) if item else None

    def add(self, path: Path) -> None:
        """Copy a package file into the folder of models."""
        try:
            package = add_package(path, Settings.load().model_folders)
        except AftermapError as error:
            self.bar.pushMessage(str(error), Qgis.MessageLevel.Warning)
            return
        self.refresh(package.card.name)
        self.bar.pushMessage(
            tr("{} is in the lists of models now.").format(package.card.name), Qgis.MessageLevel.Success
        )

    def remove(self, package: Package) -> None:
        """Delete one of the user's packages."""
        try:
            remove_package(package, Settings.load().model_folders)
        except AftermapError as error:
            self.bar.pushMessage(str(error), Qgis.MessageLevel.Warning)
        self.refresh()

    def _show(self) -> None:
        package = self.package()
        self.remove_button.setEnabled(
            package is not None and is_users(package, Settings.load().model_folders)
        )
        self.page.setHtml(card_page(package) if package else tr("There are no models."))

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, tr("Model package"), "", tr("Model packages") + f" (*{PACKAGE_SUFFIX})"
        )
        if path:
            self.add(Path(path))

    def _ask_removal(self) -> None:
        package = self.package()
        question = tr("Delete {} from the disk?").format(package.path)
        if QMessageBox.question(self, tr("Remove a Model"), question) == QMessageBox.StandardButton.Yes:
            self.remove(package)
