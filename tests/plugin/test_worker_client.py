"""The client against a peer that works, crashes, shouts, or does not listen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aftermap.core.errors import WorkerError
from aftermap.core.jobs import Failure, Progress, Result, SegmentRoads, Warning
from aftermap.plugin.worker_client import WorkerPool

PEER = Path(__file__).with_name("peer.py")


def job(action: str) -> SegmentRoads:
    return SegmentRoads(raster="scene.tif", model=action)


@pytest.fixture
def pool():
    pool = WorkerPool(lambda: Path(sys.executable), PEER)
    yield pool
    pool.close()


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> bool:
    for _ in range(200):
        if not is_running(pid):
            return True
        time.sleep(0.01)
    return False


def test_events_come_in_order(pool):
    events = list(pool.run(job("tell")))
    assert events[:2] == [Progress(0.5, "1 of 2 tiles"), Warning("grey imagery")]
    assert isinstance(events[2], Result)
    assert len(events) == 3


def test_worker_inherits_nothing_of_qgis_and_runs_at_lower_priority(pool, monkeypatch):
    for name in (
        "PYTHONPATH",
        "PYTHONHOME",
        "PROJ_LIB",
        "PROJ_DATA",
        "GDAL_DATA",
        "LD_LIBRARY_PATH",
        "SECRET",
    ):
        monkeypatch.setenv(name, "/of/qgis")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("https_proxy", "http://proxy")
    values = list(pool.run(job("tell")))[-1].values
    assert "/of/qgis" not in values["environment"].values()
    assert values["environment"]["CUDA_VISIBLE_DEVICES"] == "0"
    assert values["environment"]["https_proxy"] == "http://proxy"
    assert values["niceness"] > os.nice(0)
    assert values["group"] == values["pid"] != os.getpgrp()


def test_second_job_runs_in_the_same_worker(pool):
    first, second = (list(pool.run(job("tell")))[-1].values["pid"] for _ in range(2))
    assert first == second


def test_another_worker_starts_while_one_is_busy(pool):
    slow = pool.run(job("ignore"))
    busy = int(next(slow).message.split()[0])
    assert list(pool.run(job("tell")))[-1].values["pid"] != busy
    slow.close()
    assert wait_until_gone(busy)


def test_crash_is_one_sentence_with_the_last_words(pool):
    *_, last = pool.run(job("crash"))
    assert isinstance(last, Failure)
    assert last.kind == "WorkerError"
    assert "ended before its job did" in last.message
    assert "segmentation fault, said the worker" in last.traceback
    assert isinstance(list(pool.run(job("tell")))[-1], Result), "the next job gets another worker"


def test_noise_blocks_nothing(pool):
    assert list(pool.run(job("shout"))) == [Result({}, {"lines": 5000})]


def test_cancel_is_asked_for_first(pool):
    cancelled = threading.Event()
    events = pool.run(job("wait"), cancelled.is_set)
    next(events)
    (worker,) = pool._busy
    cancelled.set()
    assert list(events) == [Failure("Cancelled", "Cancelled, says the peer.")]
    assert wait_until_gone(worker.pid), "nothing stays of a cancelled run, not even an obedient worker"
    assert not pool._idle


def test_running_job_is_told_to_pause_resume_and_finish(pool):
    told = []

    def take_controls():
        taken, told[:] = list(told), []
        return taken

    events = pool.run(job("obey"), take_controls=take_controls)
    next(events)
    for control in ("Pause", "Resume", "Finish"):
        told.append(control)
        assert next(events) == Warning(control)
    assert list(events) == [Result({}, {})]


def test_worker_that_ignores_cancel_is_killed_with_its_children(pool):
    cancelled = threading.Event()
    events = pool.run(job("ignore"), cancelled.is_set)
    worker, child = (int(word) for word in next(events).message.split(" with child "))
    cancelled.set()
    assert [event.kind for event in events] == ["Cancelled"]
    assert wait_until_gone(worker)
    assert wait_until_gone(child)


def test_abandoned_run_leaves_no_process(pool):
    events = pool.run(job("ignore"))
    worker, child = (int(word) for word in next(events).message.split(" with child "))
    events.close()
    assert wait_until_gone(worker)
    assert wait_until_gone(child)


def test_close_ends_idle_and_busy_workers(pool):
    slow = pool.run(job("ignore"))
    busy = int(next(slow).message.split()[0])
    idle = list(pool.run(job("tell")))[-1].values["pid"]
    pool.close()
    assert wait_until_gone(busy)
    assert wait_until_gone(idle)
    assert isinstance(list(slow)[-1], Failure)


def test_worker_does_not_outlive_its_client():
    """The client is killed, so that nothing but the end of its pipe can end the worker."""
    script = (
        "import importlib.util, sys\n"
        f"sys.path.insert(0, {str(PEER.parent)!r})\n"
        "import conftest\n"
        "from pathlib import Path\n"
        "from test_worker_client import PEER, job\n"
        "from aftermap.plugin.worker_client import WorkerPool\n"
        "pool = WorkerPool(lambda: Path(sys.executable), PEER)\n"
        "print(list(pool.run(job('tell')))[-1].values['pid'], flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert wait_until_gone(int(done.stdout)), done.stderr


def test_python_that_does_not_start_is_one_sentence(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("no program")
    pool = WorkerPool(lambda: broken, PEER)
    with pytest.raises(WorkerError, match="does not start"):
        list(pool.run(job("tell")))
