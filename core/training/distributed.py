"""Data-parallel training with PyTorch's own engine: several processes that together are one.

Each process computes its share of one global batch. Sums over the batch (in losses such as Dice, and in
batch normalisation) are sums over all processes, and their gradients flow back to all of them, so that N
processes take the same steps as one with the whole batch, up to rounding. The mean of the processes' own
losses would not do: the mean of Dice coefficients is not the Dice coefficient of the union, nor is the mean
of variances the variance.

Without a process group every function here does nothing, at no cost.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

_PATIENCE = datetime.timedelta(hours=12)
"""How long processes wait for each other: the first one validates while the others wait."""


@contextmanager
def join_processes(device_type: str) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, for the length of the context; alone: do nothing.

    Args:
        device_type: ``cuda`` (the processes speak by NCCL) or another (by Gloo).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    if device_type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def process_count() -> int:
    """How many processes train together; 1 alone."""
    return distributed.get_world_size() if _is_joined() else 1


def process_rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if _is_joined() else 0


def is_leader() -> bool:
    """Whether this is the process that validates, writes and reports."""
    return process_rank() == 0


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes; its gradient is the sum of all processes' gradients.

    Shape:
        - x, output: any, the same on all processes
    """
    if process_count() == 1:
        return x
    total: Tensor = _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call]
    return total


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes, in one message.

    A loss made of `sum_over_processes` is the loss of the whole batch on each process; the mean of the
    gradients that they compute is the gradient of it.
    """
    if process_count() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= process_count()
    for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def bytes_from_leader(content: bytes, device: torch.device) -> bytes:
    """The leader's bytes, on every process; what the others give is not looked at."""
    if process_count() == 1:
        return content
    length = torch.tensor(len(content), device=device)
    distributed.broadcast(length, src=0)
    body = torch.empty(int(length), dtype=torch.uint8, device=device)
    if is_leader() and content:
        body.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    distributed.broadcast(body, src=0)
    return body.cpu().numpy().tobytes()


def value_from_leader(value: Any, device: torch.device) -> Any:
    """The leader's value (anything that JSON can hold), on every process."""
    if process_count() == 1:
        return value
    return json.loads(bytes_from_leader(json.dumps(value).encode() if is_leader() else b"", device))


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics are those of the whole batch, over all processes.

    PyTorch's own `SyncBatchNorm` exists for GPUs only. In evaluation mode it is plain batch normalisation.

    Shape:
        - input, output: (N, C, H, W)

    Reference: Ioffe and Szegedy, Batch Normalization, ICML 2015, algorithm 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if not self.training:
            return super().forward(x)
        y = x.float()
        mean = y.mean(dim=(0, 2, 3))
        spread = (y - mean.view(1, -1, 1, 1)).square().sum(dim=(0, 2, 3))
        count = y.new_full((1,), y.numel() // y.shape[1])
        rows = _gather(torch.cat((count, mean, spread)))
        counts, (means, spreads) = rows[:, :1], torch.chunk(rows[:, 1:], 2, dim=1)
        # Chan et al. 1979, equation 2.1: the difference of E[y²] and E[y]² would lose digits.
        total = counts.sum()
        mean = (counts * means).sum(dim=0) / total
        spread = (spreads + counts * (means - mean).square()).sum(dim=0)
        self._remember(mean.detach(), spread.detach() / (total - 1))
        scale = torch.rsqrt(spread / total + self.eps) * self.weight
        shift = self.bias - mean * scale
        normalised: Tensor = (y * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(x.dtype)
        return normalised

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_variance, momentum)


def join_batch_norms(network: nn.Module) -> None:
    """Make each batch normalisation of a network a `GlobalBatchNorm2d`, in place; state-dict names stay."""
    if process_count() == 1:
        return
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                joined = GlobalBatchNorm2d(child.num_features, child.eps, child.momentum)
                joined.weight, joined.bias = child.weight, child.bias
                joined.running_mean, joined.running_var = child.running_mean, child.running_var
                joined.num_batches_tracked = child.num_batches_tracked
                joined.train(child.training)
                setattr(module, name, joined)


def _gather(own: Tensor) -> Tensor:
    """A row of numbers from each process, in one message: a sum in which each fills its own row."""
    rows = [own if rank == process_rank() else torch.zeros_like(own) for rank in range(process_count())]
    return sum_over_processes(torch.stack(rows))


def _is_joined() -> bool:
    # Some builds of PyTorch come without it.
    return distributed.is_available() and distributed.is_initialized()


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.detach().clone().contiguous()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone().contiguous()
        distributed.all_reduce(total)
        return total
