"""Labelled pairs of images, before and after an event, in memory: scenes of xBD, chips of one building."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy.ndimage import distance_transform_edt, label
from shapely.affinity import scale, translate
from shapely.geometry.base import BaseGeometry

from ..errors import DatasetError
from ..raster.ground_resolution import measure_gsd
from .layouts import images_by_stem
from .masks import IGNORE, read_pixels
from .xbd import Damage, XbdScene, find_scenes, fit_georeference, name_scenes, read_buildings, read_labels

DEFAULT_GSD_M = 0.5
"""Ground resolution of scenes whose labels carry no coordinates: that of most of xBD."""

CHIP_GSD_M = 0.3
CHIP_SIDE_M = 18.0
"""Chips are cut to this side: their size is that of their building, which would give it away."""

_MOSAIC_CHIPS = 64
_CHIP_LEVELS = {"damaged": int(Damage.DESTROYED), "intact": int(Damage.NO_DAMAGE)}
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


@dataclass(frozen=True)
class ChipFiles:
    """A chip of one building, as files.

    Attributes:
        stem: Its name, which tells whether the building is damaged.
        event: That of all chips of its folder.
        image: The image after.
        mask: The footprint.
    """

    stem: str
    event: str
    image: Path
    mask: Path


PairFiles = XbdScene | ChipFiles


@dataclass(frozen=True)
class PairFolder:
    """The labelled pairs of a folder, as files.

    Attributes:
        folder: Which.
        layout: How it is laid out, in words.
        pairs: By the name that lists give them, in its order: that of a chip, the number of a scene, or its
            stem where there are several events.
        unmatched: Files without a partner or without labels, relative to `folder`.
    """

    folder: Path
    layout: str
    pairs: Mapping[str, PairFiles]
    unmatched: tuple[str, ...]


def read_damage_folder(folder: Path, stems: Sequence[str] | None = None) -> list[DamageTile]:
    """The tiles of a folder of xBD scenes, or of chips.

    Args:
        folder: With ``images/``, and ``labels/`` or ``targets/`` (xBD), or ``masks/`` (chips: images named
            ``damaged_…`` or ``intact_…``, masks the footprint).
        stems: Which; names of chips, or the numbers of scenes; none: all.

    Raises:
        DatasetError: The folder is neither, a file is damaged, or a stem is missing.
    """
    return [read_pair(files) for files in _choose(list_pairs(folder), stems)]


def read_whole_tiles(
    folder: Path, stems: Sequence[str] | None = None
) -> tuple[list[DamageTile], tuple[str, ...]]:
    """The tiles of a folder without those of damaged files, and a sentence for each of these.

    For what loses little by a missing tile, as a training does; a score would be another one.

    Args:
        folder: As in `read_damage_folder`.
        stems: Likewise.

    Raises:
        DatasetError: The folder is neither of scenes nor of chips, a stem is missing, or all are damaged.
    """
    tiles, problems = [], []
    for files in _choose(list_pairs(folder), stems):
        try:
            tiles.append(read_pair(files))
        except DatasetError as error:
            problems.append(str(error))
    if problems and not tiles:
        raise DatasetError(f"None of the {len(problems)} pairs of {folder} can be used. {problems[0]}")
    return tiles, tuple(problems)


def list_pairs(folder: Path) -> PairFolder:
    """Find the labelled pairs of a folder; no image and no label is opened.

    Args:
        folder: As in `read_damage_folder`.

    Raises:
        DatasetError: The folder is neither of scenes nor of chips.
    """
    images = images_by_stem(folder / "images") if (folder / "images").is_dir() else {}
    if any(stem.partition("_")[0] in _CHIP_LEVELS for stem in images):
        return _list_chips(folder, images)
    scenes, alone = find_scenes(folder)
    labels = "labels/" if any(scene.labels[1] for scene in scenes) else "targets/"
    unmatched = tuple(f"images/{name}" for name in alone)
    return PairFolder(folder, f"xBD, images/ + {labels}", name_scenes(scenes), unmatched)


def _list_chips(folder: Path, images: Mapping[str, Path]) -> PairFolder:
    masks = images_by_stem(folder / "masks") if (folder / "masks").is_dir() else {}
    chips = {
        stem: ChipFiles(stem, folder.name, path, masks[stem])
        for stem, path in images.items()
        if stem in masks and stem.partition("_")[0] in _CHIP_LEVELS
    }
    if not chips:
        raise DatasetError(
            f"No chip in {folder} has a mask: give each damaged_… and intact_… of images/ one of the same "
            "name in masks/."
        )
    both = (*((p, "images") for p in images.values()), *((p, "masks") for p in masks.values()))
    alone = tuple(f"{part}/{path.name}" for path, part in both if path.stem not in chips)
    return PairFolder(folder, "chips of one building, images/ + masks/", chips, alone)


def _choose(content: PairFolder, stems: Sequence[str] | None) -> list[PairFiles]:
    found = content.pairs
    wanted = list(found) if stems is None else list(stems)
    if missing := [stem for stem in wanted if stem not in found]:
        raise DatasetError(
            f"{content.folder} has no scene {missing[0]} with labels ({len(missing)} are missing): mend the "
            "list."
        )
    return [found[stem] for stem in wanted]


def read_pair(files: PairFiles) -> DamageTile:
    """A scene or a chip.

    Raises:
        DatasetError: A file is damaged, or its images are of different sizes.
    """
    return _read_chip(files) if isinstance(files, ChipFiles) else read_scene(files)


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


def _read_chip(chip: ChipFiles) -> DamageTile:
    post, footprint = _read_image(chip.image), read_pixels(chip.mask).bands[0] > 0
    if footprint.shape != post.shape[1:]:
        raise DatasetError(
            f"{chip.image} and {chip.mask} are of different sizes: replace them, or remove both."
        )
    level = _CHIP_LEVELS[chip.stem.partition("_")[0]]
    building = np.where(footprint, 1, IGNORE).astype(np.uint8)  # what stands around it is not labelled
    damage = np.where(footprint, level, IGNORE).astype(np.uint8)
    outlined = tuple(Building(b.outline, level) for b in _outline_components(np.where(footprint, level, 0)))
    return DamageTile(chip.stem, chip.event, None, post, building, damage, CHIP_GSD_M, outlined, is_chip=True)


def _read_image(path: Path) -> NDArray[np.uint8]:
    pixels = read_pixels(path, what="image").bands[:3]
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
            corners = [np.column_stack((cols + dc, rows + dr)) for dr in (0, 1) for dc in (0, 1)]
            found.append(Building(shapely.multipoints(np.concatenate(corners)).convex_hull, int(code)))
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
    return group_counts(Counter(b.damage for tile in tiles for b in tile.buildings))


def group_counts(buildings: Mapping[int, int]) -> list[LevelGroup]:
    """As `group_levels`, from the number of buildings by code; `IGNORE` is passed over.

    Raises:
        DatasetError: All buildings are undamaged, or all damaged.
    """
    counts = {int(code): buildings.get(code, 0) for code in Damage}
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
        total = sum(counts.values())
        if not total:
            raise DatasetError("No training pair shows a building with a known level: add pairs that do.")
        state = "undamaged" if counts[Damage.NO_DAMAGE] else "damaged"
        raise DatasetError(f"The {total} buildings are all {state}: add tiles that show both.")
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


def arranged_sizes(count: int) -> list[tuple[int, int]]:
    """Height and width of the tiles that `arrange_chips` makes of so many chips."""
    sizes = []
    for start in range(0, count, _MOSAIC_CHIPS):
        some = min(_MOSAIC_CHIPS, count - start)
        _, cell, columns = _plan_mosaic(some, CHIP_GSD_M)
        sizes.append((cell * math.ceil(some / columns), cell * columns))
    return sizes


def _plan_mosaic(count: int, gsd_m: float) -> tuple[int, int, int]:
    """Side of a chip, side of the cell that it gets, both in pixels, and how many stand side by side."""
    side = round(CHIP_SIDE_M / gsd_m)
    return side, side + side // 2, math.ceil(math.sqrt(count))


def _arrange(chips: Sequence[DamageTile], stem: str) -> DamageTile:
    gsd_m = chips[0].gsd_m
    side, cell, columns = _plan_mosaic(len(chips), gsd_m)
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
