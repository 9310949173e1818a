"""Which part of a grid a run covers: the extent and the area of interest, in grid pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from ..errors import JobError, VectorError
from .grid import Grid

_EDGE_PARTS = 64  # an edge is reprojected in this many parts: a straight one may be curved in another CRS


class Region:
    """The pixels of a grid that a run covers: those whose centre lies in one of some polygons.

    Cost: each query looks at the polygons near its window only, by an R-tree.

    Attributes:
        grid: The grid.
        is_whole: Whether it is all of the grid.
        bounds_px: (top, left, bottom, right) in grid pixels, bottom and right one past the last.
    """

    def __init__(self, grid: Grid, polygons: Sequence[BaseGeometry] | None = None) -> None:
        """Cover all of `grid`, or `polygons` in its pixel coordinates (column, row)."""
        self.grid = grid
        self.is_whole = polygons is None
        self._tree = shapely.STRtree(polygons if polygons is not None else [])
        self.bounds_px = self.bounds_in(0, 0, grid.height, grid.width) or (0, 0, 0, 0)

    def fingerprint(self) -> str:
        """A digest that differs between different regions of a grid."""
        digest = hashlib.sha256(repr((self.is_whole, self.bounds_px)).encode())
        for blob in shapely.to_wkb(self._tree.geometries):
            digest.update(blob)
        return digest.hexdigest()

    def touches(self, row: int, col: int, height: int, width: int) -> bool:
        """Whether a pixel of the window may be covered; False is certain."""
        return self.bounds_in(row, col, height, width) is not None

    def bounds_in(self, row: int, col: int, height: int, width: int) -> tuple[int, int, int, int] | None:
        """(top, left, bottom, right) of what may be covered within the window and the grid; None: nothing."""
        top, bottom = max(row, 0), min(row + height, self.grid.height)
        left, right = max(col, 0), min(col + width, self.grid.width)
        if top >= bottom or left >= right:
            return None
        if self.is_whole:
            return top, left, bottom, right
        pieces = self._pieces(top, left, bottom, right)
        if not len(pieces):
            return None
        x0, y0, x1, y1 = shapely.total_bounds(pieces)
        if not all(math.isfinite(v) for v in (x0, y0, x1, y1)):
            return None
        tight = (
            max(top, math.floor(y0)),
            max(left, math.floor(x0)),
            min(bottom, math.ceil(y1)),
            min(right, math.ceil(x1)),
        )
        return tight if tight[0] < tight[2] and tight[1] < tight[3] else None

    def mask(self, row: int, col: int, height: int, width: int) -> NDArray[np.bool_]:
        """Which pixels of the window are covered: bool (height, width), False outside of the grid."""
        covered = np.zeros((height, width), dtype=bool)
        top, bottom = max(row, 0), min(row + height, self.grid.height)
        left, right = max(col, 0), min(col + width, self.grid.width)
        if top >= bottom or left >= right:
            return covered
        inside = np.s_[top - row : bottom - row, left - col : right - col]
        if self.is_whole:
            covered[inside] = True
            return covered
        pieces = self._pieces(top, left, bottom, right)
        if len(pieces):
            covered[inside] = rasterize(
                pieces, (bottom - top, right - left), transform=Affine.translation(left, top), dtype="uint8"
            ).view(bool)
        return covered

    def holds(self, shapes: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Whether the centroids of shapes in pixel coordinates lie in the region: bool (n,)."""
        if self.is_whole:
            return np.ones(len(shapes), dtype=bool)
        held = np.zeros(len(shapes), dtype=bool)
        held[self._tree.query(shapely.centroid(shapes), predicate="intersects")[0]] = True
        return held

    def _pieces(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.object_]:
        """The polygons cut to the window (and a pixel around), without empty ones."""
        found = self._tree.query(shapely.box(left, top, right, bottom), predicate="intersects")
        pieces = shapely.clip_by_rect(
            self._tree.geometries[np.sort(found)], left - 1.0, top - 1.0, right + 1.0, bottom + 1.0
        )
        pieces = pieces[~shapely.is_empty(pieces)]
        return np.asarray(pieces[shapely.area(pieces) > 0.0])


def plan_region(
    grid: Grid,
    *,
    extent: tuple[float, float, float, float] | None = None,
    extent_crs: str = "",
    aoi: str = "",
    aoi_layer: str = "",
) -> Region:
    """Bring the extent and the area of interest of a job onto the grid.

    Args:
        grid: Of the run.
        extent: (xmin, ymin, xmax, ymax); none: the whole raster.
        extent_crs: CRS of `extent` (code or WKT); empty: the raster's.
        aoi: Path of a polygon layer; empty: none.
        aoi_layer: Its name inside `aoi`; empty: the first.

    Raises:
        JobError: The extent makes no sense, or does not touch the raster (or the area of interest).
        VectorError: The area of interest cannot be read, has no polygons or no CRS, or does not touch
            the raster.
    """
    frame = shapely.box(0, 0, grid.width, grid.height)
    limits: NDArray[np.object_] | None = None
    if extent is not None:
        limit = onto_grid(grid, np.array([_extent_box(extent)]), extent_crs, JobError, "the extent")[0]
        if shapely.area(shapely.intersection(limit, frame)) == 0.0:
            raise JobError("The extent does not touch the raster: choose one that does, or none.")
        limits = np.array([limit])
    if aoi:
        polygons = onto_grid(grid, *_read_polygons(aoi, aoi_layer, grid), VectorError, aoi)
        polygons = _touching(polygons, frame)
        if not len(polygons):
            raise VectorError(f"No polygon of {aoi} touches the raster: choose another area of interest.")
        if limits is not None:
            polygons = _touching(shapely.intersection(polygons, limits[0]), frame)
            if not len(polygons):
                raise JobError("The extent and the area of interest do not overlap: change one of them.")
        limits = polygons
    return Region(grid, None if limits is None else list(shapely.get_parts(limits)))


