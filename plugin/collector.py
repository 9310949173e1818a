"""Python's collector of cyclic garbage, kept out of threads where it does harm."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collect nothing meanwhile: in a thread of an algorithm, Qt objects of the interface would go with it.

    What makes much garbage must not stand inside; what is not cyclic goes as ever.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
