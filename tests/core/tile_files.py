"""Labelled tiles as files, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin


def write_tile(
    folder: Path, stem: str, mask: np.ndarray | None = None, image: np.ndarray | None = None
) -> None:
    """An image and its mask, in ``images/`` and ``masks/``."""
    mask = half_road() if mask is None else mask
    if image is None:
        image = np.random.default_rng(len(stem)).integers(30, 220, (*mask.shape[:2], 3)).astype(np.uint8)
    for part, values in (("images", image), ("masks", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / part / f"{stem}.png")


def half_road(size: int = 32, share: float = 0.5, value: int = 255) -> np.ndarray:
    """A mask whose upper rows are the class."""
    mask = np.zeros((size, size), np.uint8)
    mask[: round(size * share)] = value
    return mask


def write_placed_tile(
    folder: Path, stem: str, west: float, north: float, *, size: int = 32, gsd: float = 1.0, crs="EPSG:32637"
) -> None:
    """The same with a georeferenced image."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    image = np.random.default_rng(len(stem)).integers(30, 220, (3, size, size)).astype(np.uint8)
    profile = {"width": size, "height": size, "count": 3, "dtype": "uint8", "crs": crs}
    transform = from_origin(west, north, gsd, gsd)
    with rasterio.open(folder / "images" / f"{stem}.tif", "w", transform=transform, **profile) as out:
        out.write(image)
    Image.fromarray(half_road(size)).save(folder / "masks" / f"{stem}.png")
