"""Colours that a network must not rely on: photometric augmentation of training crops.

Nets that take any flat grey roof for a road learn colour. Grey images, shuffled and lost bands, casts and
gamma leave them the structure. Shares after the recipes of the xView2 and DeepGlobe winners.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..errors import JobError

Image = NDArray[np.float32]
Augmentation = Callable[[Image, np.random.Generator], Image]

AUGMENTATIONS = ("structure", "mild", "none")


def choose_augmentation(name: str, share: float = 1.0) -> Augmentation:
    """How the colours of crops are changed.

    Args:
        name: ``structure`` (`augment_colours`: structure over colour), ``mild`` (`augment_brightness`) or
            ``none``.
        share: How many of the crops get the colours of ``structure``; the others are changed as by ``mild``.

    Raises:
        JobError: There is no such augmentation.
    """
    known: dict[str, Augmentation] = {
        "structure": augment_colours if share == 1 else partial(_augment_some_colours, share),
        "mild": augment_brightness,
        "none": lambda image, rng: image,
    }
    if name not in known:
        raise JobError(f"There is no augmentation {name!r}: choose one of {', '.join(AUGMENTATIONS)}.")
    return known[name]


def _augment_some_colours(share: float, image: Image, rng: np.random.Generator) -> Image:
    return augment_colours(image, rng) if rng.random() < share else augment_brightness(image, rng)


def augment_brightness(image: Image, rng: np.random.Generator) -> Image:
    """Brightness and contrast of all bands together, as most training scripts do: colours stay what they are.

    Args:
        image: float32 (bands, h, w) in 0 to 1; it is changed in place.
        rng: Source of chance.

    Returns:
        float32 (bands, h, w) in 0 to 1.
    """
    mean = image.mean()
    image -= mean
    image *= np.float32(rng.uniform(0.8, 1.25))
    image += mean + np.float32(rng.uniform(-0.1, 0.1))
    return np.clip(image, 0, 1, out=image)


def augment_colours(image: Image, rng: np.random.Generator) -> Image:
    """Another light, another sensor, other colours over the same ground.

    Args:
        image: float32 (bands, h, w) in 0 to 1; it is changed in place.
        rng: Source of chance.

    Returns:
        float32 (bands, h, w) in 0 to 1.
    """
    bands = image.shape[0]
    if rng.random() < 0.2:
        image[:] = image.mean(axis=0, keepdims=True)
    elif bands > 1:
        if rng.random() < 0.1:
            image = image[rng.permutation(bands)]
        if rng.random() < 0.1:
            lost = rng.integers(bands)
            image[lost] = image[np.arange(bands) != lost].mean(axis=0)
        if rng.random() < 0.5:
            _saturate(image, float(rng.uniform(0.3, 1.6)))
        if rng.random() < 0.3:
            _shift_hue(image, rng)
    if rng.random() < 0.7:
        gain = rng.uniform(0.75, 1.3) * rng.uniform(0.9, 1.1, (bands, 1, 1))
        bias = rng.uniform(-0.12, 0.12) + rng.uniform(-0.04, 0.04, (bands, 1, 1))
        image *= gain.astype(np.float32)
        image += bias.astype(np.float32)
    np.clip(image, 0, 1, out=image)
    if rng.random() < 0.6:
        image **= np.float32(rng.uniform(0.6, 1.6))
    if rng.random() < 0.15:
        _stretch(image, rng)
    if rng.random() < 0.15:
        image = gaussian_filter(image, (0, *(2 * [rng.uniform(0.4, 1.2)])))
    if rng.random() < 0.3:
        image += rng.normal(0, rng.uniform(0.005, 0.03), image.shape).astype(np.float32)
    if rng.random() < 0.3:
        _cover_with_blobs(image, rng)
    return np.clip(image, 0, 1, out=image)


def _saturate(image: Image, factor: float) -> None:
    grey = image.mean(axis=0, keepdims=True)
    image -= grey
    image *= factor
    image += grey


def _shift_hue(image: Image, rng: np.random.Generator) -> None:
    """Mix the bands a little: a rotation of the colours about the grey axis."""
    bands = image.shape[0]
    mix = np.eye(bands) + rng.normal(0, 0.12, (bands, bands))
    mix /= mix.sum(axis=1, keepdims=True)
    image[:] = np.einsum("ij,jhw->ihw", mix.astype(np.float32), image)


def _stretch(image: Image, rng: np.random.Generator) -> None:
    """What a viewer's contrast stretch does: cut both tails of the histogram."""
    low, high = np.quantile(image[:, ::8, ::8], (rng.uniform(0, 0.04), rng.uniform(0.93, 1)))
    image -= low
    image /= max(float(high - low), 0.05)
    np.clip(image, 0, 1, out=image)


def _cover_with_blobs(image: Image, rng: np.random.Generator) -> None:
    """Small rectangles in any colour, as cars and lorries are: what they cover stays what it was."""
    height, width = image.shape[1:]
    for _ in range(int(rng.integers(4, 30))):
        h, w = rng.integers(2, 9, 2)
        row, col = rng.integers(0, height - h), rng.integers(0, width - w)
        image[:, row : row + h, col : col + w] = rng.random((image.shape[0], 1, 1), dtype=np.float32)
