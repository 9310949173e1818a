"""GDAL as every reader and writer here runs it."""

from __future__ import annotations

import rasterio
from rasterio._err import CPLE_BaseError  # GDAL's own errors; rasterio lets some of them through
from rasterio.errors import RasterioError

_CACHE_BYTES = 64_000_000  # the default is a share of the machine's memory, which a large raster then fills

GDAL_ERRORS: tuple[type[Exception], ...] = (RasterioError, CPLE_BaseError, OSError)
"""What opening, reading or writing raises when the fault is the file's or the disk's."""


def bounded_gdal() -> rasterio.Env:
    """A context in which GDAL's block cache is bounded: to be open around each read, copy and write.

    Open in it what is read in it: GDAL (3.10) has a fast way to read a whole PNG, which leaves the rest of
    one that was cut short blank without a word; without that way it is an error.
    """
    return rasterio.Env(
        GDAL_CACHEMAX=_CACHE_BYTES,  # rasterio hands it over in bytes, not in megabytes
        GDAL_PNG_WHOLE_IMAGE_OPTIM="NO",
    )
