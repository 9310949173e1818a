"""The client of the worker: starts it, hands it jobs, turns its lines into events.

One worker runs one job at a time. The pool keeps an idle one for the next job, so that a second run starts
at once, and starts another while one is busy. It may be used from any thread; a job's events come to the
thread that asked for them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Callable

from ..core.errors import JobError, WorkerError
from ..core.jobs import Event, Failure, Job, event_from_json, to_json
from .translation import tr
from .worker_environment import worker_environment

LAUNCHER = Path(__file__).resolve().parent.parent / "core" / "launcher.py"
CANCELLED = "Cancelled"
CANCEL_GRACE_S = 1.5
POLL_S = 0.05
IDLE_S = 300.0
LOG_LINES = 200
NICENESS = 10

TakeControls = Callable[[], Iterable[str]]


class Worker:
    """One worker process."""

    def __init__(self, python: Path, launcher: Path = LAUNCHER) -> None:
        """Start the process.

        Raises:
            WorkerError: `python` cannot be started.
        """
        self.python = python
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._lines: queue.Queue[str | None] = queue.Queue()
        try:
            self._process = _start([str(python), "-I", "-u", "-X", "utf8", str(launcher), "worker"], python)
        except OSError as error:
            raise WorkerError(
                tr(
                    "{} does not start ({}): choose another interpreter in Settings → Options → Aftermap."
                ).format(python, error)
            ) from error
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._drain_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id, also that of its group."""
        return self._process.pid

    def run(
        self, job: Job, is_cancelled: Callable[[], bool], take_controls: TakeControls = tuple
    ) -> Iterator[Event]:
        """Run one job; the last event is a `Result` or a `Failure`, also if the process dies.

        Args:
            job: The job.
            is_cancelled: Asked about twenty times a second. What the worker has not stopped a second and
                a half after it says so is killed.
            take_controls: Asked as often for what to tell the job: ``Pause``, ``Resume``, ``Finish``.
        """
        self._send(to_json(job))
        kill_at: float | None = None
        while True:
            for control in take_controls():
                self._send_control(control)
            if kill_at is None and is_cancelled():
                kill_at = time.monotonic() + CANCEL_GRACE_S
                self._send_control("Cancel")
            if kill_at is not None and time.monotonic() > kill_at:
                self.kill()
                yield Failure(CANCELLED, tr("Cancelled."))
                return
            try:
                line = self._lines.get(timeout=POLL_S)
            except queue.Empty:
                if self.is_alive:
                    continue
                line = self._last_line()
            if line is None:
                yield Failure(CANCELLED, tr("Cancelled.")) if kill_at is not None else self._obituary()
                return
            try:
                event = event_from_json(line)
            except JobError:
                self._log.append(line)
                continue
            yield event
            if event.is_last:
                return

    def kill(self) -> None:
        """End the process and its children, whatever they do."""
        _kill_group(self._process)
        self._process.wait()
        self._join()

    def close(self) -> None:
        """End an idle process: it goes when its input ends."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=CANCEL_GRACE_S)
        except subprocess.TimeoutExpired:
            _kill_group(self._process)
            self._process.wait()
        self._join()

    def _send(self, line: str) -> None:
        # If the worker has died, the end of its output says so to `run`.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _send_control(self, name: str) -> None:
        self._send(json.dumps({"type": name}))

    def _read_lines(self) -> None:
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _drain_log(self) -> None:
        with self._process.stderr as lines:
            for line in lines:
                self._log.append(line.rstrip("\n"))

    def _last_line(self) -> str | None:
        # A child that outlives the worker keeps its output open, so that no end of file tells of its death.
        try:
            return self._lines.get(timeout=1)
        except queue.Empty:
            return None

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(timeout=1)
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _obituary(self) -> Failure:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        self.kill()
        code = self._process.returncode
        how = tr("signal {}").format(-code) if code < 0 else tr("exit code {}").format(code)
        message = tr(
            "The worker ended before its job did ({}), perhaps for want of memory: run again, it continues "
            "where it stopped. Its last words are in the log."
        ).format(how)
        return Failure(WorkerError.__name__, message, "\n".join(self._log))


class WorkerPool:
    """The workers of this QGIS session."""

    def __init__(self, find_python: Callable[[], Path], launcher: Path = LAUNCHER) -> None:
        """Make an empty pool; `find_python` is asked, and may raise, when a worker is needed."""
        self.find_python = find_python
        self._launcher = launcher
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._retirement: threading.Timer | None = None
        atexit.register(self.close)

    def run(
        self,
        job: Job,
        is_cancelled: Callable[[], bool] = lambda: False,
        take_controls: TakeControls = tuple,
    ) -> Iterator[Event]:
        """Run one job in a worker of its own; see `Worker.run`.

        Raises:
            WorkerError: There is no Python for the worker, or it cannot be started.
        """
        worker = self._take()
        may_stay = False
        try:
            for event in worker.run(job, is_cancelled, take_controls):
                # A cancelled worker goes, with all the memory that it holds.
                may_stay = event.is_last and getattr(event, "kind", "") != CANCELLED
                yield event
        finally:
            self._give_back(worker, may_stay)

    def close(self) -> None:
        """End every worker, busy ones too."""
        atexit.unregister(self.close)
        with self._lock:
            idle, busy = self._idle, list(self._busy)
            self._idle = []
            self._cancel_retirement()
        for worker in busy:
            worker.kill()
        for worker in idle:
            worker.close()

    def _take(self) -> Worker:
        python = self.find_python()
        with self._lock:
            self._cancel_retirement()
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive and worker.python == python:
                    break
                worker.close()
            else:
                worker = Worker(python, self._launcher)
            self._busy.add(worker)
        return worker

    def _give_back(self, worker: Worker, may_stay: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            if may_stay and worker.is_alive and not self._idle:
                self._idle.append(worker)
                self._retirement = threading.Timer(IDLE_S, self._retire)
                self._retirement.daemon = True
                self._retirement.start()
                return
        if may_stay:
            worker.close()
        else:
            worker.kill()

    def _retire(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def _cancel_retirement(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
            self._retirement = None


def _start(command: list[str], python: Path) -> subprocess.Popen[str]:
    windows = sys.platform == "win32"
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=worker_environment(python),
        start_new_session=not windows,
        creationflags=subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS if windows else 0,
    )
    if not windows:
        # From here and not by preexec_fn, which may deadlock in a process that has threads, as QGIS has.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
    return process


def _kill_group(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/T", "/F", "/PID", str(process.pid)],
            creationflags=subprocess.CREATE_NO_WINDOW,
            capture_output=True,
            check=False,
        )
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
