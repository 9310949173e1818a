"""Where the results of the button go: a named folder that outlives the session."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from qgis.core import QgsProject
from qgis.PyQt.QtCore import QStandardPaths

FOLDER_NAME = "Aftermap"


def run_folder(chosen: str, project: QgsProject, raster_name: str, now: datetime) -> Path:
    """The folder of one run; it is not made yet.

    Args:
        chosen: Folder of the settings; empty: ``Aftermap`` beside the project, or in the user's documents
            where the project is not saved.
        project: The project.
        raster_name: Name of the raster layer.
        now: Time of the run, to the second.
    """
    if chosen:
        parent = Path(chosen)
    elif project.homePath():
        parent = Path(project.homePath()) / FOLDER_NAME
    else:
        documents = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
        parent = Path(documents) / FOLDER_NAME
    return parent / f"{file_name(raster_name)}-{now:%Y%m%d-%H%M%S}"


def file_name(text: str) -> str:
    """`text` with what no file system objects to."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:60] or "raster"
