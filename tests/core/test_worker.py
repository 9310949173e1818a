"""The worker as a process: what goes in as lines comes out as lines, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A job whose flow does what its `acts` say, in a worker that is otherwise the real one.
ACTING_WORKER = """
import dataclasses, os, sys, time, types
import aftermap_launcher
from aftermap.core import flows, jobs, worker
from aftermap.core.errors import RasterError

@dataclasses.dataclass(frozen=True)
class Act:
    acts: tuple

def act(job):
    try:
        for number, what in enumerate(job.acts):
            if what == "print":
                print("noise on standard output")
                os.write(1, b"noise on descriptor 1\\n")
            elif what == "hang":
                time.sleep(3600)
            elif what == "forever":
                while True:
                    yield jobs.Progress(0.5, "again")
            elif what == "until asked":
                try:
                    while True:
                        yield jobs.Progress(0.5, "again")
                except jobs.FinishEarly:
                    yield jobs.Progress(0.9, "asked")
            elif what == "no json":
                yield jobs.Metric("loss", {"value": object()})
            elif what == "no result":
                return
            elif what.startswith("raise "):
                raise eval(what[6:])
            yield jobs.Progress((number + 1) / len(job.acts), what)
        yield jobs.Result({}, {"read": sys.stdin.read()})
    finally:
        print("cleaned up", file=sys.stderr)

jobs.JOB_TYPES["Act"] = Act
module = sys.modules["aftermap.core.act"] = types.ModuleType("act")
module.act = act
flows.FLOWS["Act"] = "act"
worker.main()
"""


class Worker:
    """A worker process and its two ends of the protocol."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=env,
        )

    def send(self, message: dict[str, Any] | str) -> None:
        line = message if isinstance(message, str) else json.dumps(message)
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def act(self, *acts: str) -> None:
        self.send({"type": "Act", "version": 1, "acts": acts})

    def read(self) -> dict[str, Any]:
        return json.loads(self.process.stdout.readline())

    def read_last(self) -> dict[str, Any]:
        while (event := self.read())["type"] not in ("Result", "Failure"):
            pass
        return event

    def end(self, timeout: float = 2.0) -> str:
        """Close standard input; what the worker wrote to standard error once it has ended."""
        self.process.stdin.close()
        self.process.wait(timeout)
        return self.process.stderr.read().decode()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "aftermap_launcher.py").symlink_to(ROOT / "core" / "launcher.py")
    started = Worker([sys.executable, "-u", "-c", ACTING_WORKER], {**os.environ, "PYTHONPATH": str(tmp_path)})
    yield started
    if started.process.poll() is None:
        os.killpg(started.process.pid, signal.SIGKILL)
    started.process.wait()
    for stream in (started.process.stdin, started.process.stdout, started.process.stderr):
        stream.close()


def test_jobs_are_answered_in_order_and_one_worker_serves_many(worker: Worker) -> None:
    worker.act("one", "two")
    worker.act("three")
    assert [worker.read().get("message") for _ in range(3)] == ["one", "two", None]
    assert worker.read() == {"type": "Progress", "fraction": 1.0, "message": "three"}
    assert worker.read()["type"] == "Result"
    worker.end()
    assert worker.process.returncode == 0


def test_a_line_that_is_no_job_is_answered_and_the_worker_goes_on(worker: Worker) -> None:
    for line in (
        "garbage",
        "[]",
        '{"type": "Act"}',
        '{"type": "Nothing", "version": 1}',
        '"Cancel"',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ):
        worker.send(line)
        assert worker.read()["kind"] == "JobError"
    worker.act("fine")
    assert worker.read_last()["type"] == "Result"


def test_what_a_flow_prints_stays_out_of_the_protocol(worker: Worker) -> None:
    worker.act("print")
    assert [worker.read()["type"] for _ in range(2)] == ["Progress", "Result"]
    noise = worker.end()
    assert "noise on standard output" in noise
    assert "noise on descriptor 1" in noise


def test_a_flow_that_reads_standard_input_finds_nothing(worker: Worker) -> None:
    worker.act()
    assert worker.read_last()["values"] == {"read": ""}


