"""What an algorithm makes of the events of its job, which a peer of the client speaks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from qgis.core import QgsApplication, QgsProcessingException, QgsProcessingFeedback

from aftermap.core.jobs import Result, SegmentRoads
from aftermap.plugin.algorithms import segment_roads
from aftermap.plugin.layers import LayerStyles
from aftermap.plugin.worker_client import WorkerPool

PEER = Path(__file__).with_name("peer.py")


class Feedback(QgsProcessingFeedback):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.texts, self.infos = [], []

    def setProgressText(self, text):  # noqa: N802
        self.texts.append(text)

    def pushInfo(self, text):  # noqa: N802
        self.infos.append(text)


@pytest.fixture
def run():
    """Runs the job that the peer does for an action."""
    pool = WorkerPool(lambda: Path(sys.executable), PEER)
    algorithm = segment_roads.SegmentRoads(pool, LayerStyles())
    yield lambda action, feedback: algorithm.run_job(SegmentRoads("scene.tif", action), feedback)
    pool.close()


@pytest.fixture
def log_panel():
    """Tab and text of each message of QGIS's log panel."""
    messages = []

    def keep(text, tab, level):
        messages.append((tab, text))

    log = QgsApplication.messageLog()
    log.messageReceived.connect(keep)
    yield messages
    log.messageReceived.disconnect(keep)


def test_each_progress_line_is_said_once(run):
    feedback = Feedback()
    assert isinstance(run("repeat", feedback), Result)
    assert feedback.texts == ["Tracing", "Placing"]
    assert feedback.progress() == pytest.approx(90)


def test_failure_is_a_sentence_and_its_traceback_is_in_the_log_panel(run, log_panel):
    with pytest.raises(QgsProcessingException, match=r"^No model\.$"):
        run("fail", Feedback())
    assert ("Aftermap", "Traceback …") in log_panel


def test_cancelled_run_says_so(run):
    feedback = Feedback()
    feedback.cancel()
    assert run("wait", feedback) is None
    assert feedback.infos == ["Cancelled, says the peer."]
