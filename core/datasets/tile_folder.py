"""A new folder of labelled tiles: ``images/`` and ``masks/``, written whole or not at all.

Masks are PNG or GeoTIFF, coded 0, 1 the class, 255 unlabelled; 255 is also stated as their nodata value,
so that a mask without any 1 is understood. Building masks, where there are some, are coded alike. The
georeference of a tile is in the file (GeoTIFF), or in a world file and an ``.aux.xml`` beside it, which GDAL
and QGIS read.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from ..errors import JobError, OutputError
from ..raster.gdal import GDAL_ERRORS, bounded_gdal
from .layouts import IMAGE_SUFFIXES
from .masks import IGNORE

IMAGE_FORMATS = {"tif": "GTiff", "jpg": "JPEG", "png": "PNG"}
"""Suffix of the images to GDAL's name of the format."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "GTiff": {"COMPRESS": "DEFLATE", "PREDICTOR": 2, "TILED": True, "BLOCKXSIZE": 256, "BLOCKYSIZE": 256},
    "JPEG": {"QUALITY": 92},
    "PNG": {"ZLEVEL": 6},
}
_SIDE_FILES = (".aux.xml", ".wld", ".jgw", ".jpgw", ".pgw", ".pngw", ".tfw", ".prj")
_PNG_TYPES = ("uint8", "uint16")


@dataclass(frozen=True)
class Place:
    """Where a tile lies: from (column, row) to the coordinates of a CRS."""

    transform: Affine
    crs: CRS | None


