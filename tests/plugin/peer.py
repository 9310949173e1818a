"""A worker for the tests of its client: speaks the protocol, and does what the job's model field says.

Standard library only; it is started as the real one is, by ``python -I -u peer.py worker``.
"""

import json
import os
import signal
import subprocess
import sys
import time


def say(name, **fields):
    print(json.dumps({"type": name, **fields}), flush=True)


def until_cancelled():
    say("Progress", fraction=0.0, message="waiting")
    for line in sys.stdin:
        if json.loads(line)["type"] == "Cancel":
            return say("Failure", kind="Cancelled", message="Cancelled, says the peer.", traceback="")
    sys.exit(0)


def crash():
    print("segmentation fault, said the worker", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def ignore_cancel():
    say("Progress", fraction=0.1, message=f"{os.getpid()} with child {child_pid()}")
    while True:
        time.sleep(60)


def child_pid():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


def shout():
    for number in range(5000):
        print(f"{number} " + 100 * "*", file=sys.stderr)
    print("no line of the protocol", flush=True)
    say("Result", outputs={}, values={"lines": 5000})


def tell():
    say("Progress", fraction=0.5, message="1 of 2 tiles")
    say("Warning", message="grey imagery")
    values = {
        "pid": os.getpid(),
        "environment": dict(os.environ),
        "niceness": os.nice(0),
        "group": os.getpgrp(),
    }
    say("Result", outputs={}, values=values)


def repeat():
    for fraction, message in (
        (0.1, "Tracing"),
        (0.2, "Tracing"),
        (0.3, ""),
        (0.4, "Tracing"),
        (0.9, "Placing"),
    ):
        say("Progress", fraction=fraction, message=message)
    say("Result", outputs={}, values={})


def obey():
    """Say what it is told, until it is told to finish."""
    say("Progress", fraction=0.0, message="training")
    for line in sys.stdin:
        control = json.loads(line)["type"]
        say("Warning", message=control)
        if control == "Finish":
            say("Result", outputs={}, values={})
            break


ACTIONS = {
    "wait": until_cancelled,
    "obey": obey,
    "crash": crash,
    "ignore": ignore_cancel,
    "shout": shout,
    "tell": tell,
    "repeat": repeat,
    "fail": lambda: say("Failure", kind="ModelError", message="No model.", traceback="Traceback …"),
}

for line in iter(sys.stdin.readline, ""):
    job = json.loads(line)
    if job["type"] in ACTIONS or job.get("model") in ACTIONS:
        ACTIONS[job["model"]]()
