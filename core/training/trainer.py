"""The training loop: batches in, an averaged network out, a checkpoint at every round."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..datasets.crops import CropSource, make_batch
from ..networks.unet import SegmentationNetwork
from .losses import Loss
from .schedules import cosine_with_warm_up

EMA_DECAY = 0.999
_HEAD_WEIGHTS = (1.0, 0.5)  # roads are the task; buildings teach what is none


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
    """

    steps: int
    rounds: int
    learning_rate: float
    seed: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weight_decay: float = 0.01


@dataclass(frozen=True)
class TrainingStep:
    """What one step cost."""

    step: int
    loss: float
    learning_rate: float


class Trainer:
    """Trains a network, with a checkpoint in `folder` after each round.

    Args:
        network: The network; it is trained in place.
        sources: Where crops come from.
        counts: How many crops of a batch come from each source.
        losses: One per head.
        settings: How it is trained.
        device: Where it runs. bfloat16 is used where `use_bfloat16`; weights stay in single precision.
        use_bfloat16: Whether the forward pass runs in bfloat16.
        folder: Where checkpoints lie.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        sources: Sequence[CropSource],
        counts: Sequence[int],
        losses: Sequence[Loss],
        settings: TrainerSettings,
        device: torch.device,
        use_bfloat16: bool,
        folder: Path,
    ) -> None:
        self.settings, self.sources, self.counts, self.losses = settings, sources, counts, losses
        self.device, self.use_bfloat16, self.folder = device, use_bfloat16, folder
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged: SegmentationNetwork = copy.deepcopy(self.network).eval()
        self.optimiser = torch.optim.AdamW(self.network.parameters(), weight_decay=settings.weight_decay)
        self.step = 0
        self._mean = torch.tensor(settings.mean, device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(settings.std, device=device).view(1, -1, 1, 1)

    def run(self) -> Iterator[TrainingStep]:
        """Train to the end; yields after each step, and is safe to close between two."""
        with ThreadPoolExecutor(max_workers=1) as loader:
            upcoming = loader.submit(self._load, self.step)
            try:
                while self.step < self.settings.steps:
                    images, labels = upcoming.result()
                    upcoming = loader.submit(self._load, self.step + 1)
                    rate = self.settings.learning_rate * cosine_with_warm_up(self.step, self.settings.steps)
                    loss = self._optimise(images, labels, rate)
                    self.step += 1
                    if self.is_round_end:
                        self._save()
                    yield TrainingStep(self.step, loss, rate)
            finally:
                upcoming.cancel()

    @property
    def is_round_end(self) -> bool:
        """Whether a round ends with the step that was just made."""
        length = max(1, self.settings.steps // self.settings.rounds)
        return self.step == self.settings.steps or (
            self.step % length == 0 and self.step // length < self.settings.rounds
        )

    def _load(self, step: int) -> tuple[Tensor, Tensor]:
        return make_batch(self.sources, self.counts, self.settings.seed, step)

    def _optimise(self, images: Tensor, labels: Tensor, rate: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        images = ((images.to(self.device) - self._mean) / self._std).contiguous(
            memory_format=torch.channels_last
        )
        labels = labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            logits = self.network(images)
        logits = logits.float()
        total = torch.zeros((), device=self.device)
        for head, (loss, weight) in enumerate(zip(self.losses, _HEAD_WEIGHTS, strict=False)):
            total = total + weight * loss(logits[:, head], labels[:, head])
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self._average()
        return float(total.detach())

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
        """Write a checkpoint, whole or not at all: tensors as safetensors, the step as JSON inside."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        staged = self.folder / "checkpoint.tmp"
        save_file(
            {k: v.contiguous().cpu() for k, v in tensors.items()}, staged, {"step": json.dumps(self.step)}
        )
        staged.replace(self.folder / "checkpoint.safetensors")

    def restore(self) -> None:
        """Go on from the last checkpoint in the folder, if there is one."""
        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            return
        tensors = load_file(path)
        self.network.load_state_dict(_under("network.", tensors))
        self.averaged.load_state_dict(_under("averaged.", tensors))
        body = self.optimiser.state_dict()
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in _under("optimiser.", tensors).items():
            index, name = key.split(".")
            states.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({**body, "state": states})
        self.step = int(max(s["step"].item() for s in states.values()))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