@pytest.mark.parametrize(
    ("act", "kind", "part"),
    [
        (
            "raise RasterError('a.tif is no raster: choose another.')",
            "RasterError",
            "a.tif is no raster: choose another.",
        ),
        ("raise ValueError('odd\\nthing')", "UnexpectedError", "ValueError: odd thing"),
        ("raise MemoryError()", "AftermapError", "not enough memory"),
        (
            "raise OSError(28, 'No space left on device', '/some/where')",
            "OutputError",
            "disk is full while writing /some/where",
        ),
        ("no json", "UnexpectedError", "TypeError"),
        ("no result", "UnexpectedError", "act ended without a result"),
    ],
)
def test_every_error_is_one_sentence_and_the_worker_goes_on(
    worker: Worker, act: str, kind: str, part: str
) -> None:
    worker.act(act)
    failure = worker.read_last()
    assert failure["kind"] == kind
    assert part in failure["message"]
    assert "\n" not in failure["message"]
    assert bool(failure["traceback"]) is (kind != "RasterError")
    worker.act("fine")
    assert worker.read_last()["type"] == "Result"


def test_cancel_closes_the_flow_and_drops_the_jobs_behind_it(worker: Worker) -> None:
    worker.act("forever")
    worker.act("never")
    assert worker.read()["message"] == "again"
    worker.send({"type": "Cancel"})
    assert worker.read_last()["kind"] == "Cancelled"
    assert worker.read()["kind"] == "Cancelled"
    worker.act("after")
    assert worker.read()["message"] == "after"
    assert worker.read_last()["type"] == "Result"
    assert worker.end().count("cleaned up") == 2  # of the first job and the last


def test_a_cancel_between_jobs_means_none_of_the_next(worker: Worker) -> None:
    worker.act("one")
    assert worker.read_last()["type"] == "Result"
    worker.send({"type": "Cancel"})
    worker.send({"type": "Pause"})
    worker.act("two")
    assert worker.read_last()["type"] == "Result"


def test_pause_holds_the_flow_until_resume(worker: Worker) -> None:
    worker.act("forever")
    worker.read()
    worker.send({"type": "Pause"})
    # Paused, it stops filling the pipe: what is left in it can be read to a standstill, and Resume goes on.
    os.set_blocking(worker.process.stdout.fileno(), False)
    silent = 0
    while silent < 5:
        chunk = worker.process.stdout.read1()
        silent = 0 if chunk else silent + 1
        if not chunk:
            _state_until_sleeping(worker.process.pid)
    os.set_blocking(worker.process.stdout.fileno(), True)
    worker.send({"type": "Resume"})
    assert worker.read()["message"] == "again"
    worker.send({"type": "Pause"})
    worker.send({"type": "Cancel"})
    assert worker.read_last()["kind"] == "Cancelled"


def test_finish_lets_a_flow_end_with_what_it_has(worker: Worker) -> None:
    worker.act("until asked", "and after")
    worker.read()
    worker.send({"type": "Finish"})
    messages = []
    while (event := worker.read())["type"] == "Progress":
        messages.append(event["message"])
    assert messages[-3:] == ["asked", "until asked", "and after"]
    assert event["type"] == "Result"


def test_finish_ends_a_paused_flow_and_cancels_one_that_cannot_end_early(worker: Worker) -> None:
    worker.act("forever")
    worker.read()
    worker.send({"type": "Pause"})
    worker.send({"type": "Finish"})
    assert worker.read_last()["kind"] == "Cancelled"
    worker.act("after")
    assert worker.read_last()["type"] == "Result"


def _state_until_sleeping(pid: int) -> None:
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "R":
        pass


@pytest.mark.parametrize("act", ["forever", "hang"])
def test_the_end_of_input_ends_the_process_mid_job(worker: Worker, act: str) -> None:
    worker.act("one", act)
    worker.read()
    worker.process.stdin.close()
    worker.process.stdout.close()
    worker.process.wait(2.0)


@pytest.mark.parametrize("act", ["forever", "hang"])
def test_a_termination_signal_ends_the_process_mid_job(worker: Worker, act: str) -> None:
    worker.act("one", act)
    worker.read()
    worker.process.terminate()
    worker.process.stdout.close()
    worker.process.wait(2.0)


def test_the_worker_starts_from_a_folder_with_any_name(tmp_path: Path) -> None:
    home = tmp_path / "Überschwemmung 2023 (копия)"
    shutil.copytree(ROOT / "core", home / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "metadata.txt"):
        shutil.copy(ROOT / name, home / name)
    started = Worker([sys.executable, "-I", "-u", str(home / "core" / "launcher.py"), "worker"])
    started.send({"type": "DescribeRaster", "version": 1, "raster": str(tmp_path / "fehlt – nicht da.tif")})
    failure = started.read_last()
    started.end()
    assert failure["kind"] == "RasterError"
    assert "fehlt – nicht da.tif" in failure["message"]
