"""Putting results in their place: looked at before anything is computed, then all of them or none."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import JobError, OutputError

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "probability": (".tif", ".tiff"),
    "polygons": (".gpkg",),
    "centrelines": (".gpkg",),
    "buildings": (".gpkg",),
}

_CHUNK_BYTES = 16_000_000
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SIDE_FILES = ("-wal", "-shm", "-journal", ".aux.xml", ".ovr", ".msk")
"""Of an old output, and would be taken for the new one's: a database's log, statistics, overviews."""


@dataclass(frozen=True)
class Output:
    """A finished file.

    Attributes:
        made: Where it was made.
        destination: Where it goes.
    """

    made: Path
    destination: Path


def check_destinations(destinations: Mapping[str, Path], sources: Iterable[str] = ()) -> None:
    """Find out, before a run, whether its outputs will be writable; nothing is left behind.

    Args:
        destinations: Name of each output to its path.
        sources: Files that the run reads, which must not be among them.

    Raises:
        JobError: A path makes no sense: wrong suffix, twice the same, or a file that is read.
        OutputError: A folder cannot be written, or a file is open in another program.
    """
    read = {Path(source).resolve() for source in sources if source}
    taken: set[Path] = set()
    for name, path in destinations.items():
        suffixes = SUFFIXES.get(name)
        if suffixes and path.suffix.lower() not in suffixes:
            raise JobError(
                f"The {name} cannot be written as {path.name}: choose a name that ends in {suffixes[0]}."
            )
        if path.resolve() in read:
            raise JobError(f"{path} is read by this run and cannot be its output too: choose another name.")
        if path.resolve() in taken:
            raise JobError(f"Two outputs would be written to {path}: choose different names.")
        taken.add(path.resolve())
        if path.is_dir():
            raise OutputError(f"{path} is a folder: choose the name of a file.")
        _check_folder(path.parent)
        if path.exists():
            check_not_open(path)


def check_not_open(path: Path) -> None:
    """Find out whether another program has a file open, as far as the system tells.

    Raises:
        OutputError: One has.
    """
    who = _who_has_open(path)
    if who:
        raise OutputError(
            f"{path} is open in {who}: remove the layer there or close the program, or choose another name."
        )


def check_space(folder: Path, needed_bytes: int) -> None:
    """Find out whether a folder's disk has room.

    Raises:
        OutputError: It has not.
    """
    free = shutil.disk_usage(_nearest_existing(folder)).free
    if free < needed_bytes:
        raise OutputError(
            f"The run needs about {_in_words(needed_bytes)} in {folder}, and {_in_words(free)} are free: "
            "make room, or choose another folder."
        )


def commit(outputs: Sequence[Output], key: str) -> Generator[float, None, None]:
    """Put finished files in their places: all of them, or none.

    What was made on another disk is first copied next to its destination, under a hidden name; then all
    are renamed. Files of an earlier run are replaced at that moment. Closing the generator before its end
    leaves nothing behind, and what was made where it is.

    Args:
        outputs: The files; they are moved.
        key: Part of the hidden names, the same for each run of a job, so that what a killed run may have
            left of a copy is overwritten by the next.

    Yields:
        The share of the bytes that are ready to be renamed.

    Raises:
        OutputError: A file cannot be written, or has been opened by another program meanwhile.
    """
    total = sum(output.made.stat().st_size for output in outputs) or 1
    folders: list[Path] = []
    parts: list[Path] = []
    ready: list[Path] = []
    done = 0
    destination = outputs[0].destination
    try:
        for output in outputs:
            destination = output.destination
            folders += _make_folder(destination.parent)
            parts.append(destination.with_name(f".{destination.name}.{key}.part"))
            if _is_renamable(output.made, parts[-1]):
                ready.append(output.made)
                done += output.made.stat().st_size
            else:
                ready.append(parts[-1])
                for copied in _copy(output.made, parts[-1]):
                    done += copied
                    yield min(1.0, done / total)
            _flush(ready[-1])
            yield min(1.0, done / total)
        for output in outputs:
            if output.destination.exists():
                check_not_open(output.destination)
        for output, file in zip(outputs, ready, strict=True):
            destination = output.destination
            for suffix in _SIDE_FILES:
                destination.with_name(destination.name + suffix).unlink(missing_ok=True)
            file.replace(destination)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        reason = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        raise OutputError(
            f"{destination} cannot be written ({reason}): make room there, or choose another folder."
        ) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
        for folder in reversed(folders):
            with contextlib.suppress(OSError):  # it holds the outputs
                folder.rmdir()


def _is_renamable(made: Path, part: Path) -> bool:
    """Whether a file can be moved there by renaming it: whether both are on one disk."""
    part.unlink(missing_ok=True)
    try:
        os.link(made, part)
    except OSError:
        return False
    part.unlink()
    return True


def _copy(made: Path, part: Path) -> Generator[int, None, None]:
    """Copy a file; yields the bytes of each step."""
    with made.open("rb") as source, part.open("wb") as copy:
        while chunk := source.read(_CHUNK_BYTES):
            copy.write(chunk)
            yield len(chunk)


def _flush(path: Path) -> None:
    """Have a file on the disk, so that not even a power cut leaves its name with half of its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder with those above it; the ones that were not there, outermost first."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _check_folder(folder: Path) -> None:
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        raise OutputError(f"{folder} cannot be a folder, since {existing} is a file: choose another.")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = "its disk is full" if error.errno in _FULL else (error.strerror or str(error)).lower()
        raise OutputError(f"{existing} cannot be written to ({reason}): choose another folder.") from error


def _nearest_existing(folder: Path) -> Path:
    return next(f for f in (folder.absolute(), *folder.absolute().parents) if f.exists())


def _who_has_open(path: Path) -> str:
    """The program that has a file open; empty if none is known to."""
    if sys.platform == "win32":
        try:
            path.rename(path)
        except PermissionError:
            return "another program"
    if sys.platform == "linux":
        who = _who_has_descriptor(path)
        if who:
            return who
    return "another program" if path.suffix.lower() == ".gpkg" and _is_database_in_use(path) else ""


def _who_has_descriptor(path: Path) -> str:
    """The name of another process of this user that has a descriptor of the file."""
    wanted = path.stat()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # another user's, or it has ended
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.path.samestat(descriptor.stat(), wanted):
                        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _is_database_in_use(path: Path) -> bool:
    """Whether SQLite refuses an exclusive lock: another connection is open, perhaps an idle one."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        return False  # no database: nothing is lost when it is replaced
    return False


def _in_words(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
