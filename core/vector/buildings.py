"""From probabilities to building footprints, one polygon a building."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
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
from ..raster.grid import Grid
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
from .windows import BlockProgress, Window, plan_strips, plan_windows

ReadBand = Callable[[Window], NDArray[np.uint8]]
"""From a window within the grid to its encoded probabilities, uint8 (height, width)."""

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
class TracedBuildings:
    """Buildings that are complete.

    Attributes:
        polygons: One a building, in coordinates of the CRS, shape (n,).
        area_m2: float64 (n,).
        mean_p: float64 (n,), mean probability of their pixels.
    """

    polygons: NDArray[np.object_]
    area_m2: NDArray[np.float64]
    mean_p: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.polygons)


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

    The same raster and parameters give the same features in the same order; memory does not grow with the
    raster (`BuildingTracer`).

    Args:
        probability: Raster of encoded probabilities with Aftermap's tags.
        threshold: Probability from which a pixel is building, 0 (excluded) to 1.
        min_area_m2: Smaller buildings are left out.
        regularize: As in `outline_buildings`.
        buildings: GeoPackage for the layer ``buildings``, replaced if there.
        attributes: ``model``, ``source`` and ``date``, for each feature.
        band: Which band of the raster.

    Yields:
        Progress before each window.

    Raises:
        JobError: A parameter makes no sense.
        RasterError: The raster cannot be read, or is none of Aftermap's.
        OutputError: The GeoPackage cannot be written.
    """
    _check(threshold, min_area_m2)
    gsd_m = read_tags(probability).gsd_m
    try:
        with rasterio.open(probability) as dataset:
            transform = UNREFERENCED if dataset.transform.is_identity else dataset.transform
            grid = Grid(dataset.width, dataset.height, transform, dataset.crs, gsd_m, (1.0, 1.0))
            tracer = BuildingTracer(grid, threshold=threshold, min_area_m2=min_area_m2, regularize=regularize)
            writer = LayerWriter(buildings, LAYER, "Polygon", dataset.crs, FIELDS)
            area_m2 = 0.0
            while not tracer.is_done:
                yield BlockProgress(tracer.done, tracer.total)
                found = tracer.trace_next(partial(_read_band, dataset, band))
                if len(found):
                    area_m2 += float(found.area_m2.sum())
                    measured = {"area_m2": found.area_m2, "mean_p": found.mean_p}
                    constant = constant_columns(len(found), CLASS_NAME, attributes)
                    writer.append(found.polygons, {**measured, **constant})
            writer.close()
    except RasterioError as error:
        raise RasterError(f"{probability} cannot be read ({error}): detect the buildings again.") from error
    return BuildingSummary(writer.count, area_m2)


class BuildingTracer:
    """Outlines the buildings of a grid window by window, row by row, as far as its pixels are known.

    Windows are read with `CONTEXT_M` around them, so that both sides of a seam part buildings alike, and
    the pieces of a building are joined across seams, however large it is; memory does not grow with the
    grid. The same pixels and parameters give the same buildings, whatever the windows, and in the same order
    if those are the same too.
    """

    def __init__(
        self, grid: Grid, *, threshold: float, min_area_m2: float, regularize: bool, window_rows: int = 0
    ) -> None:
        """Trace nothing yet.

        Args:
            grid: Of the pixels.
            threshold: Probability from which a pixel is building, 0 (excluded) to 1.
            min_area_m2: Smaller buildings are left out.
            regularize: As in `outline_buildings`.
            window_rows: Rows of a window; fewer are known sooner, and cost more, since each is read with the
                same surroundings. 0: as suits a raster that is known as a whole.

        Raises:
            JobError: A parameter makes no sense.
        """
        _check(threshold, min_area_m2)
        self._size = Window(0, 0, grid.height, grid.width)
        self._gsd_m, self._ground = grid.gsd_m, Ground(grid.transform, grid.crs, grid.gsd_m)
        self._threshold, self._min_area_m2, self._regularize = threshold, min_area_m2, regularize
        self._windows = (
            plan_strips(grid.height, grid.width, window_rows)
            if window_rows
            else plan_windows(grid.height, grid.width, 0)[0]
        )
        self._joiner = SeamJoiner()
        self.done = 0
        """Windows that are traced."""

    @property
    def total(self) -> int:
        """Windows in all."""
        return len(self._windows)

    @property
    def is_done(self) -> bool:
        """Whether all windows are traced."""
        return self.done == self.total

    @property
    def rows_needed(self) -> int:
        """Rows of the grid that have to be known for the next window to be traced."""
        view = _view_of(self._windows[self.done], self._size, self._gsd_m)
        return view.row + view.height

    @property
    def rows_done(self) -> int:
        """Rows of the grid in which every building that does not reach further down has been given out."""
        return self._size.height if self.is_done else self._windows[self.done].row

    def trace_next(self, read: ReadBand) -> TracedBuildings:
        """Trace the next window.

        Args:
            read: Reads encoded probabilities. Where it raises, the same window can be traced again.

        Returns:
            The buildings that are complete with it.
        """
        window = self._windows[self.done]
        view = _view_of(window, self._size, self._gsd_m)
        values = read(view)
        rows = slice(window.row - view.row, window.row - view.row + window.height)
        cols = slice(window.col - view.col, window.col - view.col + window.width)
        labels = _label(values, self._threshold, self._gsd_m)
        found = outline_labels(labels[rows, cols], values[rows, cols], (window.row, window.col))
        complete = self._joiner.add(window, found, _agreement(labels, rows, cols, window, self._size))
        if window.col + window.width == self._size.width:
            complete = complete.followed_by(self._joiner.end_row())
        self.done += 1
        return self._finish(complete)

    def _finish(self, found: Pieces) -> TracedBuildings:
        """Straighten and measure complete buildings, less the small ones."""
        points = shapely.get_coordinates(shapely.point_on_surface(found.polygons))
        m2_a_pixel = self._ground.square_metres_per_pixel(points)
        is_large = found.sizes_px * m2_a_pixel >= self._min_area_m2
        found, m2_a_pixel = found.chosen(is_large), m2_a_pixel[is_large]
        frame = (self._size.width, self._size.height)
        polygons = _finish_outlines(found.polygons, self._gsd_m, frame, self._regularize)
        return TracedBuildings(
            shapely.transform(polygons, self._ground.coordinates),
            shapely.area(polygons) * m2_a_pixel,
            found.totals / found.sizes_px / LEVELS,
        )


def _finish_outlines(
    polygons: NDArray[np.object_], gsd_m: float, size_px: tuple[int, int], regularize: bool
) -> NDArray[np.object_]:
    if len(polygons) == 0:
        return polygons
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


def _view_of(window: Window, size: Window, gsd_m: float) -> Window:
    """A window with its surroundings as far as the grid goes."""
    context = math.ceil(CONTEXT_M / gsd_m)
    top, left = max(window.row - context, 0), max(window.col - context, 0)
    bottom = min(window.row + window.height + context, size.height)
    right = min(window.col + window.width + context, size.width)
    return Window(top, left, bottom - top, right - left)


def _read_band(dataset: DatasetReader, band: int, window: Window) -> NDArray[np.uint8]:
    with bounded_gdal():
        values: NDArray[np.uint8] = dataset.read(
            band, window=RasterWindow(window.col, window.row, window.width, window.height)
        )
    return values


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