def _touching(polygons: NDArray[np.object_], frame: BaseGeometry) -> NDArray[np.object_]:
    keep = shapely.intersects(polygons, frame) & (shapely.area(polygons) > 0.0)
    return np.asarray(polygons[keep])


def _extent_box(extent: Sequence[float]) -> BaseGeometry:
    if len(extent) != 4 or not all(math.isfinite(v) for v in extent):
        raise JobError(f"An extent is four numbers (xmin, ymin, xmax, ymax), not {tuple(extent)}.")
    xmin, ymin, xmax, ymax = extent
    if xmin >= xmax or ymin >= ymax:
        raise JobError(f"The extent {tuple(extent)} is empty: xmin < xmax and ymin < ymax are needed.")
    return shapely.box(xmin, ymin, xmax, ymax)


def _read_polygons(path: str, layer: str, grid: Grid) -> tuple[NDArray[np.object_], str]:
    """The polygons of a layer and their CRS ("" if it is the raster's)."""
    if not path.startswith("/vsi") and not Path(path).exists():
        raise VectorError(f"There is no file {path}: check the path of the area of interest.")
    try:
        info, _, blobs, _ = pyogrio.raw.read(path, layer=layer or None, columns=[])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        what = f"layer {layer!r} of {path}" if layer else path
        raise VectorError(
            f"The area of interest cannot be read from {what}: choose a polygon layer."
        ) from error
    shapes = shapely.get_parts(shapely.from_wkb(blobs)) if blobs is not None else np.array([])
    shapes = shapely.make_valid(shapely.force_2d(shapes[~shapely.is_missing(shapes)]))
    shapes = shapely.get_parts(shapely.get_parts(shapes))  # a collection may hold multi-polygons
    shapes = shapes[shapely.get_dimensions(shapes) == 2]
    if not len(shapes):
        raise VectorError(f"{path} holds no polygon: the area of interest has to be a polygon layer.")
    crs = info.get("crs") or ""
    if not crs and grid.crs is not None:
        raise VectorError(f"{path} has no CRS, so its place on the raster is not known: assign it one.")
    return shapes, crs


def onto_grid(
    grid: Grid,
    shapes: NDArray[np.object_],
    crs: str,
    error_type: type[JobError] | type[VectorError],
    name: str,
) -> NDArray[np.object_]:
    """Bring polygons from `crs` (empty: the raster's) into pixel coordinates of the grid.

    Args:
        grid: Of the run.
        shapes: Geometries, shape (n,).
        crs: Theirs (code or WKT).
        error_type: What is raised.
        name: Of the shapes, for the sentences.

    Raises:
        JobError, VectorError: `crs` is not known, or the shapes cannot be laid over the raster.
    """
    if crs and grid.crs is None:
        raise error_type(
            f"The raster has no CRS and {name} has one, so they cannot be laid over each other: assign the "
            "raster its CRS."
        )
    if crs and grid.crs is not None:
        shapes = _reproject(shapes, crs, grid.crs.to_wkt(), error_type, name)
    to_pixels = ~grid.transform

    def onto(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points[:, 0], points[:, 1]
        return np.column_stack(
            [to_pixels.a * x + to_pixels.b * y + to_pixels.c, to_pixels.d * x + to_pixels.e * y + to_pixels.f]
        )

    return np.asarray(shapely.make_valid(shapely.transform(shapes, onto)))


def _reproject(
    shapes: NDArray[np.object_],
    crs: str,
    target: str,
    error_type: type[JobError] | type[VectorError],
    name: str,
) -> NDArray[np.object_]:
    try:
        source = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise error_type(f"The CRS of {name} ({crs[:80]!r}) is not known: assign it another.") from error
    if source == pyproj.CRS.from_wkt(target):
        return shapes
    change = pyproj.Transformer.from_crs(source, target, always_xy=True)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(change.transform(points[:, 0], points[:, 1]))

    bounds = shapely.bounds(shapes)
    longest = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
    moved = shapely.transform(shapely.segmentize(shapes, longest / _EDGE_PARTS), move)
    usable = np.isfinite(shapely.bounds(moved)).all(axis=1)
    if not usable.any():
        raise error_type(f"{name} lies outside the domain of the raster's CRS: choose another.".capitalize())
    return np.asarray(moved[usable])
