"""Translated texts."""

from __future__ import annotations

from qgis.PyQt.QtCore import QCoreApplication


def tr(text: str) -> str:
    """`text` in the language of QGIS; placeholders are filled after the translation."""
    return QCoreApplication.translate("Aftermap", text)
