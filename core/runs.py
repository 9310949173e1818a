"""Folders for unfinished work: one for each job, locked while it runs, found again by the same job.

They lie in a cache, never at the destination. What a stopped or killed run left there, the next run of the
same job continues from; a finished run removes its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import AftermapError, OutputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

CACHE_CAP_BYTES = 20 * 10**9
"""Unfinished work of this much is kept; the oldest goes first."""

_LOCK_NAME = "lock"
_FULL_BYTES = 4_000_000  # a disk with less than this left is what made a write fail


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of JSON values; equal values give equal digests."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_identity(path: str) -> dict[str, Any]:
    """What tells this content of a file from a later one: path, size and time of modification.

    A name that is no file (a service, a part of a container) is its own identity.
    """
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return {"path": path}
    return {"path": str(Path(path).resolve()), "size": status.st_size, "modified_ns": status.st_mtime_ns}


def cache_folder(cache: str = "") -> Path:
    """The folder `cache`, or that of this user where it is empty; it need not exist yet."""
    if cache:
        return Path(cache)
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return home / "aftermap" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "aftermap"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aftermap"


class WorkFolder:
    """The folder of one unfinished run, locked by this process; a context manager that unlocks it.

    Attributes:
        path: The folder.
        key: Its name: a digest of what the job is.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Use `open_work`."""
        self.path = path
        self.key = path.name
        self._lock = lock

    def facts(self, stage: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `mark` noted of a stage, or none if it was not finished with these parameters."""
        try:
            noted: dict[str, Any] = json.loads(self._mark_of(stage).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return noted["facts"] if noted.get("of") == digest(parameters) else None

    def mark(self, stage: str, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Note that a stage is finished, and what later stages need to know of it (JSON values)."""
        path = self._mark_of(stage)
        staged = path.with_suffix(".new")
        staged.write_text(json.dumps({"of": digest(parameters), "facts": facts}), encoding="utf-8")
        staged.replace(path)

    def part(self, name: str) -> WorkFolder:
        """A folder inside of this one, with stages of its own; it goes with this one."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        return WorkFolder(path, -1)

    def discard(self) -> None:
        """Remove the folder: its run has ended, and what it made is where it belongs."""
        _remove(self.path, self._lock)
        self._lock = -1

    def clear(self) -> None:
        """Remove what an earlier run left."""
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _LOCK_NAME:
                entry.unlink()

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock >= 0:
            os.close(self._lock)
        is_about_writing = isinstance(error, OutputError) or not isinstance(error, AftermapError)
        if isinstance(error, Exception) and is_about_writing and _is_full(self.path):
            # GDAL and SQLite name a full disk in many ways, or not at all.
            raise OutputError(
                f"The disk of {self.path.parent} is full: make room, or choose another cache folder; "
                "the same run then continues where it stopped."
            ) from error

    def _mark_of(self, stage: str) -> Path:
        return self.path / f"{stage}.done.json"


def open_work(identity: Mapping[str, Any], *, cache: str = "", resume: bool = True) -> WorkFolder:
    """Make or find the folder of a run, lock it, and make room in the cache.

    A folder that another process works in is left to it; this run then gets a second one.

    Args:
        identity: What decides the result: the job's parameters, the identity of its inputs, the model's
            hash, the version (JSON values).
        cache: Folder of the cache; empty: the user's.
        resume: Continue from what is there; otherwise start anew.

    Raises:
        OutputError: The cache cannot be written.
    """
    root = cache_folder(cache) / "runs"
    key = digest(identity)[:20]
    try:
        for path in (root / (f"{key}-{n}" if n > 1 else key) for n in range(1, 100)):
            lock = _lock(path)
            if lock is None:
                continue
            work = WorkFolder(path, lock)
            if not resume:
                work.clear()
            os.utime(path)
            trim_cache(cache, CACHE_CAP_BYTES)
            return work
    except OSError as error:
        raise OutputError(
            f"The cache folder {root.parent} cannot be used ({error.strerror or error}): choose another."
        ) from error
    raise OutputError(f"Too many runs of this job are under way in {root}: wait for one to end.")


def trim_cache(cache: str = "", cap_bytes: int = 0) -> int:
    """Remove unfinished work, oldest first, until what is left is within `cap_bytes`; 0 removes all.

    Work that a process is busy with stays, and counts.

    Returns:
        Bytes that were removed.
    """
    root = cache_folder(cache) / "runs"
    folders = sorted(_folders_in(root), key=lambda entry: entry[1])
    excess = sum(size for _, _, size in folders) - cap_bytes
    removed = 0
    for path, _, size in folders:
        if removed >= excess:
            break
        lock = _lock(path)
        if lock is not None:
            _remove(path, lock)
            removed += size
    return removed


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:
        return False


def _folders_in(root: Path) -> Iterator[tuple[Path, float, int]]:
    """Each folder of work, when it was last used, and its size in bytes."""
    if not root.is_dir():
        return
    for path in root.iterdir():
        with contextlib.suppress(OSError):  # another process may be removing it
            size = sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
            yield path, path.stat().st_mtime, size


def _lock(folder: Path) -> int | None:
    """Make the folder and lock it: a file descriptor that holds the lock, or none if it is taken.

    The system drops the lock when the process ends, however that happens.

    Raises:
        OSError: The folder cannot be made.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue  # removed by another process since it was made
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # it was removed between its opening and its locking


def _remove(folder: Path, lock: int) -> None:
    """Remove a locked folder; the lock goes last, so that nobody finds half a folder unlocked."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != _LOCK_NAME:
            with contextlib.suppress(OSError):
                entry.unlink()
    if sys.platform == "win32":
        os.close(lock)  # an open file cannot be removed there; one that another process has opened neither
    with contextlib.suppress(OSError):
        (folder / _LOCK_NAME).unlink()
        folder.rmdir()
    if sys.platform != "win32":
        os.close(lock)
