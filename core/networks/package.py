"""Writing and loading model packages: weights as safetensors beside the card."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..cards import CARD_NAME, PACKAGE_SUFFIX, WEIGHTS_NAME, Card, Package
from ..errors import ModelError, OutputError
from .unet import SegmentationNetwork, build_network


def save_package(path: Path, network: SegmentationNetwork, card: Card) -> Package:
    """Write a package, whole or not at all; the card gets the hash of the weights.

    Convolutions are stored in half precision, vectors (batch statistics, biases) in single.

    Args:
        path: A file that ends in ``.aftermap`` (a zip), or a folder.
        network: The network, on any device.
        card: Its card; `weights_sha256` is filled in.

    Raises:
        OutputError: It cannot be written.
    """
    tensors = {
        k: (v.half() if v.is_floating_point() and v.ndim > 1 else v).cpu().contiguous()
        for k, v in network.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    return _write(path, save(tensors), card)


def rewrite_card(package: Package, card: Card) -> Package:
    """Give a package another card; its weights stay.

    Raises:
        ModelError: The weights cannot be read.
        OutputError: It cannot be written.
    """
    return _write(package.path, _read_weights(package), card)


def _write(path: Path, weights: bytes, card: Card) -> Package:
    card = dataclasses.replace(card, weights_sha256=hashlib.sha256(weights).hexdigest())
    try:
        if path.suffix == PACKAGE_SUFFIX:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
                staged = Path(folder) / path.name
                with zipfile.ZipFile(staged, "w", zipfile.ZIP_DEFLATED) as archive:
                    # A fixed date makes equal models equal files.
                    for name, content in ((CARD_NAME, card.to_json().encode()), (WEIGHTS_NAME, weights)):
                        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                        entry.compress_type = zipfile.ZIP_DEFLATED
                        archive.writestr(entry, content)
                staged.replace(path)
        else:
            path.mkdir(parents=True, exist_ok=True)
            (path / WEIGHTS_NAME).write_bytes(weights)
            (path / CARD_NAME).write_text(card.to_json(), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The model cannot be written to {path}: {error.strerror or error}. Choose another folder."
        ) from error
    return Package(path, card)


def load_network(package: Package) -> SegmentationNetwork:
    """The network of a package, in single precision on the CPU, in evaluation mode.

    Raises:
        ModelError: The weights are damaged, or do not belong to the architecture on the card.
    """
    content = _read_weights(package)
    if hashlib.sha256(content).hexdigest() != package.card.weights_sha256:
        raise ModelError(
            f"The weights of {package.path} are not those of its card (damaged?): get the package again."
        )
    network = build_network(package.card.architecture)
    try:
        tensors = {k: v.float() for k, v in load(content).items()}
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"The weights of {package.path} do not fit its card: get the package again."
        ) from error
    if unexpected or any(not k.endswith("num_batches_tracked") for k in missing):
        raise ModelError(f"The weights of {package.path} do not fit its card: get the package again.")
    return network.eval()


def _read_weights(package: Package) -> bytes:
    try:
        if package.path.is_dir():
            return (package.path / WEIGHTS_NAME).read_bytes()
        with zipfile.ZipFile(package.path) as archive:
            return archive.read(WEIGHTS_NAME)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"The weights of {package.path} cannot be read ({error}): get the package again."
        ) from error


def count_parameters(network: torch.nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
