"""From probabilities to building footprints, one polygon a building."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow
from scipy import ndimage

from ..errors import JobError, RasterError
from ..raster.gdal import bounded_gdal
from ..raster.georeference import UNREFERENCED
from ..raster.probability import (
    LEVELS,
    NODATA,
    decode_probabilities,
    encode_probabilities,
    read_tags,
    threshold_mask,
)
from .building_outlines import simplify_outlines, straighten_outlines
from .building_pieces import Pieces, SeamJoiner, outline_labels
from .building_split import CONTEXT_M, Labels, split_buildings
from .components import Bools, fill_islands
from .ground import Ground
from .layers import ORIGIN_FIELDS, LayerWriter, constant_columns
from .windows import BlockProgress, Window, plan_windows

LAYER = "buildings"
CLASS_NAME = "building"
# Names of ten letters at most: a Shapefile export keeps them.
FIELDS = {"class": "object", "area_m2": "f8", "mean_p": "f8", **ORIGIN_FIELDS}

LARGEST_HOLE_M2 = 10.0
"""Holes up to this size (light wells, what the network is unsure of) are roof; courtyards are larger."""

NARROWEST_M = 1.5
"""What is narrower (walls between yards, the edges of shadows) is no building; two pixels at least."""


@dataclass(frozen=True)
class Footprints:
    """Buildings of an array.

    Attributes:
        polygons: One a building, shape (n,), in pixels: x to the right, y down, (0, 0) the upper-left corner
            of the array's first pixel.
        mean_p: Mean probability of each one's pixels, shape (n,).
    """

    polygons: NDArray[np.object_]
    mean_p: NDArray[np.float64]


@dataclass(frozen=True)
class BuildingSummary:
    """What was written.

    Attributes:
        buildings: Number of buildings.
        area_m2: Area of all of them.
    """

    buildings: int
    area_m2: float


def outline_buildings(
    probability: NDArray[np.float32],
    threshold: float,
    *,
    gsd_m: float,
    min_area_m2: float = 10.0,
    regularize: bool = True,
) -> Footprints:
    """Find the buildings of an array of probabilities.

    Memory and time grow with the array: some 60 bytes and half a microsecond a pixel, 3 ms a building.

    Args:
        probability: float32 (height, width), 0 to 1; NaN where it is not known.
        threshold: Probability from which a pixel is building, 0 (excluded) to 1.
        gsd_m: Side of a pixel in metres.
        min_area_m2: Smaller buildings are left out.
        regularize: Straighten outlines (`straighten_outlines`), instead of simplifying them by a pixel.

    Raises:
        JobError: A parameter makes no sense.
    """
    _check(threshold, min_area_m2)
    values = encode_probabilities(probability, ~np.isnan(probability))
    found = outline_labels(_label(values, threshold, gsd_m), values, (0, 0)).pieces
    found = found.chosen(found.sizes_px * gsd_m**2 >= min_area_m2)
    height, width = probability.shape
    polygons = _finish_outlines(found.polygons, gsd_m, (width, height), regularize)
    return Footprints(polygons, found.totals / found.sizes_px / LEVELS)


def vectorize_buildings(
    probability: Path,
    *,
    threshold: float,
    min_area_m2: float,
    regularize: bool,
    buildings: Path,
    attributes: Mapping[str, str],
    band: int = 1,
) -> Generator[BlockProgress, None, BuildingSummary]:
    """Write the buildings of a probability raster as polygons.

    Windows are read with `CONTEXT_M` around them, so that both sides of a seam part buildings alike, and
    the pieces of a building are joined across seams, however large it is; memory does not grow with the
    raster. The same raster and parameters give the same features in the same order.

    Args:
        probability: Raster of encoded probabilities with Aftermap's tags.
        threshold: Probability from which a pixel is building, 0 (excluded) to 1.
        min_area_m2: Smaller buildings are left out.
        regularize: As in `outline_buildings`.
        buildings: GeoPackage for the layer ``buildings``, replaced if there.
        attributes: ``model``, ``source`` and ``date``, for each feature.
        band: Which band of the raster.

    Yields:
        Progress after each window, and before each row of windows is finished.

    Raises:
        JobError: A parameter makes no sense.
        RasterError: The raster cannot be read, or is none of Aftermap's.
        OutputError: The GeoPackage cannot be written.
    """
    _check(threshold, min_area_m2)
    gsd_m = read_tags(probability).gsd_m
    try:
        with rasterio.open(probability) as dataset:
            layer = _BuildingLayer(buildings, dataset, gsd_m, min_area_m2, regularize, attributes)
            size = Window(0, 0, dataset.height, dataset.width)
            windows = plan_windows(dataset.height, dataset.width, 0)[0]
            joiner = SeamJoiner()
            for done, window in enumerate(windows):
                yield BlockProgress(done, len(windows))
                values, rows, cols = _read_view(dataset, band, window, gsd_m)
                labels = _label(values, threshold, gsd_m)
                found = outline_labels(labels[rows, cols], values[rows, cols], (window.row, window.col))
                layer.write(joiner.add(window, found, _agreement(labels, rows, cols, window, size)))
                if window.col + window.width == size.width:
                    layer.write(joiner.end_row())
            layer.close()
    except RasterioError as error:
        raise RasterError(f"{probability} cannot be read ({error}): detect the buildings again.") from error
    return BuildingSummary(layer.count, layer.area_m2)


class _BuildingLayer:
    """Finishes buildings and writes them."""

    def __init__(
        self,
        path: Path,
        dataset: DatasetReader,
        gsd_m: float,
        min_area_m2: float,
        regularize: bool,
        origin: Mapping[str, str],
    ) -> None:
        transform = UNREFERENCED if dataset.transform.is_identity else dataset.transform
        self._ground = Ground(transform, dataset.crs, gsd_m)
        self._size_px = (dataset.width, dataset.height)
        self._gsd_m, self._min_area_m2, self._regularize = gsd_m, min_area_m2, regularize
        self._origin = origin
        self._writer = LayerWriter(path, LAYER, "Polygon", dataset.crs, FIELDS)
        self.area_m2 = 0.0

    @property
    def count(self) -> int:
        """Buildings written by `close`."""
        return self._writer.count

    def write(self, found: Pieces) -> None:
        """Write complete buildings, less the small ones."""
        points = shapely.get_coordinates(shapely.point_on_surface(found.polygons))
        m2_a_pixel = self._ground.square_metres_per_pixel(points)
        is_large = found.sizes_px * m2_a_pixel >= self._min_area_m2
        found, m2_a_pixel = found.chosen(is_large), m2_a_pixel[is_large]
        if len(found) == 0:
            return
        polygons = _finish_outlines(found.polygons, self._gsd_m, self._size_px, self._regularize)
        area_m2 = shapely.area(polygons) * m2_a_pixel
        self._writer.append(
            shapely.transform(polygons, self._ground.coordinates),
            {
                "area_m2": area_m2,
                "mean_p": found.totals / found.sizes_px / LEVELS,
                **constant_columns(len(found), CLASS_NAME, self._origin),
            },
        )
        self.area_m2 += float(area_m2.sum())

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()


def _finish_outlines(
    polygons: NDArray[np.object_], gsd_m: float, size_px: tuple[int, int], regularize: bool
) -> NDArray[np.object_]:
    if regularize:
        return straighten_outlines(polygons, gsd_m, size_px)
    return simplify_outlines(polygons, size_px)


def _label(values: NDArray[np.uint8], threshold: float, gsd_m: float) -> Labels:
    """Number the buildings of encoded probabilities, int32 (height, width)."""
    mask = threshold_mask(values, threshold)
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    mask = fill_islands(mask, LARGEST_HOLE_M2 / gsd_m**2) & (values != NODATA)
    mask = _without_whiskers(mask, max(2, round(NARROWEST_M / gsd_m)))
    return split_buildings(mask, decode_probabilities(values)[0], gsd_m)


def _without_whiskers(mask: Bools, width_px: int) -> Bools:
    """Take away what is narrower than `width_px`; once smoothed, its outline would cross itself."""
    eroded = ndimage.minimum_filter(mask, width_px)  # beyond the border it goes on as it is there
    opened: Bools = ndimage.maximum_filter(eroded, width_px, origin=width_px % 2 - 1)
    return opened


def _read_view(
    dataset: DatasetReader, band: int, window: Window, gsd_m: float
) -> tuple[NDArray[np.uint8], slice, slice]:
    """A window with its surroundings as far as the raster goes: values, and where the window lies in them."""
    context = math.ceil(CONTEXT_M / gsd_m)
    top, left = max(window.row - context, 0), max(window.col - context, 0)
    bottom = min(window.row + window.height + context, dataset.height)
    right = min(window.col + window.width + context, dataset.width)
    with bounded_gdal():
        values = dataset.read(band, window=RasterWindow.from_slices((top, bottom), (left, right)))
    rows = slice(window.row - top, window.row - top + window.height)
    cols = slice(window.col - left, window.col - left + window.width)
    return values, rows, cols


def _agreement(labels: Labels, rows: slice, cols: slice, window: Window, size: Window) -> dict[str, Bools]:
    """For each side of the window with another one beyond: which of its pixels go on as the same building."""
    neighbours = {}
    if window.row > 0:
        neighbours["top"] = (labels[rows.start, cols], labels[rows.start - 1, cols])
    if window.col > 0:
        neighbours["left"] = (labels[rows, cols.start], labels[rows, cols.start - 1])
    if window.row + window.height < size.height:
        neighbours["bottom"] = (labels[rows.stop - 1, cols], labels[rows.stop, cols])
    if window.col + window.width < size.width:
        neighbours["right"] = (labels[rows, cols.stop - 1], labels[rows, cols.stop])
    return {side: (inside == outside) & (inside > 0) for side, (inside, outside) in neighbours.items()}


def _check(threshold: float, min_area_m2: float) -> None:
    if not 0.0 < threshold <= 1.0:
        raise JobError(f"A threshold of {threshold:g} makes no sense: give one from 0 (excluded) to 1.")
    if not 0.0 <= min_area_m2 < math.inf:
        raise JobError(f"A least area of {min_area_m2:g} makes no sense: give 0 or more.")
