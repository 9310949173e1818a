"""Digitised roads or buildings of a vector layer as a region of a raster's pixels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError

from ..errors import VectorError
from ..raster.grid import Grid
from ..raster.region import Region, onto_grid

_AROUND_M = 200.0  # features are read this far around the raster: buffers reach into it
_EDGE_M = 50.0  # long lines are bent to the ground in parts of this length
_LINES = 1  # dimension of lines, and polygons have 2

Shapes = NDArray[np.object_]


def read_digitised(
    path: str, layer: str, grid: Grid, *, width_field: str = "", width_m: float = 8.0
) -> tuple[Region, list[str]]:
    """Read the polygons of a layer, and its lines as wide as they are on the ground.

    Args:
        path: Vector layer.
        layer: Its name inside `path`; empty: the first.
        grid: Of the raster.
        width_field: Field with the full width of lines in metres; empty: `width_m` for all.
        width_m: Full width of lines in metres, also where the field holds no positive number.

    Returns:
        The pixels whose centre lies in a feature, and sentences that the user should read.

    Raises:
        VectorError: The layer cannot be read, has no lines and no polygons, no CRS or no such field, or
            does not touch the raster.
    """
    shapes, widths, crs, notices = _read(path, layer, grid, width_field, width_m)
    dimensions = shapely.get_dimensions(shapes)
    areas, lines = shapes[dimensions > _LINES], shapes[dimensions == _LINES]
    if not len(areas) and not len(lines):
        raise VectorError(
            f"{path} has no lines and no polygons on the raster: choose a layer of digitised roads or "
            "buildings that lies there."
        )
    parts = []
    if len(areas):
        parts.append(onto_grid(grid, shapely.make_valid(areas), crs, VectorError, path))
    if len(lines):
        parts.append(_buffer(lines, widths[dimensions == _LINES], crs, grid, path))
    polygons = shapely.get_parts(shapely.get_parts(np.concatenate(parts)))
    polygons = polygons[shapely.get_dimensions(polygons) > _LINES]
    polygons = polygons[shapely.intersects(polygons, shapely.box(0, 0, grid.width, grid.height))]
    if not len(polygons):
        raise VectorError(f"No feature of {path} touches the raster: choose a layer that lies there.")
    return Region(grid, list(polygons)), notices


def _read(
    path: str, layer: str, grid: Grid, width_field: str, width_m: float
) -> tuple[Shapes, NDArray[np.float64], str, list[str]]:
    """The single geometries near the raster, the width of each, their CRS ("" if it is the raster's)."""
    if not path.startswith("/vsi") and not Path(path).exists():
        raise VectorError(f"There is no file {path}: check the path of the digitised layer.")
    try:
        info = pyogrio.read_info(path, layer=layer or None)
        _check_field(path, width_field, list(info["fields"]))
        crs = info.get("crs") or ""
        _, _, blobs, columns = pyogrio.raw.read(
            path,
            layer=layer or None,
            columns=[width_field] if width_field else [],
            bbox=_find_box(grid, crs),
        )
    except (DataSourceError, DataLayerError, FieldError, ValueError, pyproj.exceptions.ProjError) as error:
        if isinstance(error, VectorError):
            raise
        what = f"layer {layer!r} of {path}" if layer else path
        raise VectorError(f"{what} cannot be read ({error}): choose a vector layer.") from error
    if not crs and grid.crs is not None:
        raise VectorError(f"{path} has no CRS, so its place on the raster is not known: assign it one.")
    shapes = shapely.from_wkb(blobs) if blobs is not None else np.zeros(0, object)
    widths, notices = np.full(len(shapes), width_m), []
    if width_field:
        stated = np.array([_number(value) for value in columns[0]])
        is_stated = np.isfinite(stated) & (stated > 0)
        widths = np.where(is_stated, stated, width_m)
        if not is_stated.all():
            notices.append(
                f"{int((~is_stated).sum())} of {len(stated)} features have no width in {width_field!r}: "
                f"lines among them are drawn {width_m:g} m wide."
            )
    found = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    parts, number = shapely.get_parts(shapely.force_2d(shapes[found]), return_index=True)
    inner, again = shapely.get_parts(parts, return_index=True)  # a collection may hold multi-geometries
    return inner, widths[found][number[again]], crs, notices


def _check_field(path: str, width_field: str, fields: list[str]) -> None:
    if width_field and width_field not in fields:
        listed = ", ".join(fields[:10]) or "none"
        raise VectorError(f"{path} has no field {width_field!r}; it has {listed}: choose one of these.")


def _number(value: Any) -> float:
    """A width as it may stand in a field: a number, or a text such as ``7.5 m``; NaN if it is neither."""
    try:
        return float(str(value).split()[0].replace(",", ".")) if value is not None else math.nan
    except (ValueError, IndexError):
        return math.nan


def _find_box(grid: Grid, crs: str) -> tuple[float, float, float, float] | None:
    """The raster with some ground around it, in the CRS of a layer; none: where that cannot be said."""
    around = _AROUND_M / grid.gsd_m
    corners = [
        grid.transform * (column, row)
        for column in (-around, grid.width + around)
        for row in (-around, grid.height + around)
    ]
    x, y = zip(*corners, strict=True)
    box = (min(x), min(y), max(x), max(y))
    if crs and grid.crs is not None:
        change = pyproj.Transformer.from_crs(grid.crs.to_wkt(), crs, always_xy=True)
        box = change.transform_bounds(*box)
    return box if all(map(math.isfinite, box)) and box[0] < box[2] else None


def _buffer(lines: Shapes, widths: NDArray[np.float64], crs: str, grid: Grid, path: str) -> Shapes:
    """Lines as wide as they are on the ground, in pixels of the grid."""
    if grid.crs is None:
        return np.asarray(
            shapely.buffer(onto_grid(grid, lines, crs, VectorError, path), widths / 2 / grid.gsd_m)
        )
    # Around the raster's centre this projection is true to a thousandth for hundreds of kilometres.
    degrees = pyproj.Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    longitude, latitude = degrees.transform(*(grid.transform * (grid.width / 2, grid.height / 2)))
    local = f"+proj=aeqd +lat_0={latitude} +lon_0={longitude} +datum=WGS84 +units=m"
    change = pyproj.Transformer.from_crs(crs or grid.crs.to_wkt(), local, always_xy=True)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(change.transform(points[:, 0], points[:, 1]))

    metres = shapely.transform(lines, move)
    is_usable = np.isfinite(shapely.bounds(metres)).all(axis=1)
    wide = shapely.buffer(shapely.segmentize(metres[is_usable], _EDGE_M), widths[is_usable] / 2)
    return onto_grid(grid, wide, local, VectorError, path)
