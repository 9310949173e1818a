"""How folders of labelled tiles are laid out: which file is an image, and which its mask.

==========================================================  ==========================================
``images/`` + ``masks/``                                     most home-made sets, Dubai (MBRSC)
``sat/`` + ``map/``                                          Massachusetts Roads (Mnih 2013)
``images/`` + ``groundtruth/``, ``gt/`` or ``labels/``       others
``<name>_sat.*`` + ``<name>_mask.*`` in one folder           DeepGlobe Roads (Demir et al. 2018)
``<name>_image.*`` + ``<name>_label.*`` in one folder        others
``<name>.jpg`` + ``<name>.png`` in one folder                others
``train/``, its masks beside it in ``train_labels/``         Massachusetts Roads, as it is handed on
``images/*_pre_disaster.*`` + ``targets/``                   xBD (Gupta et al. 2019), for buildings alone
==========================================================  ==========================================

In two folders, an image and its mask have the same name up to such an ending. Beside them may stand
``building_masks/`` and, in generated sets, ``occlusion_masks/`` (what hides a road: 1 a car, 2 a tree,
3 a shadow). Where buildings are learned, ``building_masks/`` comes before ``masks/``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning

from ..errors import DatasetError
from ..raster.gdal import GDAL_ERRORS
from ..tasks import BUILDING_FOLDERS, BUILDINGS, ROADS, TileTask, find_tile_task
from .masks import MaskCoding, parse_mask_value

IMAGE_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".webp", ".vrt"}
_PAIRS = (
    ("images", "masks"),
    ("sat", "map"),
    ("images", "groundtruth"),
    ("images", "gt"),
    ("images", "labels"),
    ("image", "mask"),
    ("image", "label"),
)
_OCCLUSION_FOLDER = "occlusion_masks"
_IMAGE_ENDS = ("_sat", "_image", "_img", "_rgb")
_MASK_ENDS = ("_mask", "_label", "_labels", "_map", "_gt", "_groundtruth")
_LOSSY = {".jpg", ".jpeg", ".jp2", ".webp"}  # of an image and a mask of one name, the image
_XBD_ENDS = ("_pre_disaster", "_post_disaster")
_LOOKS_INSIDE = 20  # folders that are looked into for the tiles that one chosen too high lacks


@dataclass(frozen=True)
class LabelledTile:
    """An image with its masks, as files.

    Attributes:
        stem: The name that they share.
        image: The image.
        mask: The mask of the class.
        building_mask: That of buildings, where there is one and they are not the class.
        occlusion_mask: That of what hides the class, where there is one.
        coding: What in `mask` is the class; none: the mask says it by itself (0/1, or over half).
    """

    stem: str
    image: Path
    mask: Path
    building_mask: Path | None = None
    occlusion_mask: Path | None = None
    coding: MaskCoding | None = None

    def coded(self, coding: MaskCoding) -> LabelledTile:
        """The same tile, with what in its mask is the class."""
        # dataclasses.replace takes five times as long, and there may be ten thousand tiles
        return LabelledTile(self.stem, self.image, self.mask, self.building_mask, self.occlusion_mask, coding)


@dataclass(frozen=True)
class FolderContent:
    """What a folder of labelled tiles holds.

    Attributes:
        folder: Which.
        layout: How it is laid out, in words.
        tiles: Images that have a mask, by name.
        unmatched: Images without a mask and masks without an image, relative to `folder`.
        coding: What in the masks is the class, where the layout says it.
    """

    folder: Path
    layout: str
    tiles: tuple[LabelledTile, ...]
    unmatched: tuple[str, ...]
    coding: MaskCoding | None = None


def find_tiles(folder: Path, mask_value: str = "") -> list[LabelledTile]:
    """The labelled tiles of a folder, by stem.

    Without an index, nothing is known of the masks of a folder together: `survey.survey_folder` is.

    Args:
        folder: Which.
        mask_value: What in a mask is the class, where the user has said it.

    Raises:
        DatasetError: There is no folder, no known layout, or no image that has a mask.
        JobError: `mask_value` is no code and no colour.
    """
    tiles = list(list_content(folder).tiles)
    if not mask_value:
        return tiles
    code, colour = parse_mask_value(mask_value)
    coding = MaskCoding(code=code, colour=colour)
    return [tile.coded(coding) for tile in tiles]


def list_content(folder: Path, task: str = "roads") -> FolderContent:
    """Find the labelled tiles of a folder, and what is left over; no file is opened that need not be.

    Raises:
        DatasetError: There is no folder, it cannot be read, it has no known layout, or no image that has a
            mask.
        JobError: There is no such task.
    """
    wanted = find_tile_task(task)
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}: choose the folder that holds the labelled tiles.")
    content = _find(folder, wanted)
    if content is None or not content.tiles:
        raise DatasetError(_why_none(folder, content))
    return content


def _find(folder: Path, task: TileTask) -> FolderContent | None:
    return _find_in_folders(folder, task) or _find_in_one(folder) or _find_beside(folder)


def _find_in_folders(folder: Path, task: TileTask) -> FolderContent | None:
    parts = {p.name.lower(): p for p in _entries(folder) if p.is_dir()}
    own = [(image_part, mask_part) for image_part, _ in _PAIRS for mask_part in task.mask_folders]
    for image_part, mask_part in (*own, *_PAIRS):
        if image_part not in parts or mask_part not in parts:
            if image_part in parts and _is_xbd(parts[image_part]):
                break
            continue
        images, twin_images = _by_stem(parts[image_part])
        masks, twin_masks = _by_stem(parts[mask_part])
        if _has_xbd_names(images):
            break
        # roofs that are taken for roads are counted; what hides a road says nothing of buildings
        buildings, hidden = (
            _of_first_part(parts, names, images) if task is ROADS else {}
            for names in (BUILDING_FOLDERS, (_OCCLUSION_FOLDER,))
        )
        name = f"{parts[image_part].name}/ + {parts[mask_part].name}/"
        return _pair(folder, name, images, masks, [*twin_images, *twin_masks], buildings, hidden)
    if "images" in parts and _is_xbd(parts["images"]):
        return _find_in_xbd(folder, task)
    return None


def _find_in_xbd(folder: Path, task: TileTask) -> FolderContent:
    """The images before the event, with the targets as masks of buildings: every code but 0 is one."""
    if task is not BUILDINGS:
        raise DatasetError(
            f"{folder} is laid out as xBD, pairs of images with the damage of each building: train for "
            f"damage on it, or choose a folder with {task.class_name} masks."
        )
    from .xbd import find_scenes, name_scenes  # which stands on this module

    scenes, alone = find_scenes(folder)
    tiles = []
    for name, scene in name_scenes(scenes).items():
        target = scene.targets[0] or scene.targets[1]
        if target is None:
            alone.append(scene.pre.name)
        else:
            tiles.append(LabelledTile(name, scene.pre, target))
    if not tiles:
        raise DatasetError(
            f"{folder} is laid out as xBD without targets/: buildings are learned from masks, so add the "
            "targets, or train for damage."
        )
    left = tuple(f"images/{name}" for name in alone)
    return FolderContent(
        folder, "xBD, images/*_pre_disaster + targets/", tuple(tiles), left, MaskCoding(over=0)
    )


def _find_beside(folder: Path) -> FolderContent | None:
    images, twin_images = _by_stem(folder)
    for end in _MASK_ENDS:
        beside = folder.resolve().with_name(folder.resolve().name + end)
        if images and beside.is_dir():
            masks, twin_masks = _by_stem(beside)
            name = f"{folder.resolve().name}/ + {beside.name}/"
            return _pair(folder, name, images, masks, [*twin_images, *twin_masks], {}, {})
    return None


def _pair(
    folder: Path,
    layout: str,
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    twins: Sequence[Path],
    buildings: Mapping[str, Path],
    hidden: Mapping[str, Path],
) -> FolderContent:
    mask_of = _match(images, masks)
    tiles = [
        LabelledTile(stem, path, mask_of[stem], buildings.get(stem), hidden.get(stem))
        for stem, path in images.items()
        if stem in mask_of
    ]
    matched = set(mask_of.values())
    left = [
        *(p for s, p in images.items() if s not in mask_of),
        *(p for p in masks.values() if p not in matched),
        *twins,
    ]
    return FolderContent(folder, layout, tuple(tiles), _relative(left, folder))


def _match(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, Path]:
    """The mask of each image that has one: of the same stem, or of the same but for an ending."""
    mask_of = {stem: masks[stem] for stem in images if stem in masks}
    if len(mask_of) == len(images):
        return mask_of
    free = {_without(stem, _MASK_ENDS): path for stem, path in masks.items() if stem not in mask_of}
    for stem in images:
        path = free.get(stem) or free.get(_without(stem, _IMAGE_ENDS))
        if stem not in mask_of and path is not None:
            mask_of[stem] = path
    return mask_of


def _of_first_part(
    parts: Mapping[str, Path], names: Sequence[str], images: Mapping[str, Path]
) -> dict[str, Path]:
    found = next((parts[n] for n in names if n in parts), None)
    return _match(images, images_by_stem(found)) if found is not None else {}


def _find_in_one(folder: Path) -> FolderContent | None:
    files = [p for p in _entries(folder) if _is_image(p)]
    masks = {_without(p.stem, _MASK_ENDS): p for p in files if _without(p.stem, _MASK_ENDS) != p.stem}
    if not masks:
        return _find_by_suffix(folder, files)
    ends = set()
    tiles = []
    taken: set[Path] = set()
    for path in files:
        key = _without(path.stem, _IMAGE_ENDS)
        if path in masks.values() or key not in masks or masks[key] in taken:
            continue
        tiles.append(LabelledTile(key, path, masks[key]))
        taken |= {path, masks[key]}
        ends.add((path.stem[len(key) :], masks[key].stem[len(key) :]))
    layout = ", ".join(f"*{a or '.*'} + *{b}" for a, b in sorted(ends))
    return FolderContent(
        folder, layout, tuple(tiles), _relative([p for p in files if p not in taken], folder)
    )


def _find_by_suffix(folder: Path, files: Sequence[Path]) -> FolderContent | None:
    """Pairs of one name and two types: the mask is the lossless one, or the one with fewer bands."""
    named: dict[str, list[Path]] = {}
    for path in files:
        named.setdefault(path.stem, []).append(path)
    pairs = [group for group in named.values() if len(group) == 2]
    if not pairs:
        return None
    mask_suffixes: dict[frozenset[str], str] = {}
    tiles = []
    for group in pairs:
        kinds = frozenset(p.suffix.lower() for p in group)
        if kinds not in mask_suffixes:
            mask_suffixes[kinds] = _choose_mask(group).suffix.lower()
        image, mask = sorted(group, key=lambda p: p.suffix.lower() == mask_suffixes[kinds])
        tiles.append(LabelledTile(image.stem, image, mask))
    left = [p for group in named.values() if len(group) != 2 for p in group]
    first = tiles[0]
    layout = f"*{first.image.suffix} + *{first.mask.suffix}"
    return FolderContent(folder, layout, tuple(tiles), _relative(left, folder))


def _choose_mask(pair: Sequence[Path]) -> Path:
    lossless = [p for p in pair if p.suffix.lower() not in _LOSSY]
    return lossless[0] if len(lossless) == 1 else min(pair, key=_count_bands)


def _count_bands(path: Path) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as dataset:
                return int(dataset.count)
    except GDAL_ERRORS as error:
        raise DatasetError(f"{path} cannot be read ({error}): replace or remove it.") from error


def _why_none(folder: Path, content: FolderContent | None) -> str:
    if content is not None and content.unmatched:
        few = ", ".join(content.unmatched[:3])
        return (
            f"No image in {folder} has a mask: {len(content.unmatched)} files stand alone ({few} …). Give "
            "each image and its mask the same name."
        )
    folders = [path for path in _entries(folder) if path.is_dir()]
    inside = next((path for path in folders[:_LOOKS_INSIDE] if _has_tiles(path)), None)
    if inside is not None:
        return f"{folder} holds no labelled tiles itself: choose the folder {inside.name} inside it."
    return (
        f"{folder} holds no labelled tiles: it needs images/ and masks/ with files of equal names "
        "(or <name>_sat and <name>_mask in one folder)."
    )


def _has_tiles(folder: Path) -> bool:
    try:
        content = _find(folder, ROADS)
    except DatasetError:
        return False
    return content is not None and bool(content.tiles)


def _is_xbd(images: Path) -> bool:
    return _has_xbd_names(images_by_stem(images))


def _has_xbd_names(stems: Mapping[str, Path]) -> bool:
    return any(stem.endswith(_XBD_ENDS) for stem in stems)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by stem.

    Raises:
        DatasetError: It cannot be read.
    """
    return _by_stem(folder)[0]


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """The images of a folder by stem, and those whose stem another one has already."""
    files: dict[str, Path] = {}
    twins = []
    for path in _entries(folder):
        if not _is_image(path):
            continue
        if path.stem in files:
            twins.append(path)
        else:
            files[path.stem] = path
    return files, twins


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DatasetError(
            f"The folder {folder} cannot be read ({(error.strerror or str(error)).lower()}): check that you "
            "may read it and that its drive is connected."
        ) from error


def _without(stem: str, ends: Sequence[str]) -> str:
    low = stem.lower()
    end = next((e for e in ends if low.endswith(e) and len(low) > len(e)), "")
    return stem[: len(stem) - len(end)]


def _relative(paths: Sequence[Path], folder: Path) -> tuple[str, ...]:
    return tuple(sorted(os.path.relpath(path, folder) for path in paths))
