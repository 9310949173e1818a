"""Probability rasters: one encoding, stated in the file's tags; written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from ..errors import OutputError, RasterError
from .gdal import GDAL_ERRORS, bounded_gdal
from .grid import Grid

NODATA = 255
LEVELS = 254
"""The code of probability 1; a step is 1/254."""

ENCODING = "uint8 = round(p * 254), 255 = nodata"

TAG_ENCODING = "AFTERMAP_ENCODING"
TAG_TASK = "AFTERMAP_TASK"
TAG_CLASS = "AFTERMAP_CLASS"
TAG_GSD_M = "AFTERMAP_GSD_M"
TAG_THRESHOLD = "AFTERMAP_THRESHOLD"
TAG_THRESHOLD_LOW = "AFTERMAP_THRESHOLD_LOW"
TAG_MODEL = "AFTERMAP_MODEL"
TAG_MODEL_SHA256 = "AFTERMAP_MODEL_SHA256"
TAG_SOURCE = "AFTERMAP_SOURCE"
TAG_DATE = "AFTERMAP_DATE"
TAG_MANIFEST = "AFTERMAP_MANIFEST"


def encode_probabilities(p: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Encode as round(p × 254), and 255 where not `valid`.

    Args:
        p: 0 to 1 where valid, of any shape.
        valid: bool, of the same shape.
    """
    codes = np.rint(np.clip(np.where(valid, p, 0.0), 0.0, 1.0) * np.float32(LEVELS)).astype(np.uint8)
    codes[~valid] = NODATA
    return codes


