"""Labelled tiles in memory, and lists of them in files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..raster.grid import source_grid
from ..raster.source import RasterSource, open_source
from .layouts import LabelledTile, find_tiles
from .masks import IGNORE, MaskCoding, label_pixels, read_codes, read_mask, read_pixels, unlisted_folders

__all__ = [
    "IGNORE",
    "LabelledTile",
    "TileArrays",
    "find_tiles",
    "open_labelled",
    "read_codes",
    "read_mask",
    "read_splits",
    "read_tile",
    "select_tiles",
]


@dataclass(frozen=True)
class TileArrays:
    """A labelled tile in memory, at its own resolution.

    Attributes:
        image: uint8 (bands, h, w); invalid pixels are 0.
        labels: uint8 (2, h, w): the class, and buildings where they are not the class; 0 or 1, `IGNORE` where
            invalid or unlabelled.
        gsd_m: Its ground resolution in metres, after the file or as it was given.
    """

    stem: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    gsd_m: float


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
            task's name. A name may have the folders above before it, as in ``xbd/santa_rosa``.
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
    under_task = body.get(task, body) if isinstance(body, dict) else {}
    known = under_task if isinstance(under_task, dict) else {}
    names = [name for name in known if f"/{folder.resolve().as_posix()}".endswith(f"/{name}")]
    lists = known[max(names, key=len)] if names else None
    if not isinstance(lists, dict) or not all(isinstance(stems, list) for stems in lists.values()):
        raise DatasetError(
            f"{path} does not name the folder {folder.resolve().name!r}: add its train and validation lists."
        )
    return {part: [str(s) for s in stems] for part, stems in lists.items()}


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
        grid = source_grid(source)
        image, valid = source.read(grid, 0, 0, grid.height, grid.width)
    shape = valid.shape
    labels = np.full((2, *shape), IGNORE, dtype=np.uint8)
    for channel, path in enumerate((tile.mask, tile.building_mask)):
        if path is None:
            continue
        pixels = read_pixels(path)
        check_size(path, pixels.size, shape)
        # only the mask of the class has a coding of its own
        labels[channel] = label_pixels(pixels, (tile.coding if channel == 0 else None) or MaskCoding())
    labels[:, ~valid] = IGNORE
    return TileArrays(tile.stem, (image * 255 + 0.5).astype(np.uint8), labels, grid.gsd_m)


def check_size(mask: Path, mask_shape: tuple[int, ...], image_shape: tuple[int, ...]) -> None:
    """Find out whether a mask has its image's size, both as (height, width).

    Raises:
        DatasetError: It has another.
    """
    if tuple(mask_shape) != tuple(image_shape):
        raise DatasetError(
            f"The mask {mask} has {mask_shape[1]} x {mask_shape[0]} pixels and its image "
            f"{image_shape[1]} x {image_shape[0]}: make them equal, or remove the pair."
        )


def open_labelled(tile: LabelledTile, gsd_m: float, bands: int = 3) -> RasterSource:
    """Open the image of a tile; `gsd_m` stands in where the file states no ground resolution."""
    with unlisted_folders():
        return open_source(str(tile.image), band_count=bands, gsd_m=gsd_m)
