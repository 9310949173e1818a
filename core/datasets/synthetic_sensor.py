"""What happens to a synthetic scene between ground and file: light, air, optics, detector, compression."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from .synthetic_noise import hash_lattice

REACH_PX = 32
"""Blur, JPEG blocks and their chroma change no pixel farther away than this."""

JPEG_BLOCK_PX = 16
"""Windows begin and end at multiples of this, so that they share their JPEG blocks."""


@dataclass(frozen=True)
class Sensor:
    """How a town was photographed; brightness runs from 0 to 1.

    Attributes:
        gain: (3,) factor of each band: exposure and colour cast, after haze.
        shade: (3,) light in shadows, as a share of that in the sun.
        saturation: 1 is natural.
        haze: Share of the light that comes from the air.
        haze_rgb: (3,) its colour.
        black: Brightness, after exposure, that is shown as black.
        gamma: Exponent of the tone curve.
        blur_px: Standard deviation of the point spread function.
        sharpening: Strength of the unsharp mask, 0 for none.
        noise: Standard deviation of the detector's noise.
        jpeg: Quality of the compression, 0 for none.
    """

    gain: NDArray[np.float32]
    shade: NDArray[np.float32]
    saturation: float
    haze: float
    haze_rgb: NDArray[np.float32]
    black: float
    gamma: float
    blur_px: float
    sharpening: float
    noise: float
    jpeg: int

    def expose(
        self, surface: NDArray[np.float32], lit: NDArray[np.bool_], row: int, col: int, seed: int
    ) -> NDArray[np.uint8]:
        """Photograph a window.

        Args:
            surface: float32 (h, w, 3) colours of the ground, 0 to 1; overwritten.
            lit: bool (h, w), False in shadows.
            row: First row of the window on the town's grid, a multiple of `JPEG_BLOCK_PX`.
            col: First column, likewise.
            seed: Of the noise.

        Returns:
            uint8 (h, w, 3); true but for the outermost `REACH_PX`.
        """
        image = surface
        image[~lit] *= self.shade
        grey = image.mean(2, keepdims=True) * np.float32(1 - self.saturation)
        image *= np.float32(self.saturation)
        image += grey
        scale = np.float32(1 / (1 - self.black))
        image *= self.gain * np.float32(1 - self.haze) * scale
        image += (self.haze * self.haze_rgb - np.float32(self.black)) * scale
        np.clip(image, 0, 1.25, out=image)
        blur = (self.blur_px, self.blur_px, 0)
        image = ndimage.gaussian_filter(image, blur, truncate=3.0)
        if self.sharpening:
            soft = ndimage.gaussian_filter(image, (1.3, 1.3, 0), truncate=3.0)
            image += np.float32(self.sharpening) * (image - soft)
        np.clip(image, 0, 1, out=image)
        image **= np.float32(self.gamma)
        rows, cols = np.arange(row, row + lit.shape[0]), np.arange(col, col + lit.shape[1])
        for band in range(3):
            # The sum of two uniform numbers from -1 to 1 has a standard deviation of 0.82.
            grain = hash_lattice(seed + 2 * band, rows, cols)
            grain += hash_lattice(seed + 2 * band + 1, rows, cols)
            image[..., band] += grain * np.float32(self.noise / 0.82)
        np.clip(image, 0, 1, out=image)
        image *= np.float32(255)
        image += np.float32(0.5)
        result = image.astype(np.uint8)
        return _compress(result, self.jpeg) if self.jpeg else result


def draw_sensor(rng: Generator, ground: float) -> Sensor:
    """Draw how a town is photographed.

    Args:
        rng: Where the draw comes from.
        ground: Brightness of the town's brighter ground, 0 to 1; the exposure is set by it.
    """
    cast = 1 + rng.normal(0, 0.035, 3)
    return Sensor(
        gain=(rng.uniform(0.6, 0.98) / ground * cast).astype(np.float32),
        shade=(rng.uniform(0.22, 0.55) * np.array([0.93, 1.0, rng.uniform(1.0, 1.2)])).astype(np.float32),
        saturation=rng.uniform(0.5, 1.08),
        haze=rng.uniform(0, 0.25) * float(rng.random() < 0.5),
        haze_rgb=(np.array([0.72, 0.76, 0.82]) * rng.uniform(0.85, 1.1)).astype(np.float32),
        black=rng.uniform(0, 0.1) * float(rng.random() < 0.5),
        gamma=rng.uniform(0.75, 1.25),
        blur_px=rng.uniform(0.45, 0.9),
        sharpening=rng.uniform(0.3, 1.2) * float(rng.random() < 0.5),
        noise=rng.uniform(0.003, 0.022),
        jpeg=int(rng.integers(60, 95)) if rng.random() < 0.4 else 0,
    )


def _compress(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Write as JPEG and read again."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=2)
    with Image.open(file) as coded:
        return np.asarray(coded)
