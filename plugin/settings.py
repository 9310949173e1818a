"""The user's settings, as QGIS keeps them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QStandardPaths

PREFIX = "aftermap"


@dataclass(frozen=True)
class Settings:
    """What the user chose; empty: the default.

    Attributes:
        python: Python that runs the worker.
        run_folder: Folder that gets a named folder for each run from the button.
        cache: Folder for unfinished work.
        models: Folder with model packages, besides the starter models.
    """

    python: str = ""
    run_folder: str = ""
    cache: str = ""
    models: str = ""

    @classmethod
    def load(cls) -> Settings:
        """What QGIS's settings hold."""
        stored = QgsSettings()
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: stored.value(f"{PREFIX}/{name}", "", type=str) for name in names})

    def save(self) -> None:
        """Write all to QGIS's settings."""
        stored = QgsSettings()
        for name, value in dataclasses.asdict(self).items():
            stored.setValue(f"{PREFIX}/{name}", value)

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Folders that hold the user's model packages."""
        return (Path(self.models) if self.models else data_folder() / "models",)


def data_folder() -> Path:
    """The user's folder for models and the managed environment."""
    return (
        Path(QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation))
        / "aftermap"
    )
