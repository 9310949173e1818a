"""The user's folder of model packages: what comes into it, and goes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..core.cards import PACKAGE_SUFFIX, STARTER_FOLDER, Package, list_packages, read_package
from ..core.errors import ModelError, OutputError
from .translation import tr


def add_package(path: Path, folders: Sequence[Path]) -> Package:
    """Copy a package file into the first of the user's folders, whole or not at all.

    Raises:
        ModelError: It is no package, or there is a model of its name.
        OutputError: It cannot be written.
    """
    package = read_package(path)
    for other in list_packages(folders):
        if other.card.name == package.card.name:
            raise ModelError(
                tr("There is a model {} already ({}): remove that one first.").format(
                    package.card.name, other.path
                )
            )
    target = folders[0] / f"{path.stem}{PACKAGE_SUFFIX}"
    if target.exists():
        raise ModelError(
            tr("{} is there already, and is another model: rename the file that you add.").format(target)
        )
    try:
        folders[0].mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".aftermap-", dir=folders[0]) as scratch:
            staged = Path(scratch) / target.name
            shutil.copyfile(path, staged)
            staged.replace(target)
    except OSError as error:
        raise OutputError(
            tr("{} cannot be copied to {} ({}): choose another folder with models in the settings.").format(
                path.name, folders[0], error.strerror or error
            )
        ) from error
    return read_package(target)


def is_users(package: Package, folders: Sequence[Path]) -> bool:
    """Whether the user may remove a package: starter models belong to the plugin."""
    return package.path.parent in folders and package.path.parent != STARTER_FOLDER


def remove_package(package: Package, folders: Sequence[Path]) -> None:
    """Delete one of the user's packages from the disk.

    Raises:
        ModelError: It is a starter model.
        OutputError: It cannot be deleted.
    """
    if not is_users(package, folders):
        raise ModelError(tr("{} came with the plugin: it cannot be removed.").format(package.card.name))
    try:
        if package.path.is_dir():
            shutil.rmtree(package.path)
        else:
            package.path.unlink()
    except OSError as error:
        raise OutputError(
            tr("{} cannot be deleted ({}): is it open in another program?").format(
                package.path, error.strerror or error
            )
        ) from error
