"""What a training keeps and tells while it runs, whatever it trains."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from .cards import CARD_NAME, PACKAGE_SUFFIX
from .jobs import Event, FinishEarly, Metric, Progress, Result, TrainModel, Warning
from .networks.unet import SegmentationNetwork
from .outputs import check_destinations
from .progress import in_words
from .reports import REPORT_NAME
from .training.trainer import TrainingStep

_BEST_NAME = "best.safetensors"


class History:
    """What a training did so far, kept beside its checkpoint so that a resumed one goes on with it.

    Args:
        folder: Of the checkpoint.
        judge: Name of the score by which rounds are judged; higher is better.

    Attributes:
        steps: ``step``, ``loss``, ``bce``, ``learning_rate`` and ``class_share`` of every tenth step.
        rounds: Scores of each round.
        drawn: Stems of the validation tiles that are drawn, one list a data set.
        findings: What the diagnosis said, by the name of the finding.
    """

    def __init__(self, folder: Path, judge: str = "iou") -> None:
        self._folder, self._judge = folder, judge
        self.steps: list[dict[str, float]] = []
        self.rounds: list[dict[str, Any]] = []
        self.drawn: list[list[str]] = []
        self.findings: dict[str, str] = {}
        if self._path.exists():
            body = json.loads(self._path.read_text(encoding="utf-8"))
            self.steps, self.rounds = body["steps"], body["rounds"]
            self.drawn, self.findings = body["drawn"], body["findings"]

    @property
    def _path(self) -> Path:
        return self._folder / "history.json"

    @property
    def best_file(self) -> Path:
        """Weights of the best trained round."""
        return self._folder / _BEST_NAME

    @property
    def best(self) -> dict[str, Any] | None:
        """The round with the highest score, and the last of equals; not the start model."""
        trained = [r for r in self.rounds if r["step"]]
        return max(trained, key=lambda r: (r[self._judge], r["step"]), default=None)

    @property
    def rounds_since_best(self) -> int:
        """How many rounds did not better the best."""
        return 0 if self.best is None else sum(r["step"] > self.best["step"] for r in self.rounds)

    def has_round(self, step: int) -> bool:
        """Whether the round that ends with a step has been scored."""
        return any(r["step"] == step for r in self.rounds)

    def forget_after(self, step: int) -> None:
        """Drop the steps that lie after the checkpoint that the training goes on from."""
        self.steps = [s for s in self.steps if s["step"] <= step]

    def add_round(self, scores: dict[str, Any], network: SegmentationNetwork) -> None:
        """Keep a round's scores, and its network if it is the best so far."""
        self.rounds = [r for r in self.rounds if r["step"] != scores["step"]] + [scores]
        if self.best is scores:
            staged = self._folder / "best.tmp"
            save_file({k: v.contiguous().cpu() for k, v in network.state_dict().items()}, staged)
            staged.replace(self.best_file)
        staged = self._folder / "history.tmp"
        kept = ("steps", "rounds", "drawn", "findings")
        staged.write_text(json.dumps({name: getattr(self, name) for name in kept}), encoding="utf-8")
        staged.replace(self._path)


def report_step(
    news: TrainingStep, history: History, steps: int, seconds_a_step: float, device: str
) -> Iterator[Event]:
    """Tell and keep what a step was like.

    Args:
        news: The step.
        history: Keeps every tenth.
        steps: Of the whole run.
        seconds_a_step: For the time that is left.
        device: In words.
    """
    if news.notice:
        yield Warning(news.notice)
    if news.step % 10 == 0 or news.step == steps:
        values = {
            "loss": news.loss,
            "bce": news.bce,
            "learning_rate": news.learning_rate,
            "class_share": news.class_share,
        }
        history.steps.append({"step": news.step, **values})
        where = {"memory_mb": news.memory_mb, "device": device}
        yield Metric("training", {**values, **where}, news.step)
    left = seconds_a_step * (steps - news.step)
    message = f"Training: step {news.step} of {steps}, loss {news.loss:.3f}, {in_words(left)} left"
    yield Progress(news.step / steps, message)


def figures_of(job: TrainModel) -> Path:
    """Folder beside the model for pictures and the report."""
    output = Path(job.output)
    return output.with_name(f"{output.stem}-training")


def check_output(job: TrainModel) -> None:
    """Find out before hours of training whether the model and its report can be written.

    Raises:
        OutputError: They cannot.
    """
    output = Path(job.output)
    model = output if output.suffix == PACKAGE_SUFFIX else output / CARD_NAME
    check_destinations({"model": model, "report": figures_of(job) / REPORT_NAME})


def undisturbed(events: Generator[Event, None, Result]) -> Generator[Event, None, Result]:
    """Finish whoever asks to finish early: there is nothing left to cut short."""
    with contextlib.closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: Result = end.value
                return result
            with contextlib.suppress(FinishEarly):
                yield event
