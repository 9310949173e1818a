"""GDAL as every reader and writer here runs it."""

from __future__ import annotations

import rasterio
from rasterio._err import CPLE_BaseError  # GDAL's own errors; rasterio lets some of them through
from rasterio.errors import RasterioError

_CACHE_BYTES = 64_000_000  # the default is a share of the machine's memory, which a large raster then fills

GDAL_ERRORS: tuple[type[Exception], ...] = (RasterioError, CPLE_BaseError, OSError)
"""What opening, reading or writing raises when the fault is the file's or the disk's."""


def bounded_gdal() -> rasterio.Env:
    """A context in which GDAL's block cache is bounded: to be open around each read, copy and write."""
    return rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES)  # rasterio hands it over in bytes, not in megabytes
