"""The training loop: batches in, an averaged network out, a checkpoint at every round."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import math
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from ..datasets.crops import Crops, make_batch
from ..datasets.folders import IGNORE
from ..errors import DeviceError, JobError, OutputError
from ..networks.unet import SegmentationNetwork
from .distributed import (
    average_gradients,
    bytes_from_leader,
    is_leader,
    join_batch_norms,
    process_count,
    process_rank,
    sum_over_processes,
    value_from_leader,
)
from .losses import Objective, bce
from .schedules import Cosine, Schedule

EMA_DECAY = 0.999
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TrainerSettings:
    """How a network is trained.

    Attributes:
        steps: Optimiser steps.
        rounds: Into how many rounds the steps are divided; after each there is a checkpoint and a validation.
        learning_rate: At the peak of the schedule.
        weight_decay: Of AdamW.
        seed: Of everything that is random.
        mean: Of the bands, in 0 to 1.
        std: Of the bands.
        accumulate: Batches whose gradients make one step. Sums of a loss, and statistics of batch
            normalisation, are those of one batch, and the step follows the mean of the gradients.
    """

    steps: int
    rounds: int
    learning_rate: float
    seed: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weight_decay: float = 0.01
    accumulate: int = 1


@dataclass(frozen=True)
class TrainingStep:
    """What one step was like.

    Attributes:
        step: Its number, from 1.
        loss: What was minimised.
        learning_rate: With which.
        bce: Unweighted binary cross-entropy of the first head, to be held against `constant_loss`.
        class_share: Share of the class among the labelled pixels of the step.
        memory_mb: The most that the process (on a GPU: on the GPU) held so far; none where the system does
            not tell.
        notice: What the user should know, a sentence; mostly empty.
    """

    step: int
    loss: float
    learning_rate: float
    bce: float = 0.0
    class_share: float = 0.0
    memory_mb: float | None = None
    notice: str = ""


class Trainer:
    """Trains a network, with a checkpoint in `folder` after each round.

    Where several processes train together (`distributed.join_processes`), each has a trainer with equal
    arguments; together they take the steps of one. All of them call `run`, `restore` and `observe`; only the
    leader writes.

    Args:
        network: The network; it is trained in place.
        sources: Where crops come from.
        counts: How many crops of a batch come from each source.
        objective: What is minimised, of the logits and labels of a batch.
        settings: How it is trained.
        device: Where it runs. bfloat16 is used where `use_bfloat16`; weights stay in single precision.
        use_bfloat16: Whether the forward pass runs in bfloat16.
        folder: Where checkpoints lie.
        schedule: Of the learning rate; none: a cosine over all steps.

    Raises:
        JobError: The batch has fewer crops than there are processes.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        sources: Sequence[Crops],
        counts: Sequence[int],
        objective: Objective,
        settings: TrainerSettings,
        device: torch.device,
        use_bfloat16: bool,
        folder: Path,
        schedule: Schedule | None = None,
    ) -> None:
        if sum(counts) < process_count():
            raise JobError(
                f"A batch of {sum(counts)} cannot be divided among {process_count()} processes: "
                "choose a larger batch, or start fewer processes."
            )
        self.settings, self.sources, self.counts, self.objective = settings, sources, counts, objective
        self.device, self.use_bfloat16, self.folder = device, use_bfloat16, folder
        self.schedule = schedule or Cosine(settings.steps)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged: SegmentationNetwork = copy.deepcopy(self.network).eval()
        join_batch_norms(self.network)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), weight_decay=settings.weight_decay)
        self.step = 0
        self.parts = 1  # into which a batch is divided because memory was short
        self._mean = torch.tensor(settings.mean, device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(settings.std, device=device).view(1, -1, 1, 1)

    def run(self) -> Iterator[TrainingStep]:
        """Train to the end; yields after each step, and is safe to close between two.

        Raises:
            DeviceError: Memory is too short for a single crop.
            JobError: The loss is no longer a number.
            OutputError: A checkpoint cannot be written; the one before is still there.
        """
        # Beside a GPU, one thread that cuts crops (18 ms each) would be slower than the steps; on the CPU the
        # cores are the network's.
        threads = 1 if self.device.type == "cpu" else min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as loader:
            coming = range(self.step, self.settings.steps)
            upcoming = deque(loader.submit(self._load, step) for step in coming[:threads])
            try:
                for step in coming:
                    batches = upcoming.popleft().result()
                    if step + threads in coming:
                        upcoming.append(loader.submit(self._load, step + threads))
                    rate = self.settings.learning_rate * self.schedule.factor(step)
                    news = self._take_step(batches, rate)
                    if not math.isfinite(news.loss):
                        raise JobError(
                            f"The loss is no longer a number at step {news.step}, at a learning rate of "
                            f"{rate:.2g}: train with a lower one."
                        )
                    if self.is_round_end:
                        self._save()
                    yield news
            finally:
                for load in upcoming:
                    load.cancel()

    def sample(self, source: Crops, count: int) -> Tensor:
        """The first crops of a source, normalised as in training: float32 (count, bands, crop, crop)."""
        images, _ = make_batch([source], [count], self.settings.seed, 0)
        normalised: Tensor = (images - self._mean.cpu()) / self._std.cpu()
        return normalised

    def try_rate(self, learning_rate: float) -> float:
        """Take the next step at a learning rate, whatever the schedule says; for the range test.

        Returns:
            The loss.
        """
        return self._take_step(self._load(self.step), learning_rate).loss

    def observe(self, score: float) -> None:
        """Tell the schedule how the round that has just ended was judged.

        To be called before the score is kept elsewhere: the checkpoint is written anew where the schedule
        heeds it, so that a run which is killed in between comes to the same rates.

        Args:
            score: Higher is better; where several processes train, the leader's counts.
        """
        if self.schedule.observe(self.step, float(value_from_leader(score, self.device))):
            self._save()

    @property
    def is_round_end(self) -> bool:
        """Whether a round ends with the step that was just made."""
        length = max(1, self.settings.steps // self.settings.rounds)
        return self.step == self.settings.steps or (
            self.step % length == 0 and self.step // length < self.settings.rounds
        )

    def _load(self, step: int) -> list[Batch]:
        """The batches of a step, or this process's part of them."""
        seed, first = self.settings.seed, step * self.settings.accumulate
        return [
            make_batch(self.sources, self.counts, seed, first + i, process_rank(), process_count())
            for i in range(self.settings.accumulate)
        ]

    def _take_step(self, batches: Sequence[Batch], rate: float) -> TrainingStep:
        """One step; a batch for which memory is short is halved until it fits."""
        notice = ""
        while True:
            try:
                loss, plain, share = self._optimise(batches, rate)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                crops = -(-len(batches[0][0]) // self.parts)
                if crops == 1 or process_count() > 1:
                    raise DeviceError(
                        f"{self.device} has too little memory for {crops} crops of "
                        f"{batches[0][0].shape[-1]} px: choose smaller crops, a smaller batch, or a smaller "
                        "network."
                    ) from error
            # Outside of the handler, whose error holds on to what the failed step had allocated.
            self.parts *= 2
            notice = (
                f"Memory ran out at step {self.step + 1} with {crops} crops at once: from here on it takes "
                f"{-(-len(batches[0][0]) // self.parts)} at once and adds the gradients up."
            )
            self.optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        self.step += 1
        return TrainingStep(self.step, loss, rate, plain, share, memory_mb(self.device), notice)

    def _optimise(self, batches: Sequence[Batch], rate: float) -> tuple[float, float, float]:
        """Gradients of all parts, then one step of the optimiser; loss, unweighted BCE and class share."""
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        crops = sum(len(images) for images, _ in batches)
        sums = torch.zeros(4, device=self.device)
        for images, labels in batches:
            size = -(-len(images) // self.parts)
            for some, their_labels in zip(torch.split(images, size), torch.split(labels, size), strict=True):
                sums += self._add_gradients(some, their_labels, len(some) / crops)
        average_gradients(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self._average()
        loss, plain, positive, known = sums.tolist()
        return loss, plain, positive / max(known, 1.0)

    def _add_gradients(self, images: Tensor, labels: Tensor, weight: float) -> Tensor:
        """Add the gradients of some crops; weighted loss and BCE, positive and known pixels, float32 (4,)."""
        images = ((images.to(self.device) - self._mean) / self._std).contiguous(
            memory_format=torch.channels_last
        )
        labels = labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            logits = self.network(images)
        logits = logits.float()
        total = self.objective(logits, labels)
        (weight * total).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            plain = bce(logits[:, 0], labels[:, 0])
            pixels = torch.stack(((labels[:, 0] == 1).sum(), (labels[:, 0] != IGNORE).sum())).float()
            return torch.cat((weight * torch.stack((total, plain)), sum_over_processes(pixels)))

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of weights and statistics, with a short memory at the start."""
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        for mean, new in zip(
            self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(new)

    def _save(self) -> None:
        """Write a checkpoint, whole or not at all: tensors, and the rest as JSON in one of them.

        Nothing else needs to be kept: batches are a function of seed and step, and the networks draw no lots.
        """
        if not is_leader():
            return
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
        rest = {"step": self.step, "parts": self.parts, "schedule": self.schedule.state()}
        tensors["rest"] = torch.frombuffer(bytearray(json.dumps(rest).encode()), dtype=torch.uint8)
        content = write_tensors({k: v.contiguous().cpu() for k, v in tensors.items()})
        staged = self.folder / "checkpoint.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave the name with half of its content
            staged.replace(self._checkpoint)
        except OSError as error:
            with contextlib.suppress(OSError):
                staged.unlink()
            reason = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
            raise OutputError(
                f"The checkpoint {self._checkpoint} cannot be written ({reason}): make room there and start "
                "the same training again; it goes on from the checkpoint before."
            ) from error

    def restore(self) -> None:
        """Go on from the last checkpoint in the folder, if there is one.

        Raises:
            OutputError: It is damaged.
        """
        found = self._checkpoint.read_bytes() if is_leader() and self._checkpoint.exists() else b""
        content = bytes_from_leader(found, self.device)
        if not content:
            return
        try:
            tensors = read_tensors(content)
            rest = json.loads(bytes(tensors["rest"].tolist()))
        except (SafetensorError, KeyError, ValueError) as error:
            raise OutputError(
                f"The checkpoint {self._checkpoint} is damaged: start the training without resuming."
            ) from error
        self.network.load_state_dict(_under("network.", tensors))
        self.averaged.load_state_dict(_under("averaged.", tensors))
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in _under("optimiser.", tensors).items():
            index, name = key.split(".")
            states.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": states})
        self.step, self.parts = rest["step"], rest["parts"]
        self.schedule.restore(rest["schedule"])

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the computer, has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


def memory_mb(device: torch.device) -> float | None:
    """The most memory that this process held so far, in megabytes: on a GPU, else in the computer."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
