"""A network ready to run: tiles in, probabilities out, on the device that there is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..cards import Card, Package
from ..errors import DeviceError
from .devices import choose_device, choose_precision, describe_device, fuse_batch_norm
from .package import load_network
from .unet import SegmentationNetwork

_BUILDING = "building"


class Segmenter:
    """A network on its device, batch normalisation folded, in the precision that pays.

    Attributes:
        heads: Names of the probability channels.
        tile_px: Side of a tile.
        margin_px: Context margin.
        stride_px: Total stride.
        gsd_m: Ground resolution at which it works.
        device: What it runs on.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        fill: What invalid pixels are shown as, float32 (bands,).

    Args:
        network: The network in evaluation mode; it is changed (fused, moved) and must not be used elsewhere.
        card: Its card.
        device: Where it runs.
        precision: In which precision.
    """

    def __init__(
        self, network: SegmentationNetwork, card: Card, device: torch.device, precision: torch.dtype
    ) -> None:
        self.heads = network.heads
        self.tile_px, self.margin_px, self.stride_px = card.tile_px, card.margin_px, card.stride_px
        self.gsd_m = card.gsd_m
        self.precision = str(precision).removeprefix("torch.")
        self.device = describe_device(device)
        self.fill = np.asarray(card.radiometry["mean"], dtype=np.float32)
        self._device, self._dtype = device, precision
        self._temperature = float(card.calibration.get("temperature", 1.0))
        self._bias = float(card.calibration.get("bias", 0.0))
        self._exclusive = network.exclusive_heads
        self._veto_power = float(card.calibration.get("veto_power", 0.0))
        self._mean = torch.tensor(card.radiometry["mean"], device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(card.radiometry["std"], device=device).view(1, -1, 1, 1)
        fused = fuse_batch_norm(network)
        self._network = fused.to(device, precision, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of tiles.

        Args:
            tiles: float32 (n, bands, h, w) in 0 to 1; h and w multiples of `stride_px`.

        Returns:
            float32 (n, heads, h, w) in 0 to 1.

        Raises:
            DeviceError: The device ran out of memory.
        """
        try:
            image = (torch.from_numpy(tiles).to(self._device) - self._mean) / self._std
            image = image.to(self._dtype, memory_format=torch.channels_last)
            logits = self._network(image).float()
            found = torch.sigmoid(logits / self._temperature + self._bias)
            if self._exclusive is not None:
                found[:, self._exclusive] = torch.softmax(logits[:, self._exclusive], dim=1)
            if self._veto_power:  # what is a roof is no road
                found[:, 0] *= (1 - found[:, self.heads.index(_BUILDING)]) ** self._veto_power
            probabilities: NDArray[np.float32] = found.contiguous().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device} ran out of memory: close other programs, or run on the CPU."
            ) from error
        return probabilities


def load_segmenter(package: Package, device: str = "auto", precision: str = "") -> Segmenter:
    """Load a package onto a device and run one small tile there, so that what it reports is true.

    Args:
        package: The model.
        device: As in `choose_device`. With ``auto``, a GPU that fails on the tile is left for the CPU.
        precision: ``float32``, ``bfloat16``, ``float16``; empty: what pays on the device.

    Raises:
        ModelError: The package is damaged.
        DeviceError: The device is not there.
    """
    chosen = choose_device(device)
    try:
        return _load_on(package, chosen, precision)
    except (RuntimeError, DeviceError):
        if device != "auto" or chosen.type == "cpu":
            raise
        return _load_on(package, torch.device("cpu"), precision)


def _load_on(package: Package, device: torch.device, precision: str) -> Segmenter:
    dtype: torch.dtype = getattr(torch, precision) if precision else choose_precision(device)
    segmenter = Segmenter(load_network(package), package.card, device, dtype)
    side = 2 * segmenter.stride_px
    segmenter(np.zeros((1, len(package.card.bands), side, side), dtype=np.float32))
    return segmenter
