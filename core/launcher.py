"""Starts the worker or the command line from this folder as it lies, whatever the folder is called.

``python -I -u core/launcher.py worker`` serves jobs on standard input; any other arguments are those of
the command line. QGIS's plugins folder never gets onto ``sys.path``: only this checkout is loaded, under
the name ``aftermap``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path


def _load_package() -> None:
    root = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "aftermap", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{root} holds no package: install Aftermap again.")
    package = importlib.util.module_from_spec(spec)
    sys.modules["aftermap"] = package
    spec.loader.exec_module(package)


# Not under the test below: a process that multiprocessing spawns imports this file, and needs the package.
_load_package()

if __name__ == "__main__":
    name = "worker" if sys.argv[1:] == ["worker"] else "command_line"
    sys.exit(importlib.import_module(f"aftermap.core.{name}").main())
