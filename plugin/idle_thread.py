"""What a thread of Qt's pool does while it only waits for the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qgis.PyQt.QtCore import QThreadPool


@contextmanager
def idle_thread() -> Iterator[None]:
    """Lend this thread's place in Qt's pool to others: it waits, perhaps for hours.

    The pool has as many places as there are cores, and QGIS draws its map in it.
    """
    pool = QThreadPool.globalInstance()
    pool.releaseThread()
    try:
        yield
    finally:
        pool.reserveThread()
