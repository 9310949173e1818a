"""Imagery of a made-up town, for tests that look whether two images fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy import ndimage

UTM = "EPSG:32637"
NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)


def draw_town(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Houses and streets on rough ground: uint8 (3, size, size), and where the houses are (bool)."""
    random = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(random.normal(size=(3, size, size)), (0, 3, 3)) * 60 + 110
    houses = np.zeros((size, size), dtype=bool)
    for _ in range(size * size // 1500):
        row, col = random.integers(0, size, 2)
        height, width = random.integers(12, 30, 2)
        roof = np.s_[row : row + height, col : col + width]
        houses[roof] = True
        ground[:, roof[0], roof[1]] = random.uniform(40, 220, (3, 1, 1))
    for row, col in random.integers(0, size - 8, (size // 100, 2)):
        ground[:, row : row + 8] = ground[:, :, col : col + 8] = 90
        houses[row : row + 8] = houses[:, col : col + 8] = False
    return np.clip(ground + random.normal(0, 3, ground.shape), 0, 255).astype(np.uint8), houses


def write_image(path: Path, pixels: np.ndarray, **profile: object) -> str:
    """Write (bands, height, width) as a GeoTIFF of 0.5 m unless told otherwise."""
    settings = {"crs": UTM, "transform": NORTH_UP, **profile}
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count, dtype=pixels.dtype, **settings
    ) as file:
        file.write(pixels)
    return str(path)