class NewTileFolder:
    """A folder that is being filled; a context manager that leaves nothing behind unless `finish` was called.

    Tiles are gathered in a hidden folder beside it, on the same disk, and moved at the end.
    """

    def __init__(self, folder: Path, image_format: str) -> None:
        """Find out whether the folder can be made.

        Raises:
            JobError: There is no such format, or the folder holds tiles already.
            OutputError: The folder cannot be written.
        """
        if image_format not in IMAGE_FORMATS:
            raise JobError(f"There is no image format {image_format!r}: choose {', '.join(IMAGE_FORMATS)}.")
        self.folder, self.image_format = folder.absolute(), image_format
        self._staging = self.folder.with_name(f".{self.folder.name}.part")
        try:
            if self.folder.exists() and (not self.folder.is_dir() or _holds_tiles(self.folder)):
                raise JobError(
                    f"{folder} holds tiles (or is a file) already: choose a new or an empty folder, so that "
                    "nothing is mixed up."
                )
            shutil.rmtree(self._staging, ignore_errors=True)  # of a run that was killed
            self._staging.mkdir(parents=True)
        except OSError as error:
            raise self._failure(error) from error

    def add(
        self,
        stem: str,
        image: NDArray[np.uint8],
        valid: NDArray[np.bool_],
        labels: NDArray[np.uint8],
        place: Place | None,
    ) -> None:
        """Write a tile.

        Args:
            stem: Its name.
            image: uint8 (1 or 3, h, w).
            valid: bool (h, w); JPEG cannot say it, where only the labels do.
            labels: uint8 (h, w): 0, 1, `IGNORE`.
            place: Where it lies; none: nowhere.

        Raises:
            OutputError: It cannot be written.
        """
        self._write_image(stem, image, valid, place)
        self._write_mask("masks", stem, labels, place)

    def add_copy(
        self,
        stem: str,
        source: Path,
        image: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        place: Place | None,
    ) -> None:
        """Write a tile that is a file already, as it is if it has the format, without loss if the format can.

        Args:
            stem: Its name.
            source: The image.
            image: The same as uint8 (1 or 3, h, w); invalid pixels are 0.
            labels: uint8 (2, h, w): road and building; 0, 1, `IGNORE`. Buildings are written where any pixel
                is labelled.
            place: Where it lies; none: nowhere.

        Raises:
            OutputError: It cannot be written.
        """
        target = self._path("images", stem, self.image_format)
        driver = IMAGE_FORMATS[self.image_format]
        try:
            with warnings.catch_warnings(), bounded_gdal():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(source) as dataset:
                    is_same = dataset.driver == driver and driver != "GTiff"
                    is_lossless = driver == "GTiff" or (
                        driver == "PNG" and dataset.dtypes[0] in _PNG_TYPES and dataset.count <= 4
                    )
                    is_float = np.dtype(dataset.dtypes[0]).kind == "f"
                if is_same:
                    _copy_with_side_files(source, target)
                elif is_lossless:
                    options = _OPTIONS[driver] | ({"PREDICTOR": 3} if is_float and driver == "GTiff" else {})
                    rasterio.shutil.copy(source, target, driver=driver, **options)
                else:
                    self._write_image(stem, image, np.ones(image.shape[1:], bool), place)
        except GDAL_ERRORS as error:
            raise self._failure(error) from error
        self._write_mask("masks", stem, labels[0], place)
        if (labels[1] != IGNORE).any():
            self._write_mask("building_masks", stem, labels[1], place)

    def add_file(self, part: str, stem: str, source: Path) -> None:
        """Copy a further mask into a folder of its own.

        Raises:
            OutputError: It cannot be written.
        """
        try:
            _copy_with_side_files(source, self._path(part, stem, source.suffix[1:]))
        except OSError as error:
            raise self._failure(error) from error

    def finish(self) -> int:
        """Put the tiles in their place.

        Returns:
            Bytes of all files.

        Raises:
            OutputError: They cannot be moved; then none is.
        """
        parts = sorted(self._staging.iterdir())
        size = sum(p.stat().st_size for p in self._staging.rglob("*") if p.is_file())
        moved: list[Path] = []
        try:
            self.folder.mkdir(exist_ok=True)
            for part in parts:
                target = self.folder / part.name
                if target.exists():
                    target.rmdir()  # it is empty, or there would be tiles
                part.rename(target)
                moved.append(target)
        except OSError as error:
            for target in moved:
                target.rename(self._staging / target.name)
            raise self._failure(error) from error
        return size

    def __enter__(self) -> NewTileFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)

    def _write_image(
        self, stem: str, image: NDArray[np.uint8], valid: NDArray[np.bool_], place: Place | None
    ) -> None:
        path = self._path("images", stem, self.image_format)
        has_gaps = not valid.all()
        if has_gaps and self.image_format == "png":
            image = np.concatenate([image, valid[None].astype(np.uint8) * 255])
        self._write(path, image, place, valid if has_gaps and self.image_format == "tif" else None)

    def _write_mask(self, part: str, stem: str, labels: NDArray[np.uint8], place: Place | None) -> None:
        suffix = "tif" if self.image_format == "tif" else "png"
        self._write(self._path(part, stem, suffix), labels[None], place, None, nodata=IGNORE)

    def _write(
        self,
        path: Path,
        bands: NDArray[np.uint8],
        place: Place | None,
        valid: NDArray[np.bool_] | None,
        nodata: int | None = None,
    ) -> None:
        driver = IMAGE_FORMATS[path.suffix[1:]]
        options = dict(_OPTIONS[driver])
        if place is not None:
            options |= {"transform": place.transform, "crs": place.crs}
            if driver != "GTiff":
                options["WORLDFILE"] = True
        if driver == "GTiff" and min(bands.shape[1:]) < 256:
            options = {k: v for k, v in options.items() if "BLOCK" not in k and k != "TILED"}
        try:
            with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(
                    path,
                    "w",
                    driver=driver,
                    width=bands.shape[2],
                    height=bands.shape[1],
                    count=len(bands),
                    dtype="uint8",
                    nodata=nodata,
                    **options,
                ) as dataset:
                    dataset.write(bands)
                    if valid is not None:
                        dataset.write_mask(valid)
        except GDAL_ERRORS as error:
            raise self._failure(error) from error

    def _path(self, part: str, stem: str, suffix: str) -> Path:
        (self._staging / part).mkdir(exist_ok=True)
        return self._staging / part / f"{stem}.{suffix}"

    def _failure(self, error: Exception) -> OutputError:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        return OutputError(
            f"The tiles cannot be written to {self.folder} ({reason}): make room, or choose another folder."
        )


def _holds_tiles(folder: Path) -> bool:
    """Whether an image lies in a folder, or in a folder of it."""
    return any(
        p.suffix.lower() in IMAGE_SUFFIXES
        for inner in (folder, *(p for p in folder.iterdir() if p.is_dir()))
        for p in inner.iterdir()
    )


def _copy_with_side_files(source: Path, target: Path) -> None:
    """Copy an image, and what lies beside it of its georeference."""
    shutil.copyfile(source, target)
    for ending in _SIDE_FILES:
        beside = (
            source.with_name(source.name + ending) if ending == ".aux.xml" else source.with_suffix(ending)
        )
        if beside.is_file():
            name = target.name + ending if ending == ".aux.xml" else target.with_suffix(ending).name
            shutil.copyfile(beside, target.with_name(name))
