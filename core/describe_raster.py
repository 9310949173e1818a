"""How the worker understands a raster, asked before a run."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path

from .cards import find_package
from .errors import GroundResolutionError, ModelError
from .jobs import DescribeRaster, Event, Result, Warning

_TASK = "roads"


def describe_raster(job: DescribeRaster) -> Generator[Event, None, None]:
    """Open a raster and say what it is; `DescribeRaster` lists the values.

    Raises:
        RasterError: It cannot be opened.
        JobError: A parameter makes no sense.
    """
    from .raster.source import open_source  # loads GDAL

    with open_source(
        job.raster, bands=job.bands, band_count=len(job.bands) or 1, gsd_m=job.gsd_m, crs=job.crs
    ) as source:
        try:
            x_m, y_m = source.gsd_m
            gsd_m: float | None = math.sqrt(x_m * y_m)
        except GroundResolutionError as error:
            gsd_m = None
            yield Warning(str(error))
        folders = [Path(folder) for folder in job.model_folders]
        try:
            model = find_package("", folders, _TASK, len(job.bands) or source.image_count, gsd_m).card.name
        except ModelError as error:
            model = ""
            yield Warning(str(error))
        yield Result(
            {},
            {
                "width": source.width,
                "height": source.height,
                "bands": source.count,
                "dtype": source.dtype,
                "crs": source.crs.to_wkt() if source.crs is not None else "",
                "gsd_m": gsd_m,
                "model": model,
            },
        )
