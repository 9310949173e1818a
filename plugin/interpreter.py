"""Which Python runs the worker: the user's choice, the managed environment, or the system's.

QGIS's own Python never does: the worker's libraries carry a GDAL, PROJ and GEOS of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from ..core.errors import WorkerError
from .settings import data_folder
from .translation import tr
from .worker_environment import no_console, worker_environment

PYTHON_VARIABLE = "AFTERMAP_PYTHON"
CHECKOUT = Path(__file__).resolve().parent.parent
PROBE_TIMEOUT_S = 20
# Looks the modules up and does not import them: importing torch takes seconds, and this answers a click.
PROBE = (
    "import importlib.util, sys; "
    "sys.exit(sys.version_info < (3, 11) or any(importlib.util.find_spec(m) is None for m in sys.argv[1:]))"
)
REQUIRED_MODULES = ("torch", "rasterio")


class InterpreterFinder:
    """Finds the worker's Python; remembers for the session which ones were found usable."""

    def __init__(self, chosen: Callable[[], str]) -> None:
        """Search with `chosen`, which gives the interpreter of the settings, empty if none."""
        self._chosen = chosen
        self._usable: set[Path] = set()

    def find(self) -> Path:
        """The Python that runs the worker.

        In this order: the variable ``AFTERMAP_PYTHON``, the settings, the environment that ``make`` builds
        beside the plugin, the one in the user's data folder, the system's Python.

        Raises:
            WorkerError: The chosen one is not usable, or there is none.
        """
        chosen = os.environ.get(PYTHON_VARIABLE, "") or self._chosen()
        if chosen:
            if self._is_usable(Path(chosen)):
                return Path(chosen)
            raise WorkerError(
                tr(
                    "{} cannot run Aftermap's worker, which needs Python 3.11 with {}: "
                    "choose another interpreter in Settings → Options → Aftermap."
                ).format(chosen, ", ".join(REQUIRED_MODULES))
            )
        for python in (*managed_interpreters(), *_system_interpreters()):
            if self._is_usable(python):
                return python
        raise WorkerError(
            tr(
                "Aftermap's worker has no Python environment yet: run “make” in {}, or choose a Python that "
                "has {} in Settings → Options → Aftermap."
            ).format(CHECKOUT, ", ".join(REQUIRED_MODULES))
        )

    def _is_usable(self, python: Path) -> bool:
        # Only a success is remembered: what is missing now may be installed while QGIS runs.
        if python not in self._usable and _probe(python):
            self._usable.add(python)
        return python in self._usable


def managed_interpreters() -> list[Path]:
    """Where the managed environment's Python lies, whether it is there or not."""
    inside = Path("Scripts/python.exe") if sys.platform == "win32" else Path("bin/python")
    return [CHECKOUT / ".venv" / inside, data_folder() / "venv" / inside]


def _system_interpreters() -> Iterator[Path]:
    for name in ("python3", "python"):
        found = shutil.which(name)
        if found:
            yield Path(found)


def _probe(python: Path) -> bool:
    if not python.is_file():
        return False
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", PROBE, *REQUIRED_MODULES],
            env=worker_environment(python),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            **no_console(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
