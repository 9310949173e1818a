"""The version of Aftermap; metadata.txt is its one source."""

from __future__ import annotations

from pathlib import Path


def read_version() -> str:
    """The version that metadata.txt states."""
    text = (Path(__file__).resolve().parent.parent / "metadata.txt").read_text(encoding="utf-8")
    return next(line.split("=", 1)[1].strip() for line in text.splitlines() if line.startswith("version="))
