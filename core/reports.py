"""Folders with a report: looked at before anything is computed, then filled whole or not at all."""

from __future__ import annotations

from pathlib import Path

from .evaluation.report import Report, render_html
from .outputs import Output, check_destinations, commit
from .runs import digest

REPORT_NAME = "report.html"


def check_report_folder(folder: Path) -> None:
    """Find out, before a run, whether a report can be written to a folder.

    Raises:
        OutputError: It cannot.
    """
    check_destinations({"report": folder / REPORT_NAME})


def publish_report(report: Report, made: Path, folder: Path) -> Path:
    """Write a report, and put it in its place with the pictures and tables that belong to it.

    Args:
        report: What to write.
        made: Folder with what else was made; its files are moved.
        folder: Where all of it goes; files of equal names there are replaced.

    Returns:
        The path of the page.

    Raises:
        OutputError: It cannot be written.
    """
    (made / REPORT_NAME).write_text(render_html(report), encoding="utf-8")
    outputs = [Output(path, folder / path.name) for path in sorted(made.iterdir())]
    for _ in commit(outputs, digest({"report": str(folder)})[:12]):
        pass
    return folder / REPORT_NAME
