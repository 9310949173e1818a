"""From grid pixels to coordinates, and to true areas and lengths on the ground."""

from __future__ import annotations

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

Floats = NDArray[np.float64]

_SPAN_PX = 16.0  # the ground is measured over this many pixels; shorter spans lose digits


class Ground:
    """The ground under a grid.

    Areas and lengths are ellipsoidal where the CRS has an ellipsoid, and grid pixels times their nominal
    size where there is no CRS.
    """

    def __init__(self, transform: Affine, crs: CRS | None, gsd_m: float) -> None:
        """Take the grid's transform and CRS, and the nominal side of its pixels in metres."""
        self._transform = transform
        self._gsd_m = gsd_m
        self._geod: pyproj.Geod | None = None
        known = pyproj.CRS.from_wkt(crs.to_wkt()) if crs else None
        if known is not None and known.geodetic_crs is not None:
            self._geod = known.get_geod()
            self._to_degrees = pyproj.Transformer.from_crs(known, known.geodetic_crs, always_xy=True)

    def coordinates(self, pixels: Floats) -> Floats:
        """Coordinates in the CRS of points in pixels (column, row), shape (n, 2)."""
        a, b, c, d, e, f = self._transform[:6]
        points: Floats = pixels @ np.array([[a, d], [b, e]]) + np.array([c, f])
        return points

    def square_metres_per_pixel(self, pixels: Floats) -> Floats:
        """True area of a pixel at each point, shape (n,)."""
        half = np.array([_SPAN_PX / 2, 0.0])
        across, azimuth_across = self._inverse(pixels - half, pixels + half)
        along, azimuth_along = self._inverse(pixels - half[::-1], pixels + half[::-1])
        area: Floats = across * along * np.abs(np.sin(azimuth_across - azimuth_along)) / _SPAN_PX**2
        return area

    def metres_between(self, begin: Floats, end: Floats) -> Floats:
        """True distance between points in pixels, shape (n,)."""
        return self._inverse(begin, end)[0]

    def _inverse(self, begin: Floats, end: Floats) -> tuple[Floats, Floats]:
        """Distance in metres, and azimuth at the beginning in radians."""
        if self._geod is None:
            step = (end - begin) * self._gsd_m
            return np.hypot(step[:, 0], step[:, 1]), np.arctan2(step[:, 1], step[:, 0])
        azimuth, _, distance = self._geod.inv(*self._degrees(begin), *self._degrees(end))
        return np.asarray(distance), np.deg2rad(azimuth)

    def _degrees(self, pixels: Floats) -> tuple[Floats, Floats]:
        x, y = self.coordinates(pixels).T
        longitude, latitude = self._to_degrees.transform(x, y)
        return np.asarray(longitude), np.asarray(latitude)
