"""Known footprints from a layer: every feature once, with its id and its attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, GeometryError
from rasterio.crs import CRS

from ..errors import VectorError

Shapes = NDArray[np.object_]
Column = NDArray[Any]
"""Shape (n,): numbers, masked where the source has none; NaN in real ones, None in texts."""

ID_FIELDS = ("source_id", "uid", "id", "@id", "full_id", "osm_id", "building_id", "bldg_id", "gers_id")
"""Attributes that are taken for the id where they have a value of its own for each footprint."""

_POLYGON, _MULTIPOLYGON = 3, 6  # shapely's type ids
_CANNOT_READ = (DataSourceError, DataLayerError, FeatureError, GeometryError, ValueError)


@dataclass(frozen=True)
class Footprints:
    """Footprints of n buildings, in the order of their source.

    Attributes:
        shapes: Valid polygons and multi-polygons of two dimensions in the CRS that was asked for, shape
            (n,); an empty polygon where the source has no geometry, or none that can be laid there.
        ids: Id of each in its source, texts, shape (n,).
        attributes: Name of each of the source's attributes to its values.
        repaired: How many were invalid and were mended.
        empty: How many have no geometry.
    """

    shapes: Shapes
    ids: Shapes
    attributes: Mapping[str, Column] = field(default_factory=dict)
    repaired: int = 0
    empty: int = 0

    def chosen(self, which: NDArray[np.int64]) -> Footprints:
        """Those with these indices, in their order."""
        attributes = {name: values[which] for name, values in self.attributes.items()}
        return Footprints(self.shapes[which], self.ids[which], attributes)


def read_footprints(path: str, layer: str, crs: CRS | None) -> Footprints:
    """Read all footprints of a polygon layer.

    Dates become ISO texts and lists JSON texts; whole numbers stay whole where some are missing. Memory: the
    layer.

    Args:
        path: Of the layer's file, as GDAL names it.
        layer: Name of the layer inside; empty: the first.
        crs: CRS to which the footprints are brought; none where the raster has none, and then neither may
            they.

    Raises:
        VectorError: The layer cannot be read, holds something else than polygons, has no CRS, or cannot be
            laid over the raster.
    """
    name = f"the layer {layer!r} of {path}" if layer else path
    if not path.startswith("/vsi") and not Path(path).exists():
        raise VectorError(f"There is no file {path}: check the path of the footprints.")
    try:
        types = pyogrio.read_info(path, layer=layer or None)["dtypes"]
        meta, fids, blobs, columns = pyogrio.raw.read(
            path, layer=layer or None, force_2d=True, return_fids=True, datetime_as_string=True
        )
    except _CANNOT_READ as error:
        raise VectorError(
            f"The footprints cannot be read from {name} ({error}): choose a polygon layer."
        ) from error
    if blobs is None or not len(blobs):
        raise VectorError(
            f"There are no footprints in {name}: choose another layer, or none to have buildings detected."
        )
    with np.errstate(invalid="ignore"):  # not-a-number coordinates are mended, and said
        shapes, repaired = _polygons(shapely.from_wkb(blobs, on_invalid="ignore"), name)
    shapes = _reproject(shapes, meta.get("crs") or "", crs, name)
    attributes = {
        str(attribute): _column(values, str(dtype))
        for attribute, values, dtype in zip(meta["fields"], columns, types, strict=True)
    }
    return Footprints(
        shapes, _ids(attributes, fids), attributes, repaired, int(shapely.is_empty(shapes).sum())
    )


def onto_pixels(shapes: Shapes, transform: Affine) -> Shapes:
    """Bring shapes from coordinates into the pixels (column, row) of a grid with this transform."""
    a, b, c, d, e, f = (~transform)[:6]
    moved: Shapes = shapely.transform(
        shapes, lambda points: points @ np.array([[a, d], [b, e]]) + np.array([c, f])
    )
    return moved


def _polygons(shapes: Shapes, name: str) -> tuple[Shapes, int]:
    """The same features as valid polygons, and how many of them were mended."""
    shapes = np.where(shapely.is_missing(shapes) | shapely.is_empty(shapes), shapely.Polygon(), shapes)
    polygonal = np.isin(shapely.get_type_id(shapes), [_POLYGON, _MULTIPOLYGON])
    if not polygonal.all():
        kind = shapes[~polygonal][0].geom_type
        raise VectorError(
            f"{int((~polygonal).sum())} of the {len(shapes)} features of {name} are no polygons (the first: "
            f"{kind}): footprints have to be polygons."
        )
    broken = np.flatnonzero(~shapely.is_valid(shapes))
    for index in broken:
        shapes[index] = _mended(shapes[index])
    return shapes, len(broken)


def _mended(shape: shapely.Geometry) -> shapely.Geometry:
    """What of an invalid polygon has an area, as a valid one."""
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        return shapely.Polygon()
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shape)))
    parts = parts[shapely.get_type_id(parts) == _POLYGON]
    if len(parts) == 0:
        return shapely.Polygon()
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)


def _reproject(shapes: Shapes, source: str, target: CRS | None, name: str) -> Shapes:
    if target is None:
        if not source:
            return shapes
        raise VectorError(
            f"The raster has no CRS and the footprints of {name} have one, so they cannot be laid over each "
            "other: assign the raster its CRS."
        )
    if not source:
        raise VectorError(
            f"The footprints of {name} have no CRS, so their place on the raster is not known: assign one."
        )
    try:
        begin, end = pyproj.CRS.from_user_input(source), pyproj.CRS.from_wkt(target.to_wkt())
    except pyproj.exceptions.CRSError as error:
        raise VectorError(f"The CRS of {name} ({source[:80]!r}) is not known: assign it another.") from error
    if begin == end:
        return shapes
    change = pyproj.Transformer.from_crs(begin, end, always_xy=True)
    moved: Shapes = shapely.transform(
        shapes, lambda points: np.column_stack(change.transform(points[:, 0], points[:, 1]))
    )
    points, owner = shapely.get_coordinates(moved, return_index=True)
    moved[owner[~np.isfinite(points).all(axis=1)]] = shapely.Polygon()
    if shapely.is_empty(moved).all() and not shapely.is_empty(shapes).all():
        raise VectorError(
            f"The footprints of {name} lie outside of the domain of the raster's CRS: check the CRS of both."
        )
    for index in np.flatnonzero(~shapely.is_valid(moved)):  # slivers that rounding turns over
        moved[index] = _mended(moved[index])
    return moved


def _column(values: Column, dtype: str) -> Column:
    """An attribute as numbers or texts."""
    if values.dtype.kind == "f" and not dtype.startswith("float"):
        missing = np.isnan(values)  # they made real numbers of whole ones
        return np.ma.MaskedArray(np.where(missing, 0, values).astype(dtype), missing)
    if values.dtype.kind == "O":
        return np.array([_text(value) for value in values], dtype=object)
    return values


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        return json.dumps(value.tolist(), ensure_ascii=False)
    return value.hex() if isinstance(value, bytes) else str(value)


def _ids(attributes: Mapping[str, Column], fids: NDArray[np.int64]) -> Shapes:
    """The first of `ID_FIELDS` that tells the footprints apart; where there is none, GDAL's feature ids."""
    by_name = {name.lower(): name for name in reversed(list(attributes))}
    for name in ID_FIELDS:
        values = attributes.get(by_name.get(name, ""))
        if values is None or values.dtype.kind not in "iuO" or np.ma.getmaskarray(values).any():
            continue
        texts = [str(value) for value in values.tolist() if value not in (None, "")]
        if len(set(texts)) == len(fids):
            return np.array(texts, dtype=object)
    return np.array([str(fid) for fid in fids.tolist()], dtype=object)
