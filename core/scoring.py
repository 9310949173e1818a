"""Scoring a network on labelled tiles, through the same inference as a run on a raster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from .datasets.folders import IGNORE, LabelledTile, open_labelled, read_codes, read_tile
from .evaluation.pixel_scores import LevelCounts, RelaxedCounts, relaxed_counts
from .inference.pipeline import predict_raster, rows_file
from .networks.segmenter import Segmenter
from .raster.grid import plan_grid
from .raster.probability import NODATA, decode_probabilities
from .raster.region import plan_region
from .raster.tiling import plan_tiles

OCCLUSIONS = {1: "cars", 2: "trees", 3: "shadows"}
"""Codes of occlusion masks, and what they mean."""


@dataclass(frozen=True)
class ScoredTile:
    """A tile with what the network says of it, at the resolution of its mask.

    Attributes:
        stem: Its name.
        image: uint8 (bands, h, w).
        labels: uint8 (2, h, w): road and building, 0, 1 or `IGNORE`.
        levels: uint8 (h, w): probability levels 0 to 254, 255 no data.
        counts: Its pixels by level.
        hidden: Its road pixels by level, under each kind of cover (1 a car, 2 a tree, 3 a shadow).
    """

    stem: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    counts: LevelCounts
    hidden: dict[int, LevelCounts]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """float32 (h, w), 0 where there are no data."""
        return decode_probabilities(self.levels)[0]

    def relaxed(self, level: int) -> RelaxedCounts:
        """`relaxed_counts` with what is at or over a level as the prediction."""
        known = (self.labels[0] != IGNORE) & (self.levels != NODATA)
        return relaxed_counts((self.levels >= level) & known, (self.labels[0] == 1) & known)


def score_tiles(
    tiles: Sequence[LabelledTile], segmenter: Segmenter, bands: int, gsd_m: float
) -> Iterator[ScoredTile]:
    """Run a network over labelled tiles, one after the other.

    Args:
        tiles: Which.
        segmenter: The network.
        bands: Number of its bands.
        gsd_m: Ground resolution of tiles that state none.

    Raises:
        RasterError: An image cannot be read.
        DatasetError: A mask cannot be read, or does not fit its image.
    """
    with tempfile.TemporaryDirectory(prefix="aftermap-scores-") as folder:
        for i, tile in enumerate(tiles):
            arrays = read_tile(tile, gsd_m, bands)
            levels = _predict(tile, segmenter, bands, gsd_m, Path(folder) / str(i))
            levels = _at_size(levels, arrays.labels.shape[1:])
            counts = LevelCounts()
            buildings = arrays.labels[1] if tile.building_mask else None
            counts.add(levels, arrays.labels[0], buildings)
            hidden = _count_hidden(tile, levels, arrays.labels[0])
            yield ScoredTile(tile.stem, arrays.image, arrays.labels, levels, counts, hidden)


def _count_hidden(
    tile: LabelledTile, levels: NDArray[np.uint8], road: NDArray[np.uint8]
) -> dict[int, LevelCounts]:
    if tile.occlusion_mask is None:
        return {}
    covers = read_codes(tile.occlusion_mask)
    found = {}
    for code in OCCLUSIONS:
        found[code] = LevelCounts()
        found[code].add(levels, np.where((covers == code) & (road == 1), 1, IGNORE).astype(np.uint8))
    return found


def _predict(
    tile: LabelledTile, segmenter: Segmenter, bands: int, gsd_m: float, work: Path
) -> NDArray[np.uint8]:
    with open_labelled(tile, gsd_m, bands) as source:
        grid = plan_grid(source, segmenter.gsd_m)
        region = plan_region(grid)
        plan = plan_tiles(
            grid,
            region,
            tile_px=segmenter.tile_px,
            margin_px=segmenter.margin_px,
            stride_px=segmenter.stride_px,
        )
        for _ in predict_raster(source, grid, region, plan, segmenter, work):
            pass
    return np.fromfile(rows_file(work), dtype=np.uint8).reshape(grid.height, grid.width)


def _at_size(levels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring levels from the network's grid to the pixels of the mask (bilinear; no data stays no data)."""
    if levels.shape == shape:
        return levels
    rows, cols = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, levels.shape, strict=True))
    at = np.meshgrid(rows, cols, indexing="ij")
    values, valid = decode_probabilities(levels)
    resized = map_coordinates(values * 254, at, order=1, mode="nearest")
    known = map_coordinates(valid.astype(np.float32), at, order=1, mode="nearest") > 0.5
    return np.where(known, np.rint(resized), NODATA).astype(np.uint8)
