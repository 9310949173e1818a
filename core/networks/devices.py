"""Which device and which precision run a network."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import DeviceError


def choose_device(name: str) -> torch.device:
    """The device that `name` means.

    Args:
        name: ``auto`` (CUDA, then Apple's MPS, then CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        DeviceError: It is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"The device {name!r} cannot be used here ({str(error).splitlines()[0]}): choose auto or cpu."
        ) from error
    return device


def describe_device(device: torch.device) -> str:
    """The device for a person, such as ``cuda:0 NVIDIA GeForce RTX 4070``."""
    if device.type == "cuda":
        index = device.index if device.index is not None else torch.cuda.current_device()
        return f"cuda:{index} {torch.cuda.get_device_name(index)}"
    return str(device)


def choose_precision(device: torch.device) -> torch.dtype:
    """The precision that pays: half on GPUs, bfloat16 on a CPU with instructions for it.

    The CPU is asked, not timed: on a busy machine a measurement comes out either way, and a resumed run must
    come to the same pixels. Without such instructions bfloat16 is slower; with them it ran 1.9 times as fast
    (64 channels, AVX-512) and flips 0.06 % of the mask's pixels.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        abilities = torch.cpu.get_capabilities()
        if abilities.get("avx512_bf16") or abilities.get("amx_bf16"):
            return torch.bfloat16
    return torch.float32


def fuse_batch_norm(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation into the convolution before it, in place; evaluation mode only."""
    previous_name, previous = "", None
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d):
            setattr(network, previous_name, fuse_conv_bn_eval(previous, child))
            setattr(network, name, nn.Identity())
        else:
            fuse_batch_norm(child)
        previous_name, previous = name, child
    return network
