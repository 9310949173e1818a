"""The walls of the house: who may import whom, and what no file may contain."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SHIPPED = {".git", ".venv", ".venv-qgis", "build", "demo", "scratch"}

# What both sides of the process line import.
SHARED = {"jobs", "errors", "cards", "damage_fields", "tasks", "version"}
CONTRACT = {f"aftermap.core.{name}" for name in SHARED}

# Wheels with a GDAL, PROJ, GEOS or numpy of their own, which crash QGIS beside its own.
HEAVY = {
    "torch",
    "numpy",
    "rasterio",
    "geopandas",
    "shapely",
    "pyogrio",
    "fiona",
    "pyproj",
    "scipy",
    "skimage",
}

# Room → rooms that it may import from.
ROOMS = {
    "raster": set(),
    "networks": set(),
    "inference": {"raster", "networks"},
    "vector": {"raster"},
    "datasets": {"raster"},
    "evaluation": {"raster", "vector"},
    "training": {"datasets", "networks", "evaluation"},
}

# The thread and process boundaries: the only places where whatever went wrong is caught.
BOUNDARIES = {
    "core/flows.py",
    "core/worker.py",
    "core/inference/pipeline.py",
    "plugin/training/background.py",  # an exception that leaves QgsTask.run ends QGIS
}


# It makes the package `aftermap` out of the folder that it lies in, so it cannot be inside it yet.
LAUNCHER = Path("core/launcher.py")


class Import(NamedTuple):
    """One import of one module of ours."""

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def sources(*folders: str) -> list[Path]:
    """Our Python files in some folders, relative to the root."""
    found = [p.relative_to(ROOT) for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]
    assert found, f"no Python file in {folders}"
    return found


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), str(file))


def imports(file: Path) -> Iterator[Import]:
    """All imports of a file, wherever they stand, with absolute names."""
    package = ("aftermap", *file.parts[:-1])
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(file, node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            for name in node.names:  # `from .. import core` imports a module too
                yield Import(file, node.lineno, f"{module}.{name.name}")


def lies_in(module: str, roots: set[str]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def offending(found: Iterator[Import], roots: set[str]) -> list[str]:
    """Imports of `roots` or of what lies in them."""
    return [str(i) for i in found if lies_in(i.module, roots)]


def all_imports(*folders: str) -> Iterator[Import]:
    return (i for file in sources(*folders) for i in imports(file))


def shipped_sources() -> list[Path]:
    return [Path("__init__.py"), *sources("core", "plugin")]


def call_name(node: ast.Call) -> str:
    """Dotted name of what is called, as far as it is one."""
    return ast.unparse(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else ""


def test_the_core_knows_nothing_of_qgis() -> None:
    qgis = {"qgis", "PyQt5", "PyQt6", "sip", "osgeo", "processing", "aftermap.plugin"}
    assert offending(all_imports("core", "tests/core"), qgis) == []


def test_the_plugin_never_imports_the_workers_libraries() -> None:
    assert offending(iter([*all_imports("plugin"), *imports(Path("__init__.py"))]), HEAVY) == []


def test_the_plugin_takes_from_the_core_only_what_both_sides_share() -> None:
    taken = {i for i in all_imports("plugin") if i.module.startswith("aftermap.core")}
    assert taken, "the plugin speaks the contract"
    assert [str(i) for i in taken if not lies_in(i.module, CONTRACT)] == []


def test_what_both_sides_share_needs_the_standard_library_only() -> None:
    files = [Path("core", f"{name}.py") for name in SHARED]
    foreign = [
        str(i)
        for file in files
        for i in imports(file)
        if i.module.split(".")[0] not in sys.stdlib_module_names and not lies_in(i.module, CONTRACT)
    ]
    assert foreign == []


def files_for_python_3_9() -> list[Path]:
    shared = [Path("core", f"{name}.py") for name in sorted(SHARED)]
    return [Path("__init__.py"), Path("core/__init__.py"), *shared, *sources("plugin")]


@pytest.mark.parametrize("file", files_for_python_3_9(), ids=str)
def test_what_qgis_imports_runs_on_python_3_9(file: Path) -> None:
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"), str(file), feature_version=(3, 9))
    has_annotations = any(isinstance(n, (ast.AnnAssign, ast.arg)) and n.annotation for n in ast.walk(module))
    # Without it `int | None` is evaluated, which 3.9 cannot.
    assert not has_annotations or any(i.module == "__future__.annotations" for i in imports(file))
    newer = {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only")}
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call)]
    assert [c.lineno for c in calls for k in c.keywords if (call_name(c), k.arg) in newer] == []
    assert not any(isinstance(n, ast.Match) for n in ast.walk(module))


def test_the_rooms_are_those_of_the_design() -> None:
    assert {p.parent.name for p in (ROOT / "core").glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_its_neighbours(room: str) -> None:
    top = {f.stem for f in sources("core") if len(f.parts) == 2} - SHARED - {"__init__"}
    closed = {f"aftermap.core.{name}" for name in (set(ROOMS) - ROOMS[room] - {room}) | top}
    assert offending(all_imports(f"core/{room}"), closed) == []


def test_inside_the_package_imports_are_relative() -> None:
    absolute = [
        f"{file}:{node.lineno}"
        for file in set(shipped_sources()) - {LAUNCHER}
        for node in ast.walk(tree(file))
        if (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and (node.module or "").split(".")[0] == "aftermap"
        )
        or (isinstance(node, ast.Import) and any(n.name.split(".")[0] == "aftermap" for n in node.names))
    ]
    assert absolute == []


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    # After a plugin reload, names that are re-exported there are stale.
    inits = [f for f in sources("core", "plugin") if f.name == "__init__.py"]
    assert [str(f) for f in inits if len(tree(f).body) != 1 or not ast.get_docstring(tree(f))] == []


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    worker = {f.parent for f in sources("core") if f.name == "__init__.py"}
    assert set(listed) == {"aftermap", *(".".join(("aftermap", *p.parts)) for p in worker)}


@pytest.mark.parametrize("file", shipped_sources(), ids=str)
def test_nothing_runs_what_it_reads(file: Path) -> None:
    found = offending(imports(file), {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"})
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            name, keywords = call_name(node), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if (
                name in {"eval", "exec", "os.system", "os.popen"}
                or keywords.get("shell") == "True"
                or keywords.get("allow_pickle") == "True"
                or (name == "torch.load" and keywords.get("weights_only") != "True")
            ):
                found.append(f"{file}:{node.lineno} {ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize("file", shipped_sources(), ids=str)
def test_only_the_boundaries_catch_everything(file: Path) -> None:
    def is_swallowed(handler: ast.ExceptHandler) -> bool:
        caught = ast.unparse(handler.type) if handler.type else "BaseException"
        # Tidying up and raising again hides nothing.
        raises_again = any(isinstance(n, ast.Raise) and n.exc is None for n in handler.body)
        return bool({"Exception", "BaseException"} & set(re.findall(r"\w+", caught))) and not raises_again

    handlers = [n for n in ast.walk(tree(file)) if isinstance(n, ast.ExceptHandler) and is_swallowed(n)]
    assert file.as_posix() in BOUNDARIES or [f"{file}:{h.lineno}" for h in handlers] == []


def texts() -> Iterator[tuple[Path, str]]:
    for path in sorted(ROOT.rglob("*")):
        file = path.relative_to(ROOT)
        if file.parts[0] in NOT_SHIPPED or any(
            p.startswith(".") and p.endswith("_cache") for p in file.parts
        ):
            continue
        if path.is_file() and path.suffix not in {".aftermap", ".png", ".pyc", ".safetensors", ".tif"}:
            yield file, path.read_text(encoding="utf-8")


def test_nothing_names_a_registry_or_the_machine_that_it_was_built_on() -> None:
    hosts = ["py" + "pi.", "python" + "hosted.org", "download.py" + "torch.org", "hugging" + "face.co"]
    folders = ["work", "root", "tmp", "opt", "mnt", "home/[a-z]+"]
    pattern = re.compile(rf"{'|'.join(map(re.escape, hosts))}|(?<![\w.}})/-])/(?:{'|'.join(folders)})/")
    found = [
        f"{file}:{number} {line.strip()}"
        for file, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


def test_the_metadata_is_what_qgis_asks_for() -> None:
    metadata = ConfigParser()  # which interpolates, as QGIS's does: a bare percent sign breaks it
    metadata.read_string((ROOT / "metadata.txt").read_text(encoding="utf-8"))
    general = dict(metadata["general"])
    needed = {
        "name",
        "description",
        "about",
        "version",
        "author",
        "email",
        "qgisminimumversion",
        "repository",
    }
    assert {key for key in needed if not general.get(key)} == set()
    assert re.fullmatch(r"\d+\.\d+\.\d+", general["version"])
    assert general["hasprocessingprovider"] == "yes"
    assert (ROOT / general["icon"]).is_file()
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
