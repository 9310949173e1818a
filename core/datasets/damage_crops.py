"""Training crops of pairs: other light before and after, a shift between them, sometimes no image before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .augmentation import choose_augmentation
from .crops import Placement, draw_placement
from .damage_tiles import DamageTile, LevelGroup, dilate_damage, ranks_of
from .folders import IGNORE


@dataclass(frozen=True)
class PairSettings:
    """How crops of pairs are drawn.

    Attributes:
        crop_px: Side of a crop at the working resolution.
        working_gsd_m: The working resolution.
        scale_jitter: Largest factor by which a crop is enlarged or shrunk.
        drop_pre: Share of crops without an image before.
        shift_px: Largest shift of the image after against the one before, along each axis.
        near_building: Share of crops that are drawn around a building, all levels alike.
        fill: What invalid pixels are shown as, one value a band of one image.
        augmentation: As in `crops.CropSettings`.
    """

    crop_px: int = 384
    working_gsd_m: float = 0.5
    scale_jitter: float = 1.25
    drop_pre: float = 0.25
    shift_px: float = 6.0
    near_building: float = 0.6
    fill: tuple[float, ...] = (0.485, 0.456, 0.406)
    augmentation: str = "structure"


class PairCrops:
    """Draws training crops from pairs in memory.

    Args:
        tiles: Labelled pairs.
        groups: The levels that are told apart.
        settings: How crops are drawn.

    Attributes:
        level_shares: Share of the buildings of each group.
    """

    def __init__(
        self, tiles: Sequence[DamageTile], groups: Sequence[LevelGroup], settings: PairSettings
    ) -> None:
        self.tiles, self.settings = list(tiles), settings
        self._augment = choose_augmentation(settings.augmentation)
        table = ranks_of(groups)
        self._labels = [np.stack((tile.building, table[dilate_damage(tile)])) for tile in tiles]
        total = sum(group.count for group in groups)
        self.level_shares = [group.count / total for group in groups]
        self._places: list[list[tuple[int, float, float]]] = [[] for _ in groups]
        for i, tile in enumerate(tiles):
            for building in tile.buildings:
                rank = int(table[building.damage])
                if rank != IGNORE and not building.outline.is_empty:
                    middle = building.outline.centroid
                    self._places[rank].append((i, middle.y, middle.x))

    def crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """One augmented crop.

        Returns:
            Image float32 (2 x bands, crop, crop) in 0 to 1, the image before first; labels uint8
            (2, crop, crop): building, and the rank of its level, with `IGNORE`.
        """
        s = self.settings
        i, centre, side = self._choose_place(rng)
        tile, labels = self.tiles[i], self._labels[i]
        place = draw_placement(centre, side, s.crop_px, rng)
        spans = place.spans(*labels.shape[1:])
        known = torch.from_numpy((labels[:, *spans] != IGNORE).astype(np.float32))[None]
        codes = torch.from_numpy(labels[:, *spans].astype(np.float32))[None]
        # Zeros outside of the tile: known is 0 there.
        cut = place.sample(torch.cat((codes, known), dim=1), spans, "nearest")
        result = np.where(cut[2:] > 0.5, np.rint(cut[:2]), IGNORE).astype(np.uint8)
        before = None if rng.random() < s.drop_pre else tile.pre
        # The labels are those of the image before, where there is one: it is the one after that moves.
        reach = s.shift_px * side / s.crop_px if before is not None else 0.0
        down, right = rng.uniform(-reach, reach, 2)
        moved = replace(place, centre=(centre[0] + down, centre[1] + right))
        return np.concatenate((self._look(before, place, rng), self._look(tile.post, moved, rng))), result

    def _choose_place(self, rng: np.random.Generator) -> tuple[int, tuple[float, float], float]:
        """Tile, centre and side of the window in the tile's pixels."""
        s = self.settings
        jitter = np.log(s.scale_jitter)
        near = rng.random() < s.near_building
        if near:
            places = self._places[int(rng.integers(len(self._places)))]
            i, row, col = places[int(rng.integers(len(places)))]
        else:
            i = int(rng.integers(len(self.tiles)))
        tile = self.tiles[i]
        side = s.crop_px * s.working_gsd_m / tile.gsd_m * float(np.exp(rng.uniform(-jitter, jitter)))
        height, width = tile.building.shape
        if near:
            row, col = rng.uniform(-0.35, 0.35, 2) * side + (row, col)
        else:
            row, col = rng.uniform(0, height), rng.uniform(0, width)
        half = side / 2
        row = float(np.clip(row, min(half, height / 2), max(height - half, height / 2)))
        col = float(np.clip(col, min(half, width / 2), max(width - half, width / 2)))
        return i, (row, col), side

    def _look(
        self, image: NDArray[np.uint8] | None, place: Placement, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """One date of the crop, in its own light; what was not seen is filled."""
        s = self.settings
        fill = np.asarray(s.fill, dtype=np.float32)[:, None, None]
        if image is None:
            return np.broadcast_to(fill, (len(fill), s.crop_px, s.crop_px)).copy()
        spans = place.spans(*image.shape[1:])
        pixels = image[:, *spans]
        seen = pixels.any(axis=0, keepdims=True).astype(np.float32)
        stack = np.concatenate((pixels.astype(np.float32) / 255, seen))
        cut = place.sample(torch.from_numpy(stack)[None], spans)
        shown = self._augment(np.ascontiguousarray(cut[:-1]), rng)
        return np.where(cut[-1:] > 0.5, shown, fill).astype(np.float32)
