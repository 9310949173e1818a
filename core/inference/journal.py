"""The journal of a run: what of its rows is on the disk, so that a killed run continues."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..raster.probability import unwritable

FORMAT = 1
ROWS_NAME = "probability.raw"
JOURNAL_NAME = "journal.jsonl"


class RowJournal:
    """A file of finished rows of probabilities, and a journal that says how many of them are safe.

    The rows (uint8) lie one after another in ``probability.raw``. ``journal.jsonl`` begins with what
    determines every byte of them (device, precision, tiles, grid, job), and gets a line after each row
    of tiles, once that is on the disk. A run with another beginning starts anew.

    `tile_rows_done`, the rows of tiles that are on the disk, may be read while another thread appends.
    """

    def __init__(self, work: Path, identity: Mapping[str, Any]) -> None:
        """Open or begin the journal in the folder `work`.

        Raises:
            OutputError: It cannot be written.
        """
        self.rows_path = work / ROWS_NAME
        self._journal_path = work / JOURNAL_NAME
        self._identity = json.loads(json.dumps({"format": FORMAT, **identity}))
        try:
            work.mkdir(parents=True, exist_ok=True)
            self.tile_rows_done, offset = self._read()
            self._rows = self.rows_path.open("r+b" if self.tile_rows_done else "w+b")
            self._rows.truncate(offset)
            self._rows.seek(offset)
            self._write_journal()
        except OSError as error:
            raise OutputError(unwritable(self.rows_path, str(error))) from error

    def append(self, rows: bytes | memoryview) -> None:
        """Write the rows of the next row of tiles, and note it once they are on the disk.

        Raises:
            OutputError: They cannot be written.
        """
        try:
            self._rows.write(rows)
            self._rows.flush()
            os.fsync(self._rows.fileno())
            self.tile_rows_done += 1
            line = {"tile_rows": self.tile_rows_done, "bytes": self._rows.tell()}
            self._journal.write(json.dumps(line) + "\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise OutputError(unwritable(self.rows_path, str(error))) from error

    def close(self) -> None:
        """Close both files."""
        for file in (self._rows, self._journal):
            with suppress(OSError):  # a full disk, told by `append`; what counts is on the disk
                file.close()

    def _read(self) -> tuple[int, int]:
        """How many rows of tiles are safe, and how many bytes they are."""
        try:
            lines = self._journal_path.read_text(encoding="utf-8").splitlines()
            size = self.rows_path.stat().st_size
        except FileNotFoundError:
            return 0, 0
        entries = [entry for entry in map(_parse, lines) if entry is not None]
        if not entries or entries[0] != self._identity:
            return 0, 0
        safe = [e for e in entries[1:] if e["bytes"] <= size]
        return (safe[-1]["tile_rows"], safe[-1]["bytes"]) if safe else (0, 0)

    def _write_journal(self) -> None:
        """Begin a clean journal, without the half line that a kill may have left."""
        fresh = self._journal_path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._identity) + "\n")
            if self.tile_rows_done:
                file.write(json.dumps({"tile_rows": self.tile_rows_done, "bytes": self._rows.tell()}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._journal_path)
        self._journal = self._journal_path.open("a", encoding="utf-8")


def _parse(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None
