"""Where a raster lies when it does not simply say so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from affine import Affine
from rasterio.control import GroundControlPoint

from ..errors import RasterError

UNREFERENCED = Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
"""Pixel coordinates with rows going down, which is where QGIS shows a raster without georeference."""


def fit_control_points(points: Sequence[GroundControlPoint]) -> tuple[Affine, float]:
    """Fit an affine transform to ground control points by least squares.

    Args:
        points: Three at least, not in one line; they need not lie inside the raster.

    Returns:
        The transform from (column, row), and the largest residual in pixels.

    Raises:
        RasterError: The points determine no transform.
    """
    pixels = np.array([(p.col, p.row, 1.0) for p in points])
    ground = np.array([(p.x, p.y) for p in points])
    centre, spread = ground.mean(axis=0), np.ptp(ground, axis=0).max() or 1.0
    solution, _, rank, _ = np.linalg.lstsq(pixels, (ground - centre) / spread, rcond=None)
    if rank < 3 or abs(np.linalg.det(solution[:2])) < np.finfo(float).tiny:
        raise RasterError(
            f"The {len(points)} ground control points of the raster lie in one line: warp it, or give it a "
            "georeference, first."
        )
    (a, d), (b, e), (c, f) = solution * spread + np.array([[0, 0], [0, 0], centre])
    residual = (pixels @ solution - (ground - centre) / spread) @ np.linalg.inv(solution[:2])
    return Affine(a, b, c, d, e, f), float(np.linalg.norm(residual, axis=1).max())
