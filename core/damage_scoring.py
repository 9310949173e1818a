"""A damage model on labelled pairs: the probabilities of a tile, and what they say of its buildings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy.ndimage import zoom

from .datasets.damage_tiles import DamageTile, scale_outline
from .datasets.folders import IGNORE
from .evaluation.pixel_scores import LevelCounts
from .progress import finish
from .raster.grid import Grid
from .raster.probability import decode_probabilities, encode_probabilities
from .vector.pooling import PooledFeatures, pool_footprints
from .vector.windows import Window


class PairNetwork(Protocol):
    """What is scored; `networks.segmenter.Segmenter` of a damage model is one."""

    heads: tuple[str, ...]
    tile_px: int
    margin_px: int
    stride_px: int
    gsd_m: float
    fill: NDArray[np.float32]

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (n, heads, h, w) of float32 tiles (n, bands, h, w), all in 0 to 1."""


@dataclass(frozen=True)
class ScoredPair:
    """A labelled pair, as a network sees it.

    Attributes:
        tile: With its labels.
        codes: uint8 (heads, h, w) on the network's grid, encoded probabilities: building, then the levels.
        features: Pooled probabilities of the levels, a row for each of the tile's buildings.
    """

    tile: DamageTile
    codes: NDArray[np.uint8]
    features: PooledFeatures

    def at_size(self) -> NDArray[np.float32]:
        """Probabilities on the tile's own pixels: float32 (heads, h, w), 0 where nothing was seen."""
        values, _ = decode_probabilities(self.codes)
        return resize(values, self.tile.building.shape)

    def count_buildings(self) -> LevelCounts:
        """Pixels of buildings and of none at each probability; where nobody said, none is counted."""
        counts = LevelCounts()
        known: NDArray[np.bool_] = np.not_equal(self.tile.building, IGNORE)
        levels = encode_probabilities(self.at_size()[0], known)
        counts.add(levels, self.tile.building)
        return counts


def score_pairs(tiles: Iterable[DamageTile], network: PairNetwork) -> Iterator[ScoredPair]:
    """Run a network over labelled pairs, one at a time in memory."""
    for tile in tiles:
        image, seen = look_at(tile, network)
        codes = np.stack([encode_probabilities(p, seen) for p in predict_array(network, image)])
        factor = codes.shape[2] / tile.building.shape[1]
        outlines = [scale_outline(b.outline, factor) for b in tile.buildings]
        yield ScoredPair(tile, codes, pool_array(codes[1:], outlines, network.gsd_m))


def look_at(tile: DamageTile, network: PairNetwork) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A pair as the network takes it, at its resolution: float32 (bands, h, w), and what was seen, (h, w)."""
    factor = tile.gsd_m / network.gsd_m
    shape = tuple(max(1, round(n * factor)) for n in tile.building.shape)
    fill = network.fill[:, None, None]
    half = len(fill) // 2
    pre: NDArray[Any]
    seen: NDArray[np.bool_] = np.greater(resize(tile.is_seen[None].astype(np.float32), shape)[0], 0.5)
    post: NDArray[Any] = np.where(seen, resize(tile.post / np.float32(255), shape), fill[half:])
    if tile.pre is None:
        pre = np.broadcast_to(fill[:half], post.shape)
    else:
        was_seen: NDArray[np.bool_] = np.greater(
            resize(np.any(tile.pre, axis=0, keepdims=True).astype(np.float32), shape)[0], 0.5
        )
        pre = np.where(was_seen, resize(tile.pre / np.float32(255), shape), fill[:half])
    return np.concatenate((pre, post)).astype(np.float32), seen


def resize(image: NDArray[Any], shape: Sequence[int]) -> NDArray[np.float32]:
    """Bilinear, averaged first where it shrinks by more than a half: float32 (bands, *shape)."""
    result: NDArray[np.float32] = np.asarray(image, dtype=np.float32)
    while result.shape[1] > 1.5 * shape[0] and min(result.shape[1:]) > 1:
        rows, cols = (n - n % 2 for n in result.shape[1:])
        even = result[:, :rows, :cols]
        total = even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]
        result = (total / 4).astype(np.float32)
    if result.shape[1:] == tuple(shape):
        return result
    factors = (1, *(n / m for n, m in zip(shape, result.shape[1:], strict=True)))
    resized: NDArray[np.float32] = zoom(result, factors, order=1, mode="nearest", grid_mode=True)
    return resized


def predict_array(network: PairNetwork, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of an image in memory, (heads, h, w): in tiles whose margins are left out.

    Args:
        network: What predicts.
        image: float32 (bands, h, w) in 0 to 1.
    """
    height, width = image.shape[1:]
    stride, margin = network.stride_px, network.margin_px
    step = network.tile_px - 2 * margin
    found = np.zeros((len(network.heads), height, width), dtype=np.float32)
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, cols = (max(0, top - margin), max(0, left - margin))
            part = image[:, rows : top + step + margin, cols : left + step + margin]
            h, w = part.shape[1:]
            padded = np.broadcast_to(
                network.fill[:, None, None], (len(image), -(-h // stride) * stride, -(-w // stride) * stride)
            ).copy()
            padded[:, :h, :w] = part
            p = network(padded[None])[0, :, top - rows : h, left - cols : w]
            found[:, top : top + step, left : left + step] = p[:, :step, :step]
    return found


def pool_array(codes: NDArray[np.uint8], outlines: Sequence[object], gsd_m: float) -> PooledFeatures:
    """Pool probabilities in memory.

    Args:
        codes: uint8 (levels, h, w).
        outlines: Geometries in its pixels (column, row).
        gsd_m: Side of a pixel.
    """

    def read(window: Window) -> NDArray[np.uint8]:
        return codes[:, window.row : window.row + window.height, window.col : window.col + window.width]

    height, width = codes.shape[1:]
    grid = Grid(width, height, Affine.identity(), None, gsd_m, (1.0, 1.0))
    shapes = np.empty(len(outlines), dtype=object)
    shapes[:] = outlines
    return finish(pool_footprints(read, len(codes), grid, shapes))


def join_features(parts: Sequence[PooledFeatures]) -> PooledFeatures:
    """The rows of several tiles, one after another."""
    return PooledFeatures(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("mean", "p90", "ring", "seen"))
    )


def areas_m2(tile: DamageTile) -> NDArray[np.float64]:
    """Area of each building of a tile in square metres."""
    outlines = [b.outline for b in tile.buildings]
    areas: NDArray[np.float64] = shapely.area(outlines) * tile.gsd_m**2
    return areas
