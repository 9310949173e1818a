"""Where tiles lie on the earth."""

from __future__ import annotations

import math

from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from ..raster.gdal import GDAL_ERRORS
from ..raster.georeference import UNREFERENCED

Footprint = tuple[float, ...]
"""Longitude and latitude of the four corners of a tile, in turn: eight numbers in degrees."""

Bounds = tuple[float, float, float, float]
"""West, south, east, north in degrees."""

_DIGITS = 9  # a tenth of a millimetre


def find_footprint(crs: CRS | None, affine: Affine, width: int, height: int) -> Footprint | None:
    """The corners of a raster; none where it has no place on the earth."""
    if crs is None or affine in (UNREFERENCED, Affine.identity()):
        return None
    x, y = zip(
        *(affine @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))), strict=True
    )
    try:
        longitudes, latitudes = transform(crs, "EPSG:4326", x, y)
    except GDAL_ERRORS:
        return None  # a CRS that is not tied to the earth
    numbers = [round(v, _DIGITS) for pair in zip(longitudes, latitudes, strict=True) for v in pair]
    return tuple(numbers) if all(map(math.isfinite, numbers)) else None


def bounds_of(footprint: Footprint | None) -> Bounds | None:
    """The rectangle around a footprint."""
    if footprint is None:
        return None
    longitudes, latitudes = footprint[::2], footprint[1::2]
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)
