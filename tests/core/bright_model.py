"""A model that needs no training: what is bright is road. And a scene with bright roads, to run it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray

from aftermap.core.cards import Card
from aftermap.core.networks.package import save_package
from aftermap.core.networks.unet import build_network

TILE_PX = 128
UTM = "EPSG:32637"


def save_bright_model(path: Path, **changes: Any) -> Path:
    """A package whose probability is sigmoid(20 × (brightness − 0.5)) of each pixel by itself."""
    card = Card(
        **{
            "name": "bright",
            "title": "Bright is road",
            "task": "roads",
            "architecture": {"name": "textbook_unet", "bands": 3, "heads": ["road"], "width": 2},
            "classes": ({"code": 1, "name": "road", "colour": "#ff6600"},),
            "bands": ("red", "green", "blue"),
            "radiometry": {"scaling": "unit", "mean": [0.0] * 3, "std": [1.0] * 3},
            "gsd_m": 1.0,
            "gsd_range_m": (0.5, 1.5),
            "tile_px": TILE_PX,
            "margin_px": 16,
            "stride_px": 16,
            "threshold": 0.5,
            **changes,
        }
    )
    network = build_network(card.architecture)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.fill_(1.0 if name.endswith("1.weight") and value.ndim == 1 else 0.0)
        bands = network.bands
        network.down[0][0][0].weight[0, :, 1, 1] = 1.0 / bands
        network.down[0][1][0].weight[0, 0, 1, 1] = 1.0
        network.up[-1][0][0].weight[0, 2, 1, 1] = 1.0
        network.up[-1][1][0].weight[0, 0, 1, 1] = 1.0
        network.head.weight[:, 0] = 20.0
        network.head.bias[:] = -10.0
    save_package(path, network.eval(), card)
    return path


def draw_roads(height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    """A dark image (3, height, width) with bright streets, one along each axis every 90 px, 6 px wide."""
    image = np.random.default_rng(seed).integers(20, 90, (3, height, width), dtype=np.uint8)
    for line in range(40, max(height, width), 90):
        image[:, line : line + 6, :] = 220
        image[:, :, line : line + 6] = 220
    return image


def write_scene(path: Path, image: NDArray[Any] | None = None, **profile: Any) -> Path:
    """A GeoTIFF of an image, at 1 m in UTM unless told otherwise."""
    image = draw_roads(300, 420) if image is None else image
    settings = {
        "driver": "GTiff",
        "count": image.shape[0],
        "height": image.shape[1],
        "width": image.shape[2],
        "dtype": image.dtype,
        "crs": UTM,
        "transform": Affine(1.0, 0.0, 300_000.0, 0.0, -1.0, 4_100_000.0),
        **profile,
    }
    with rasterio.open(path, "w", **{k: v for k, v in settings.items() if v is not None}) as file:
        file.write(image)
    return path