def decode_probabilities(a: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Decode to float32 in 0 to 1 (0 where not valid) and bool valid, both of the shape of `a`."""
    valid = a != NODATA
    return np.where(valid, a, 0).astype(np.float32) / np.float32(LEVELS), valid


def threshold_mask(values: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    """Where there is a probability of at least `threshold`: bool, an array of its own.

    Args:
        values: Encoded probabilities, of any shape.
        threshold: 0 to 1; it is met by the codes of which at least half stands for probabilities from it on.
    """
    mask: NDArray[np.bool_] = values >= math.ceil(threshold * LEVELS - 1e-6)
    mask &= values != NODATA
    return mask


@dataclass(frozen=True)
class ProbabilityTags:
    """What a probability raster says about itself.

    Attributes:
        task: ``roads``.
        class_name: Class whose probability it is (``road``).
        gsd_m: Side of a pixel in true metres.
        threshold: Probability from which a pixel counts.
        threshold_low: Hysteresis: pixels from here on count where they hang on one over `threshold`.
        model: Name of the model.
        model_sha256: Of its weights.
        source: The raster that was seen.
        date: When, ISO 8601.
        manifest: Of the run.
    """

    task: str
    class_name: str
    gsd_m: float
    threshold: float
    threshold_low: float | None = None
    model: str = ""
    model_sha256: str = ""
    source: str = ""
    date: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def to_tags(self) -> dict[str, str]:
        """The tags as a file holds them."""
        tags = {
            TAG_ENCODING: ENCODING,
            TAG_TASK: self.task,
            TAG_CLASS: self.class_name,
            TAG_GSD_M: repr(float(self.gsd_m)),
            TAG_THRESHOLD: repr(float(self.threshold)),
            TAG_MODEL: self.model,
            TAG_MODEL_SHA256: self.model_sha256,
            TAG_SOURCE: self.source,
            TAG_DATE: self.date,
            TAG_MANIFEST: json.dumps(self.manifest, ensure_ascii=False, sort_keys=True),
        }
        if self.threshold_low is not None:
            tags[TAG_THRESHOLD_LOW] = repr(float(self.threshold_low))
        return tags


def read_tags(path: Path) -> ProbabilityTags:
    """Read what a probability raster says about itself.

    Raises:
        RasterError: It is no raster, or not one of Aftermap's probabilities.
    """
    try:
        with rasterio.open(path) as dataset:
            tags = dataset.tags()
    except GDAL_ERRORS as error:
        raise RasterError(f"{path} is no raster that can be opened: choose a probability raster.") from error
    if tags.get(TAG_ENCODING) != ENCODING:
        raise RasterError(
            f"{path} is no probability raster of Aftermap: choose one that Segment Roads wrote."
        )
    try:
        low = tags.get(TAG_THRESHOLD_LOW)
        return ProbabilityTags(
            task=tags[TAG_TASK],
            class_name=tags[TAG_CLASS],
            gsd_m=float(tags[TAG_GSD_M]),
            threshold=float(tags[TAG_THRESHOLD]),
            threshold_low=None if low is None else float(low),
            model=tags.get(TAG_MODEL, ""),
            model_sha256=tags.get(TAG_MODEL_SHA256, ""),
            source=tags.get(TAG_SOURCE, ""),
            date=tags.get(TAG_DATE, ""),
            manifest=json.loads(tags.get(TAG_MANIFEST) or "{}"),
        )
    except (KeyError, ValueError) as error:
        raise RasterError(f"The tags of {path} are damaged ({error}): segment the scene again.") from error


def write_vrt(
    rows: Path, grid: Grid, tags: ProbabilityTags | None = None, bands: Sequence[str] = ("",)
) -> Path:
    """Describe a raw file of encoded probabilities to GDAL, by a ``.vrt`` of its name beside it.

    Args:
        rows: ``grid.height`` rows of ``grid.width`` bytes for each band, line after line interleaved.
        grid: Where they lie.
        tags: What they are; none while they are being made.
        bands: Name of each band.

    Returns:
        The path of the VRT, which any GDAL opens while both files stay together.

    Raises:
        OutputError: It cannot be written.
    """
    described = rows.with_suffix(".vrt")
    srs = f"  <SRS>{escape(grid.crs.to_wkt())}</SRS>\n" if grid.crs is not None else ""
    metadata = "".join(
        f'    <MDI key="{key}">{escape(value)}</MDI>\n'
        for key, value in (tags.to_tags() if tags else {}).items()
    )
    transform = ", ".join(repr(float(v)) for v in grid.transform.to_gdal())
    text = (
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">\n{srs}'
        f"  <GeoTransform>{transform}</GeoTransform>\n"
        f"  <Metadata>\n{metadata}  </Metadata>\n"
    )
    for i, name in enumerate(bands):
        text += (
            f'  <VRTRasterBand dataType="Byte" band="{i + 1}" subClass="VRTRawRasterBand">\n'
            + (f"    <Description>{escape(name)}</Description>\n" if name else "")
            + f"    <NoDataValue>{NODATA}</NoDataValue>\n"
            "    <ColorInterp>Gray</ColorInterp>\n"
            f'    <SourceFilename relativeToVRT="1">{escape(rows.name)}</SourceFilename>\n'
            f"    <ImageOffset>{i * grid.width}</ImageOffset>\n    <PixelOffset>1</PixelOffset>\n"
            f"    <LineOffset>{len(bands) * grid.width}</LineOffset>\n"
            "  </VRTRasterBand>\n"
        )
    text += "</VRTDataset>\n"
    try:
        described.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(unwritable(described, str(error))) from error
    return described


_COG_OPTIONS = {
    "COMPRESS": "DEFLATE",  # which every GDAL reads
    "LEVEL": 3,  # 4 % larger than 6 in half the time
    "BLOCKSIZE": 512,
    "NUM_THREADS": "ALL_CPUS",
    "OVERVIEWS": "IGNORE_EXISTING",
    "OVERVIEW_RESAMPLING": "AVERAGE",
    "BIGTIFF": "IF_SAFER",
}


def write_cog(
    rows: Path, grid: Grid, destination: Path, tags: ProbabilityTags, bands: Sequence[str] = ("",)
) -> None:
    """Copy a raw file of encoded probabilities to a Cloud-Optimised GeoTIFF with overviews.

    One blocking call, which a cancel can only end by killing the process: `destination` therefore has
    to lie with the unfinished work, and to be moved to its place by the caller. Scratch space: the
    result, and its overviews once more.

    Args:
        rows: As `write_vrt` takes them.
        grid: Where they lie.
        destination: A ``.tif``; overwritten.
        tags: What they are.
        bands: Name of each band.

    Raises:
        OutputError: It cannot be written (folder missing or read-only, disk full).
    """
    described = write_vrt(rows, grid, tags, bands)
    try:
        destination.unlink(missing_ok=True)
        with bounded_gdal():
            rasterio.shutil.copy(described, destination, driver="COG", **_COG_OPTIONS)
        _check_whole(destination, grid)
        _flush(destination)
    except GDAL_ERRORS as error:
        destination.unlink(missing_ok=True)
        raise OutputError(unwritable(destination, str(error))) from error


def _check_whole(path: Path, grid: Grid) -> None:
    """Read the last pixels of the file and of its overviews: GDAL is silent about some failed writes.

    Raises:
        RasterioError: They cannot be read.
    """
    with rasterio.open(path) as dataset:
        if (dataset.width, dataset.height) != (grid.width, grid.height):
            raise RasterioError("its size is wrong")
        _read_corner(dataset)
        overviews = len(dataset.overviews(1))
    for level in range(overviews):
        with rasterio.open(path, overview_level=level) as dataset:
            _read_corner(dataset)


def _read_corner(dataset: rasterio.DatasetReader) -> None:
    dataset.read(1, window=((dataset.height - 1, dataset.height), (dataset.width - 1, dataset.width)))


def _flush(path: Path) -> None:
    """Have the file on the disk, not in the system's memory only; a full disk shows here at last."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def unwritable(path: Path, reason: str) -> str:
    """The sentence for a file that cannot be written: which, why, and what to do next."""
    folder = path.parent
    if not folder.is_dir():
        return f"{path} cannot be written: there is no folder {folder}, make it or choose another."
    free_mb = shutil.disk_usage(folder).free / 1e6
    return (
        f"{path} cannot be written ({reason.strip().rstrip('.')}; {free_mb:.0f} MB are free there): make "
        "room, or choose another folder."
    )
