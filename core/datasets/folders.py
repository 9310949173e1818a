"""Reading folders of labelled tiles: images with road masks, and building masks where there are some.

Known layouts, tried in this order (`stem` is equal for image and mask):

=========================================================  =========================================
``images/`` + ``masks/``                                     Dubai (MBRSC) and most home-made sets
``sat/`` + ``map/``                                          Massachusetts Roads (Mnih 2013)
``images/`` + ``groundtruth/``, ``images/`` + ``labels/``    others
``<stem>_sat.*`` + ``<stem>_mask.*`` in one folder           DeepGlobe Roads (Demir et al. 2018)
=========================================================  =========================================

Beside them may stand ``building_masks/`` and, in generated sets, ``occlusion_masks/`` (what hides a road:
1 a car, 2 a tree, 3 a shadow).

Masks are coded 0/1 or 0/255, in one band or several (a pixel counts where any colour band is over half).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from ..errors import DatasetError
from ..raster.grid import plan_grid
from ..raster.source import RasterSource, open_source

IMAGE_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".webp", ".vrt"}
_LAYOUTS = (
    ("images", "masks"),
    ("sat", "map"),
    ("images", "groundtruth"),
    ("images", "labels"),
    ("image", "mask"),
)
_BUILDING_FOLDERS = ("building_masks", "buildings")
_OCCLUSION_FOLDER = "occlusion_masks"
_SUFFIX_PAIR = ("_sat", "_mask")

IGNORE = 255
"""Label of pixels that count neither in the loss nor in a score."""


@dataclass(frozen=True)
class LabelledTile:
    """An image with its masks, as files."""

    stem: str
    image: Path
    mask: Path
    building_mask: Path | None = None
    occlusion_mask: Path | None = None


@dataclass(frozen=True)
class TileArrays:
    """A labelled tile in memory, at its own resolution.

    Attributes:
        image: uint8 (bands, h, w); invalid pixels are 0.
        labels: uint8 (2, h, w): road and building, 0 or 1, `IGNORE` where invalid or unlabelled.
        gsd_m: Its ground resolution in metres, after the file or as it was given.
    """

    stem: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    gsd_m: float


def find_tiles(folder: Path) -> list[LabelledTile]:
    """The labelled tiles of a folder, by stem.

    Raises:
        DatasetError: There is no folder, no known layout, or no image that has a mask.
    """
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}: choose the folder that holds the labelled tiles.")
    tiles = _find_in_folders(folder) or _find_by_suffix(folder)
    if not tiles:
        raise DatasetError(
            f"{folder} holds no labelled tiles: it needs images/ and masks/ with files of equal names "
            "(or <name>_sat and <name>_mask in one folder)."
        )
    return tiles


def _find_in_folders(folder: Path) -> list[LabelledTile]:
    for images, masks in _LAYOUTS:
        if (folder / images).is_dir() and (folder / masks).is_dir():
            mask_of = _by_stem(folder / masks)
            buildings = next((_by_stem(folder / b) for b in _BUILDING_FOLDERS if (folder / b).is_dir()), {})
            hidden = _by_stem(folder / _OCCLUSION_FOLDER) if (folder / _OCCLUSION_FOLDER).is_dir() else {}
            return [
                LabelledTile(stem, path, mask_of[stem], buildings.get(stem), hidden.get(stem))
                for stem, path in _by_stem(folder / images).items()
                if stem in mask_of
            ]
    return []


def _find_by_suffix(folder: Path) -> list[LabelledTile]:
    image_end, mask_end = _SUFFIX_PAIR
    files = _by_stem(folder)
    return [
        LabelledTile(stem.removesuffix(image_end), path, files[stem.removesuffix(image_end) + mask_end])
        for stem, path in files.items()
        if stem.endswith(image_end) and stem.removesuffix(image_end) + mask_end in files
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}


def select_tiles(tiles: Iterable[LabelledTile], stems: Iterable[str], folder: Path) -> list[LabelledTile]:
    """The tiles with these stems, in their order.

    Raises:
        DatasetError: A stem has no tile.
    """
    known = {t.stem: t for t in tiles}
    wanted = list(stems)
    missing = [s for s in wanted if s not in known]
    if missing:
        raise DatasetError(
            f"{folder} has no labelled tile {missing[0]!r} ({len(missing)} missing): mend the list of tiles."
        )
    return [known[s] for s in wanted]


def read_splits(path: Path, folder: Path, task: str) -> dict[str, list[str]]:
    """The lists of stems that a splits file has for a folder.

    Args:
        path: JSON: ``{folder name: {"train": [stem …], "validation": [stem …]}}``, or the same under the
            task's name.
        folder: Its name is looked up.
        task: ``roads`` ….

    Raises:
        DatasetError: It cannot be read, or does not name the folder.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"The list of tiles {path} cannot be read ({error}): choose a JSON file."
        ) from error
    lists = body.get(task, body).get(folder.name)
    if not isinstance(lists, dict):
        raise DatasetError(
            f"{path} does not name the folder {folder.name!r}: add its train and validation lists."
        )
    return {part: [str(s) for s in stems] for part, stems in lists.items()}


def read_codes(path: Path) -> NDArray[np.uint8]:
    """The codes of a mask, uint8 (h, w): the highest of its colour bands.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        with rasterio.open(path) as source:
            colour = [i for i, c in enumerate(source.colorinterp, 1) if c != ColorInterp.alpha]
            codes: NDArray[np.uint8] = source.read(colour).max(axis=0).astype(np.uint8)
    except (RasterioError, OSError) as error:
        raise DatasetError(f"The mask {path} cannot be read ({error}): replace or remove it.") from error
    return codes


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask as bool (h, w), whether it is coded 0/1 or 0/255.

    Raises:
        DatasetError: It cannot be read.
    """
    codes = read_codes(path)
    over_half: NDArray[np.bool_] = codes > (0 if codes.max(initial=0) <= 1 else 127)
    return over_half


def read_tile(tile: LabelledTile, gsd_m: float, bands: int = 3) -> TileArrays:
    """A labelled tile in memory.

    Args:
        tile: Which.
        gsd_m: Its ground resolution where the file states none.
        bands: Number of bands of the model.

    Raises:
        RasterError: The image cannot be read.
        DatasetError: The mask cannot be read, or is of another size than the image.
    """
    with open_labelled(tile, gsd_m, bands) as source:
        native = float(np.sqrt(source.gsd_m[0] * source.gsd_m[1]))
        grid = plan_grid(source, native)
        image, valid = source.read(grid, 0, 0, source.height, source.width)
        shape = (source.height, source.width)
    labels = np.full((2, *shape), IGNORE, dtype=np.uint8)
    for channel, path in enumerate((tile.mask, tile.building_mask)):
        if path is None:
            continue
        mask = read_mask(path)
        if mask.shape != shape:
            raise DatasetError(
                f"The mask {path} has {mask.shape[1]} x {mask.shape[0]} pixels and its image "
                f"{shape[1]} x {shape[0]}: make them equal, or remove the pair."
            )
        labels[channel] = mask
    labels[:, ~valid] = IGNORE
    return TileArrays(tile.stem, (image * 255 + 0.5).astype(np.uint8), labels, native)


def open_labelled(tile: LabelledTile, gsd_m: float, bands: int = 3) -> RasterSource:
    """Open the image of a tile; `gsd_m` stands in where the file states no ground resolution."""
    return open_source(str(tile.image), band_count=bands, gsd_m=gsd_m)
