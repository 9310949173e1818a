"""Noise that is a function of the place alone, so that neighbouring windows agree on it.

Every value comes from a hash of the seed and of integer lattice coordinates: nothing depends on where a
window begins or in which order windows are drawn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MASK = 0xFFFFFFFF


def hash_lattice(seed: int, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Floats:
    """Give every node of a lattice a uniform random value.

    Args:
        seed: Which noise; other seeds are independent.
        rows: Row numbers, any sign, shape (h,).
        cols: Column numbers, any sign, shape (w,).

    Returns:
        float32 (h, w) in [-1, 1).
    """
    # Murmur3's finaliser (public domain, A. Appleby) on a mix of both coordinates; uint32 wraps by design.
    salt = np.uint32((seed * 0x9E3779B1 + 0x7F4A7C15) & _MASK)
    key_rows = ((rows & _MASK).astype(np.uint32) * np.uint32(0x85EBCA6B)) ^ salt
    key_cols = (cols & _MASK).astype(np.uint32) * np.uint32(0xC2B2AE35)
    key_rows ^= key_rows >> np.uint32(15)
    key_cols ^= key_cols >> np.uint32(13)
    bits = key_rows[:, None] ^ key_cols[None, :]
    bits *= np.uint32(0x27D4EB2F)
    bits ^= bits >> np.uint32(16)
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> np.uint32(13)
    return bits.astype(np.float32) * np.float32(2.0**-31) - np.float32(1.0)


def hash_numbers(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give every number a uniform random value: the same chance for the same thing, wherever it is met.

    Args:
        seed: Which chance; other seeds are independent.
        numbers: Any shape.

    Returns:
        float64 of that shape in [0, 1).
    """
    # SplitMix64's finaliser (public domain, S. Vigna); uint64 wraps by design.
    bits = numbers.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hash_places(seed: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give every place (n, 2), in metres, a uniform random value in [0, 1), as `hash_numbers` does."""
    grid = np.round(points * 64).astype(np.int64)
    return hash_numbers(seed, grid[:, 0] * 0x1F123BB5 + grid[:, 1])


def value_noise(seed: int, row: int, col: int, height: int, width: int, wavelength_px: float) -> Floats:
    """Smooth noise: random values on a lattice, interpolated with a cubic ease.

    Args:
        seed: Which noise.
        row: First row of the window on the town's pixel grid.
        col: First column of the window.
        height: Rows of the window.
        width: Columns of the window.
        wavelength_px: Distance of the lattice nodes, in pixels.

    Returns:
        float32 (height, width) in [-1, 1).
    """
    at_rows = (np.arange(row, row + height) + 0.5) / wavelength_px
    at_cols = (np.arange(col, col + width) + 0.5) / wavelength_px
    node_rows = np.arange(int(np.floor(at_rows[0])), int(np.floor(at_rows[-1])) + 2)
    node_cols = np.arange(int(np.floor(at_cols[0])), int(np.floor(at_cols[-1])) + 2)
    nodes = hash_lattice(seed, node_rows, node_cols)

    def blend(at: NDArray[np.floating], first: int) -> tuple[NDArray[np.intp], Floats]:
        below = np.floor(at)
        part = at - below
        return (below.astype(np.intp) - first), (part * part * (3.0 - 2.0 * part)).astype(np.float32)

    index, weight = blend(at_cols, int(node_cols[0]))
    lines = nodes[:, index] * (1 - weight) + nodes[:, index + 1] * weight
    index, weight = blend(at_rows, int(node_rows[0]))
    noise: Floats = lines[index] * (1 - weight[:, None])
    noise += lines[index + 1] * weight[:, None]
    return noise
