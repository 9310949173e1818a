"""The layer of road centrelines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely
from rasterio.crs import CRS

from .centrelines import find_centrelines
from .ground import Ground
from .layers import ORIGIN_FIELDS, LayerWriter, constant_columns
from .lines import Lines, concatenate, cut_network, join_at_seams
from .views import Settings, View
from .windows import Window

LAYER = "road_centrelines"
SHORTEST_PX = 1.0
"""Lines shorter than a pixel are not written."""

# Names of ten letters at most: a Shapefile export keeps them.
FIELDS = {
    "class": "object",
    "length_m": "f8",
    "width_m": "f8",
    "mean_prob": "f8",
    "bridged": "f8",
    **ORIGIN_FIELDS,
}


class CentrelineLayer:
    """Makes road centrelines of views and writes them."""

    def __init__(
        self, path: Path, settings: Settings, ground: Ground, crs: CRS | None, origin: Mapping[str, str]
    ) -> None:
        """Open the layer.

        Args:
            path: The GeoPackage.
            settings: What makes roads.
            ground: Under the grid.
            crs: Of the layer.
            origin: What goes onto each feature, by `ORIGIN_FIELDS`.
        """
        self._settings = settings
        self._ground = ground
        self._origin = origin
        self._writer = LayerWriter(path, LAYER, "LineString", crs, FIELDS)
        self._lines: list[Lines] = []
        self.length_m = 0.0

    @property
    def count(self) -> int:
        """Features written by `close`."""
        return self._writer.count

    def add(self, view: View) -> None:
        """Trace the roads of a window."""
        if not view.mask.any():
            return
        probability = view.probability
        network = find_centrelines(view.mask, probability, self._settings.gsd_m)
        self._lines.append(cut_network(network, probability, view.origin, view.window, self._settings.cut_px))

    def finish(self, batch: tuple[Window, ...]) -> None:
        """Join what crosses the seams of a batch of windows, simplify and write it."""
        lines = concatenate(self._lines)
        self._lines = []
        if len(lines) == 0:
            return
        if len(batch) > 1:
            seam_cols, seam_rows = ({w.col for w in batch}, {w.row for w in batch})
            lines = join_at_seams(lines, np.array(sorted(seam_cols)), np.array(sorted(seam_rows)))
        geometries = lines.geometries(self._settings.tolerance_px)
        # A loop of some pixels collapses in the simplification, and a cut may leave less than one: no roads.
        is_line = shapely.length(geometries) >= SHORTEST_PX
        geometries = geometries[is_line]
        probability, half_width, bridged = lines.means()[is_line].T
        length_m = self._lengths_m(geometries)
        self._writer.append(
            shapely.transform(geometries, self._ground.coordinates),
            {
                "length_m": length_m,
                "width_m": 2 * half_width * self._settings.gsd_m,
                "mean_prob": probability,
                "bridged": bridged,
                **constant_columns(len(geometries), "road", self._origin),
            },
        )
        self.length_m += float(length_m.sum())

    def _lengths_m(self, geometries: np.ndarray) -> np.ndarray:
        points, line = shapely.get_coordinates(geometries, return_index=True)
        step = np.flatnonzero(line[1:] == line[:-1])
        metres = self._ground.metres_between(points[step], points[step + 1])
        return np.bincount(line[step], weights=metres, minlength=len(geometries))

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()
