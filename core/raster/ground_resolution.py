"""True size of a raster's pixels on the ground, along the ellipsoid, whatever the CRS."""

from __future__ import annotations

import math

import pyproj
from affine import Affine
from rasterio.crs import CRS

from ..errors import GroundResolutionError

# Pixels over which a step is measured: long enough for the precision of coordinates in degrees, short
# enough that no projection bends.
_STEP_PX = 16.0


def measure_gsd(path: str, crs: CRS, transform: Affine, width: int, height: int) -> tuple[float, float]:
    """Metres on the ground per pixel (x, y) at the raster's centre, along the pixel's own two axes.

    Raises:
        GroundResolutionError: The CRS has no unit of length, the centre lies outside its domain, or
            the pixels have no size.
    """
    projection = pyproj.CRS.from_wkt(crs.to_wkt())
    x_m = _step_length(path, projection, transform, (width / 2.0, height / 2.0), (_STEP_PX / 2.0, 0.0))
    y_m = _step_length(path, projection, transform, (width / 2.0, height / 2.0), (0.0, _STEP_PX / 2.0))
    if not (math.isfinite(x_m * y_m) and x_m > 0.0 and y_m > 0.0):
        raise GroundResolutionError(
            f"The pixels of {path} have no size on the ground: its georeference is broken, give it another."
        )
    return x_m / _STEP_PX, y_m / _STEP_PX


def _step_length(
    path: str,
    projection: pyproj.CRS,
    transform: Affine,
    centre: tuple[float, float],
    half: tuple[float, float],
) -> float:
    """Metres from `centre` − `half` to `centre` + `half`, both in pixels (column, row)."""
    before = transform * (centre[0] - half[0], centre[1] - half[1])
    after = transform * (centre[0] + half[0], centre[1] + half[1])
    geod = projection.get_geod()
    if geod is None or projection.geodetic_crs is None:
        # a local (engineering) CRS: flat, in its own unit of length
        if not projection.axis_info:
            raise GroundResolutionError(
                f"The CRS of {path} ({projection.name}) has no unit of length: assign the raster another."
            )
        return math.dist(before, after) * projection.axis_info[0].unit_conversion_factor
    to_degrees = pyproj.Transformer.from_crs(projection, projection.geodetic_crs, always_xy=True)
    start, end = to_degrees.transform(*before), to_degrees.transform(*after)
    if not all(math.isfinite(c) for c in (*start, *end)):
        raise GroundResolutionError(
            f"The centre of {path} lies outside the domain of its CRS ({projection.name}): check the CRS and "
            "the georeference."
        )
    return float(geod.inv(*start, *end)[2])
