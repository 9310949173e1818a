"""What the worker inherits from QGIS: an allow-list, since QGIS's own variables would break its libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

KEPT = {
    *("HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_DATA_HOME"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    # Windows starts no process, and finds no folder of the user, without these.
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "USERPROFILE", "USERNAME", "APPDATA", "LOCALAPPDATA"),
    *("PROGRAMDATA", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE"),
}
KEPT_PREFIXES = ("CUDA_", "NVIDIA_", "AWS_", "GDAL_HTTP_", "AFTERMAP_")


def worker_environment(python: Path) -> dict[str, str]:
    """The variables for a worker that `python` runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in KEPT or name.upper().startswith(KEPT_PREFIXES)
    }
    folders = [str(python.parent), *_system_folders(python)]
    return {**kept, "PATH": os.pathsep.join(folders), "PYTHONUTF8": "1"}


def no_console() -> dict[str, Any]:
    """Arguments for `subprocess` that keep a console window from flashing up on Windows."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {}


def _system_folders(python: Path) -> list[str]:
    if sys.platform == "win32":
        root = os.environ.get("SYSTEMROOT", r"C:\Windows")
        # A conda environment keeps its libraries here; elsewhere the folders are absent and harmless.
        conda = [str(python.parent / "Library" / "bin"), str(python.parent / "Scripts")]
        return [*conda, rf"{root}\System32", root]
    return ["/usr/local/bin", "/usr/bin", "/bin"]
