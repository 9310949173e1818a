"""Labelled pairs of images, before and after an event, in memory: scenes of xBD, chips of one building."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy.ndimage import distance_transform_edt, label
from shapely.affinity import scale, translate
from shapely.geometry import MultiPoint
from shapely.geometry.base import BaseGeometry

from ..errors import DatasetError
from ..raster.ground_resolution import measure_gsd
from .layouts import images_by_stem
from .masks import IGNORE, read_pixels
from .xbd import Damage, XbdScene, find_scenes, fit_georeference, read_buildings, read_labels

DEFAULT_GSD_M = 0.5
"""Ground resolution of scenes whose labels carry no coordinates: that of most of xBD."""

CHIP_GSD_M = 0.3
CHIP_SIDE_M = 18.0
"""Chips are cut to this side: their size is that of their building, which would give it away."""

_MOSAIC_CHIPS = 64
_CHIP_LEVELS = {"damaged": int(Damage.DESTROYED), "intact": int(Damage.NO_DAMAGE)}
_Found = TypeVar("_Found")
_DILATE_M = 2.5  # rubble falls outside of the footprint: 5 px of xBD's


@dataclass(frozen=True)
class Building:
    """A labelled building.

    Attributes:
        outline: In pixels (column, row) of its tile.
        damage: Code of `xbd.Damage`, or `IGNORE`.
    """

    outline: BaseGeometry
    damage: int


@dataclass(frozen=True)
class DamageTile:
    """A pair of images with its labels.

    Attributes:
        stem: Its name.
        group: Tiles of one group never stand on both sides of a split: the event.
        pre: uint8 (bands, h, w), the image before; none where there is none.
        post: uint8 (bands, h, w), the image after.
        building: uint8 (h, w): 1 on buildings, 0 elsewhere, `IGNORE` where nobody said.
        damage: uint8 (h, w): codes of `xbd.Damage` on buildings, 0 elsewhere, `IGNORE` where not classified.
        gsd_m: Side of a pixel on the ground.
        buildings: One by one.
        is_chip: Whether it shows buildings one by one; nothing around them is labelled.
    """

    stem: str
    group: str
    pre: NDArray[np.uint8] | None
    post: NDArray[np.uint8]
    building: NDArray[np.uint8]
    damage: NDArray[np.uint8]
    gsd_m: float
    buildings: tuple[Building, ...]
    is_chip: bool = False

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """bool (h, w): where the image after shows anything; black wedges lie beyond its edge."""
        return np.asarray(self.post.any(axis=0))


def read_damage_folder(folder: Path, stems: Sequence[str] | None = None) -> list[DamageTile]:
    """The tiles of a folder of xBD scenes, or of chips.

    Args:
        folder: With ``images/``, and ``labels/`` or ``targets/`` (xBD), or ``masks/`` (chips: images named
            ``damaged_…`` or ``intact_…``, masks the footprint).
        stems: Which; names of chips, or the numbers of scenes; none: all.

    Raises:
        DatasetError: The folder is neither, a file is damaged, or a stem is missing.
    """
    images = images_by_stem(folder / "images") if (folder / "images").is_dir() else {}
    if any(stem.partition("_")[0] in _CHIP_LEVELS for stem in images):
        masks = images_by_stem(folder / "masks") if (folder / "masks").is_dir() else {}
        chips = {stem: (path, masks[stem]) for stem, path in images.items() if stem in masks}
        return [_read_chip(stem, *paths, folder.name) for stem, paths in _choose(chips, stems, folder)]
    scenes, _ = find_scenes(folder)
    by_number = {scene.stem.rpartition("_")[2]: scene for scene in scenes}
    if len(by_number) < len(scenes):  # several events in one folder
        by_number = {scene.stem: scene for scene in scenes}
    return [read_scene(scene) for _, scene in _choose(by_number, stems, folder)]


def _choose(
    found: Mapping[str, _Found], stems: Sequence[str] | None, folder: Path
) -> list[tuple[str, _Found]]:
    wanted = list(found) if stems is None else list(stems)
    if missing := [stem for stem in wanted if stem not in found]:
        raise DatasetError(
            f"{folder} has no scene {missing[0]} with labels ({len(missing)} are missing): mend the list."
        )
    return [(stem, found[stem]) for stem in wanted]


def read_scene(scene: XbdScene) -> DamageTile:
    """A scene of xBD.

    Raises:
        DatasetError: A file is damaged, or the images are of different sizes.
    """
    pre, post = _read_image(scene.pre), _read_image(scene.post)
    if pre.shape != post.shape:
        raise DatasetError(
            f"{scene.pre} and {scene.post} are of different sizes ({pre.shape[2]} x {pre.shape[1]} and "
            f"{post.shape[2]} x {post.shape[1]} pixels): replace them, or remove the scene."
        )
    labels = read_labels(scene, *post.shape[1:])
    gsd_m = DEFAULT_GSD_M
    buildings: tuple[Building, ...]
    if scene.labels[1] is not None:
        outlined = read_buildings(scene.labels[1])
        buildings = tuple(Building(b.pixels, b.damage or IGNORE) for b in outlined)
        if any(b.degrees is not None for b in outlined):
            gsd_m = _mean_gsd(scene.post, fit_georeference(outlined)[0], post.shape[1:])
    else:
        buildings = tuple(_outline_components(labels.damage))
    is_unseen = ~post.any(axis=0)
    building, damage = labels.building, labels.damage
    building[is_unseen], damage[is_unseen] = IGNORE, IGNORE
    return DamageTile(scene.stem, scene.event, pre, post, building, damage, gsd_m, buildings)


def _read_chip(stem: str, image: Path, mask: Path, group: str) -> DamageTile:
    post, footprint = _read_image(image), read_pixels(mask).bands[0] > 0
    if footprint.shape != post.shape[1:]:
        raise DatasetError(f"{image} and {mask} are of different sizes: replace them, or remove both.")
    level = _CHIP_LEVELS[stem.partition("_")[0]]
    building = np.where(footprint, 1, IGNORE).astype(np.uint8)  # what stands around it is not labelled
    damage = np.where(footprint, level, IGNORE).astype(np.uint8)
    outlined = tuple(Building(b.outline, level) for b in _outline_components(np.where(footprint, level, 0)))
    return DamageTile(stem, group, None, post, building, damage, CHIP_GSD_M, outlined, is_chip=True)


def _read_image(path: Path) -> NDArray[np.uint8]:
    pixels = read_pixels(path).bands[:3]
    if len(pixels) == 2 or pixels.max() > 255:
        raise DatasetError(
            f"{path} has {len(pixels)} bands with values up to {pixels.max()}, and pairs are images of one "
            "or three bands of 8 bits: convert it, or remove the scene."
        )
    if len(pixels) == 1:
        pixels = np.repeat(pixels, 3, axis=0)
    return np.ascontiguousarray(pixels.astype(np.uint8))


def _mean_gsd(path: Path, transform: Affine, shape: tuple[int, ...]) -> float:
    x_m, y_m = measure_gsd(str(path), CRS.from_epsg(4326), transform, shape[1], shape[0])
    return math.sqrt(x_m * y_m)


def _outline_components(damage: NDArray[np.generic]) -> list[Building]:
    """Buildings of a raster without outlines: what hangs together at one level, by its convex hull."""
    found = []
    for code in np.unique(damage):
        if code in (0, IGNORE):
            continue
        marks, count = label(damage == code)
        for i in range(1, count + 1):
            rows, cols = np.nonzero(marks == i)
            corners = [
                (c + dc, r + dr) for r, c in zip(rows, cols, strict=True) for dr in (0, 1) for dc in (0, 1)
            ]
            found.append(Building(MultiPoint(corners).convex_hull, int(code)))
    return found


def dilate_damage(tile: DamageTile) -> NDArray[np.uint8]:
    """The levels, spread a few metres around the buildings, so that rubble beside them counts.

    Returns:
        uint8 (h, w): codes, 0 far from buildings, `IGNORE`.
    """
    apart = tile.damage == 0
    if apart.all():
        return tile.damage.copy()
    distance, nearest = distance_transform_edt(apart, return_indices=True)
    spread = tile.damage[tuple(nearest)]
    return np.where(distance * tile.gsd_m <= _DILATE_M, spread, tile.damage).astype(np.uint8)


def scale_outline(outline: BaseGeometry, factor: float) -> BaseGeometry:
    """An outline in the pixels of a raster that is `factor` times as large."""
    return scale(outline, factor, factor, origin=(0, 0))


@dataclass(frozen=True)
class LevelGroup:
    """Levels that a model does not tell apart.

    Attributes:
        code: Of the worst of them; it stands for all.
        codes: All.
        count: Training buildings.
    """

    code: int
    codes: tuple[int, ...]
    count: int


FEWEST_BUILDINGS = 50
"""A level with fewer training buildings is merged with its neighbour."""


def group_levels(tiles: Sequence[DamageTile]) -> list[LevelGroup]:
    """Which levels the buildings of some tiles can teach; undamaged ones stay by themselves.

    Raises:
        DatasetError: All buildings are undamaged, or all damaged.
    """
    levels = [b.damage for tile in tiles for b in tile.buildings if b.damage != IGNORE]
    counts = {int(code): levels.count(code) for code in Damage}
    groups = [[int(code)] for code in Damage]

    def size(group: Sequence[int]) -> int:
        return sum(counts[c] for c in group)

    while len(groups) > 2 and min(size(g) for g in groups[1:]) < FEWEST_BUILDINGS:
        i = min(range(1, len(groups)), key=lambda k: size(groups[k]))
        beside = [k for k in (i - 1, i + 1) if 1 <= k < len(groups)]
        j = min(beside, key=lambda k: size(groups[k]))
        low, high = sorted((i, j))
        groups[low : high + 1] = [groups[low] + groups[high]]
    found = [LevelGroup(max(g), tuple(g), size(g)) for g in groups]
    if not all(group.count for group in found):
        state = "damaged" if levels and min(levels) > Damage.NO_DAMAGE else "undamaged"
        raise DatasetError(f"The {len(levels)} buildings are all {state}: add tiles that show both.")
    return found


def ranks_of(groups: Sequence[LevelGroup]) -> NDArray[np.uint8]:
    """Table from a code (0 to 255) to the rank of its group from 0; `IGNORE` for all other codes."""
    table = np.full(256, IGNORE, dtype=np.uint8)
    for rank, group in enumerate(groups):
        table[list(group.codes)] = rank
    return table


def arrange_chips(chips: Sequence[DamageTile]) -> list[DamageTile]:
    """Chips of single buildings side by side in larger tiles, each cut to `CHIP_SIDE_M` around its middle.

    What lies between them is unseen and unlabelled. A crop for training holds many of them.
    """
    arranged = []
    for start in range(0, len(chips), _MOSAIC_CHIPS):
        some = chips[start : start + _MOSAIC_CHIPS]
        arranged.append(_arrange(some, f"{some[0].group}-{start // _MOSAIC_CHIPS}"))
    return arranged


def _arrange(chips: Sequence[DamageTile], stem: str) -> DamageTile:
    gsd_m = chips[0].gsd_m
    side = round(CHIP_SIDE_M / gsd_m)
    cell, columns = side + side // 2, math.ceil(math.sqrt(len(chips)))
    shape = (cell * math.ceil(len(chips) / columns), cell * columns)
    post = np.zeros((len(chips[0].post), *shape), np.uint8)
    building, damage = np.full(shape, IGNORE, np.uint8), np.full(shape, IGNORE, np.uint8)
    buildings = []
    for i, chip in enumerate(chips):
        height, width = chip.building.shape
        rows, cols = _middle(height, side), _middle(width, side)
        top = cell * (i // columns) + (cell - (rows.stop - rows.start)) // 2
        left = cell * (i % columns) + (cell - (cols.stop - cols.start)) // 2
        there = np.s_[top : top + rows.stop - rows.start, left : left + cols.stop - cols.start]
        post[:, *there] = chip.post[:, rows, cols]
        building[there], damage[there] = chip.building[rows, cols], chip.damage[rows, cols]
        moved = (left - cols.start, top - rows.start)
        buildings += [Building(translate(b.outline, *moved), b.damage) for b in chip.buildings]
    return DamageTile(
        stem, chips[0].group, None, post, building, damage, gsd_m, tuple(buildings), is_chip=True
    )


def _middle(size: int, wanted: int) -> slice:
    start = max(0, (size - wanted) // 2)
    return slice(start, min(size, start + wanted))
