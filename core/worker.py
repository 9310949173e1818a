"""The process that does the work: jobs in on standard input, events out, one JSON object a line.

Besides jobs, standard input takes the control lines ``{"type": "Cancel"}``, ``{"type": "Pause"}``, ``{"type":
"Resume"}`` and ``{"type": "Finish"}`` (end now with what there is: a training keeps its best network), which
mean every job that was sent before them and has not ended. Jobs run one at a time, in order; each gets
exactly one `Result` or `Failure`, as does a line that is no job. The end of standard input ends the process,
mid-job too, so that it never outlives whoever started it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import BinaryIO

from .errors import JobError
from .flows import CANCELLED, failure_of, run_flow
from .jobs import FinishEarly, job_from_json, to_json

GRACE_S = 1.0
"""How long a running job has for its cleaning up once the process must end."""

_CONTROLS = ("Cancel", "Pause", "Resume", "Finish")


@dataclass
class _Request:
    """A line that wants an answer, and what control lines have said about it."""

    line: str
    is_cancelled: bool = False
    is_paused: bool = False
    is_to_finish: bool = False


class Inbox:
    """Jobs in the order of their lines; one thread feeds it, another takes from it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # its lock is reentrant: a signal handler may close the inbox
        self._unfinished: deque[_Request] = deque()
        self._is_closed = False

    def feed(self, line: str) -> None:
        """Take in a line: a control line acts at once, any other waits for its turn."""
        control = _control_of(line)
        with self._changed:
            if control is None:
                self._unfinished.append(_Request(line))
            for request in self._unfinished if control else ():
                request.is_cancelled |= control == "Cancel"
                request.is_to_finish |= control == "Finish"
                request.is_paused = control == "Pause" or (
                    request.is_paused and control not in ("Resume", "Finish")
                )
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will come, and what is running is to stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def take(self) -> _Request | None:
        """Wait for the next line; none once the inbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._unfinished or self._is_closed)
            return None if self._is_closed else self._unfinished[0]

    def goes_on(self, request: _Request) -> bool:
        """Wait while the request is paused; whether it may take another step."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or request.is_cancelled or not request.is_paused)
            return not (self._is_closed or request.is_cancelled)

    def take_finish(self, request: _Request) -> bool:
        """Whether the request is to end with what it has; true once for each time that it was asked."""
        with self._changed:
            asked, request.is_to_finish = request.is_to_finish, False
            return asked

    def finish(self, request: _Request) -> None:
        """The request has its answer; control lines mean it no longer."""
        with self._changed:
            self._unfinished.remove(request)


def answer(request: _Request, inbox: Inbox) -> Iterator[str]:
    """The events of one request as lines, the last one a `Result` or a `Failure`."""
    try:
        events = run_flow(job_from_json(request.line))
    except JobError as error:
        yield to_json(failure_of(error))
        return
    try:
        has_begun = False
        while inbox.goes_on(request):
            # What has not begun has nothing to finish with.
            is_to_finish = has_begun and inbox.take_finish(request)
            event = events.throw(FinishEarly()) if is_to_finish else next(events)
            has_begun = True
            yield to_json(event)
            if event.is_last:
                return
        events.close()
    except Exception as error:  # the process boundary: cleaning up failed, or an event is no JSON
        yield to_json(failure_of(error))
    else:
        yield to_json(CANCELLED)


def main() -> int:
    """Serve until standard input ends."""
    jobs, events = _claim_standard_streams()
    inbox = Inbox()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), lambda number, frame: _end_soon(inbox))
    threading.Thread(target=_read, args=(jobs, inbox), daemon=True).start()
    while request := inbox.take():
        for line in answer(request, inbox):
            _write(events, line)
        inbox.finish(request)
    sys.stderr.flush()
    os._exit(0)  # not a return: the reading thread may hold standard input, and libraries are slow to unload


def _claim_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep standard input and output for the protocol alone.

    What a library prints goes to standard error, and a child process that reads finds nothing.
    """
    jobs, events = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return jobs, events


def _read(jobs: BinaryIO, inbox: Inbox) -> None:
    for line in jobs:
        if line.strip():
            inbox.feed(line.decode("utf-8", "replace"))
    _end_soon(inbox)


def _control_of(line: str) -> str | None:
    try:
        body = json.loads(line)
    except ValueError:
        return None
    name = body.get("type") if isinstance(body, dict) else None
    return name if name in _CONTROLS else None


def _write(events: BinaryIO, line: str) -> None:
    try:
        events.write(line.encode("utf-8", "backslashreplace") + b"\n")
        events.flush()
    except OSError:
        _kill_all()  # nobody listens any more


def _end_soon(inbox: Inbox, signal_number: int = 0, frame: FrameType | None = None) -> None:
    """Stop what runs, and end the process even where a step does not return."""
    inbox.close()
    timer = threading.Timer(GRACE_S, _kill_all)
    timer.daemon = True
    timer.start()


def _kill_all() -> None:
    """End this process without cleaning up, and its children where it leads their group."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
