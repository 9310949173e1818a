"""A bounded queue between two threads that either side can close."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelClosedError(Exception):
    """The other side has given up: stop."""


class Channel(Generic[T]):
    """A queue of at most `depth` items; iterating over it takes them until it is finished."""

    def __init__(self, depth: int) -> None:
        """Hold at most `depth` items, >= 1."""
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = Condition()
        self._finished = False
        self._closed = False

    def put(self, item: T) -> None:
        """Append an item; waits while the queue is full.

        Raises:
            ChannelClosedError: Nobody takes items any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if self._closed:
                raise ChannelClosedError
            self._items.append(item)
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that no more items come."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Give up, from either side; what is in the queue is dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Take items; ends when the queue is finished and empty.

        Raises:
            ChannelClosedError: It was closed before that.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._finished or bool(self._items))
                if self._closed:
                    raise ChannelClosedError
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
