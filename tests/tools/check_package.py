"""Check the zip that QGIS's plugin manager installs: its size, its content, and that QGIS loads it."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

SIZE_LIMIT = 25_000_000  # bytes; the plugin repository takes no more
NEEDED = ("metadata.txt", "__init__.py", "LICENSE", "README.md", "core/launcher.py", "plugin/main.py")
UNWANTED_FOLDERS = {"tests", ".ci", "__pycache__", ".git"}
BINARIES = {".so", ".dll", ".pyd", ".exe", ".dylib", ".pyc", ".whl", ".pt", ".pth"}
PROFILE_INI = "[PythonPlugins]\naftermap=true\nprocessing=true\n"


def faults_of_content(package: Path) -> list[str]:
    """What the plugin repository, or QGIS, would refuse."""
    faults = []
    if package.stat().st_size > SIZE_LIMIT:
        faults.append(f"{package.stat().st_size} bytes, over {SIZE_LIMIT}")
    with zipfile.ZipFile(package) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
        faults += [f"{name} lies outside aftermap/" for name in names if name.parts[0] != "aftermap"]
        faults += [f"{name} is not wanted" for name in names if UNWANTED_FOLDERS & set(name.parts)]
        faults += [f"{name} is a binary" for name in names if name.suffix in BINARIES]
        faults += [f"{name} is missing" for name in NEEDED if PurePosixPath("aftermap", name) not in names]
        if not faults:
            metadata = configparser.ConfigParser()  # interpolating, as QGIS's
            metadata.read_string(archive.read("aftermap/metadata.txt").decode("utf-8"))
            general = dict(metadata["general"])
            if general["version"] not in package.name:
                faults.append(f"metadata.txt says version {general['version']}")
    return faults


def faults_of_loading(package: Path) -> list[str]:
    """Install the zip in a profile of its own, and ask QGIS for the algorithms."""
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        return ["there is no qgis_process to try it in"]
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profiles", "default")
        with zipfile.ZipFile(package) as archive:
            archive.extractall(profile / "python" / "plugins")
        (profile / "QGIS").mkdir()
        (profile / "QGIS" / "QGIS3.ini").write_text(PROFILE_INI)
        environment = {**os.environ, "QGIS_CUSTOM_CONFIG_PATH": folder, "QT_QPA_PLATFORM": "offscreen"}
        done = subprocess.run(
            [program, "help", "aftermap:segmentroads"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode or "OUTPUT_CENTRELINES" not in done.stdout:
        return [f"QGIS does not load it:\n{done.stdout}{done.stderr}"]
    return []


def main() -> None:
    package = Path(sys.argv[1])
    faults = faults_of_content(package) or faults_of_loading(package)
    if faults:
        sys.exit("\n".join(f"{package}: {fault}" for fault in faults))
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB, loads in QGIS")


if __name__ == "__main__":
    main()
