"""The colour-dependence probe: what is left of a score when colours change and the ground does not.

A network that has learnt "grey is road" scores well at home and fails in another light, season or sensor.
The probe shows it the same tiles with other colours, through the same inference, at the same threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tiles = NDArray[np.float32]
Perturbation = Callable[[Tiles], Tiles]

UNSEEN = "unseen"
"""Name of the one perturbation that is none of the training's augmentations."""

_HUE_DEGREES = 60.0
_CAST = (1.2, 0.8)  # gains of the first and of the last band
_DUSK = (1.1, 0.4)  # light at one corner of a tile and at the opposite one
_TONES = 12  # levels of a band that a poor compression leaves


class ProbedNetwork(Protocol):
    """What scoring needs of a network; `networks.segmenter.Segmenter` is one."""

    @property
    def device(self) -> str:
        """What it runs on."""

    @property
    def precision(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""

    @property
    def fill(self) -> NDArray[np.float32]:
        """float32 (bands,), what invalid pixels are filled with."""

    @property
    def gsd_m(self) -> float:
        """Ground resolution at which it works."""

    @property
    def tile_px(self) -> int:
        """Side of a tile."""

    @property
    def margin_px(self) -> int:
        """Context margin."""

    @property
    def stride_px(self) -> int:
        """Total stride."""

    def __call__(self, tiles: Tiles) -> Tiles:
        """Probabilities (n, heads, h, w) of float32 tiles (n, bands, h, w), all in 0 to 1."""


class PerturbedNetwork:
    """A network that sees its tiles through a perturbation; what is invalid in them stays as it is.

    Attributes:
        device: As of the network.
        precision: As of the network.
        fill: As of the network.
        gsd_m: As of the network.
        tile_px: As of the network.
        margin_px: As of the network.
        stride_px: As of the network.
    """

    def __init__(self, network: ProbedNetwork, perturb: Perturbation) -> None:
        """Put `perturb`, one of `perturbations`, before `network`."""
        self.device, self.precision, self.fill = network.device, network.precision, network.fill
        self.gsd_m, self.tile_px = network.gsd_m, network.tile_px
        self.margin_px, self.stride_px = network.margin_px, network.stride_px
        self._network = network
        self._perturb = perturb

    def __call__(self, tiles: Tiles) -> Tiles:
        """Probabilities of the perturbed tiles; shapes as of the network."""
        is_fill = (tiles == self.fill[:, None, None]).all(axis=1, keepdims=True)
        return self._network(np.where(is_fill, tiles, np.clip(self._perturb(tiles), 0, 1).astype(np.float32)))


def perturbations(bands: int) -> dict[str, Perturbation]:
    """The perturbations by name, each from and to float32 (n, bands, h, w) in 0 to 1.

    With one band there is no colour to change: only light is.

    Args:
        bands: Number of bands of the network.
    """
    light: dict[str, Perturbation] = {"gamma_0.6": lambda t: t**0.6, "gamma_1.6": lambda t: t**1.6}
    if bands == 1:
        return {**light, UNSEEN: _dusk}
    return {
        "grey": _grey,
        "hue_shift": _hue_shift,
        "channel_swap": lambda t: t[:, ::-1],
        **light,
        "lost_band": _lost_band,
        "cast": _cast,
        UNSEEN: _dusk,
    }


def show_perturbations(image: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """A tile as it is (``clean``) and under each perturbation.

    Args:
        image: uint8 (bands, h, w).
    """
    tile: Tiles = np.divide(image[None], 255, dtype=np.float32)
    shown = {"clean": image}
    for name, perturb in perturbations(len(image)).items():
        shown[name] = np.rint(np.clip(perturb(tile)[0], 0, 1) * 255).astype(np.uint8)
    return shown


def summarise_probe(clean_iou: float, iou: Mapping[str, float]) -> dict[str, float]:
    """The probe as numbers: the IoU under each perturbation, and what it says together.

    Args:
        clean_iou: IoU of the tiles as they are.
        iou: IoU by name of a perturbation.

    Returns:
        `iou` with ``clean``, ``worst_drop`` and ``mean_drop``: the share of the clean IoU that is lost, at
        most and in the mean; `UNSEEN` counts in neither. NaN where there is nothing to lose.
    """
    drops = [1.0 - value / clean_iou if clean_iou else math.nan for n, value in iou.items() if n != UNSEEN]
    return {
        "clean": clean_iou,
        **iou,
        "worst_drop": float(np.max(drops)),
        "mean_drop": float(np.mean(drops)),
    }


def _grey(tiles: Tiles) -> Tiles:
    return np.repeat(tiles.mean(axis=1, keepdims=True), tiles.shape[1], axis=1)


def _hue_shift(tiles: Tiles) -> Tiles:
    """Turn the colours of the first three bands (or two) about the grey axis."""
    bands = min(tiles.shape[1], 3)
    shifted = tiles.copy()
    mix = _turn_about_grey(_HUE_DEGREES) if bands == 3 else np.eye(2)[::-1]
    shifted[:, :bands] = np.einsum("ij,njhw->nihw", mix.astype(np.float32), tiles[:, :bands])
    return shifted


def _turn_about_grey(degrees: float) -> NDArray[np.float64]:
    """The rotation about (1, 1, 1) (Rodrigues' formula)."""
    angle, axis = math.radians(degrees), 1 / math.sqrt(3)
    cross = np.array([[0, -axis, axis], [axis, 0, -axis], [-axis, axis, 0]])
    turn: NDArray[np.float64] = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return turn


def _lost_band(tiles: Tiles) -> Tiles:
    """Without the first band, in whose place stands the mean of the others."""
    without = tiles.copy()
    without[:, 0] = tiles[:, 1:].mean(axis=1)
    return without


def _cast(tiles: Tiles) -> Tiles:
    gains = np.linspace(*_CAST, tiles.shape[1], dtype=np.float32)
    return np.multiply(tiles, gains[:, None, None], dtype=np.float32)


def _dusk(tiles: Tiles) -> Tiles:
    """Light that falls off smoothly across the tile, and few tones, as a poor compression leaves them."""
    rows, cols = (np.linspace(0, 0.5, n, dtype=np.float32) for n in tiles.shape[2:])
    light = _DUSK[0] + (_DUSK[1] - _DUSK[0]) * (rows[:, None] + cols)
    tones: Tiles = np.rint(np.clip(tiles * light, 0, 1) * (_TONES - 1)) / np.float32(_TONES - 1)
    return tones
