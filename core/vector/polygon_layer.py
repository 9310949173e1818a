"""The layer of road polygons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ..raster.probability import LEVELS
from .components import Components
from .ground import Ground
from .layers import ORIGIN_FIELDS, LayerWriter, constant_columns
from .polygons import Outlines, polygonize_mask, unite_polygons
from .simplification import simplify_polygons
from .views import Settings, View
from .windows import Window

LAYER = "road_polygons"
# Names of ten letters at most: a Shapefile export keeps them.
FIELDS = {"class": "object", "area_m2": "f8", "mean_prob": "f8", "min_prob": "f8", **ORIGIN_FIELDS}


@dataclass
class _Pieces:
    """Polygons of one cell in grid pixels, with what their pixels sum up to."""

    polygons: NDArray[np.object_]
    pixels: NDArray[np.int64]
    total: NDArray[np.float64]
    least: NDArray[np.int64]


@dataclass
class _Batch:
    """The pieces of windows that belong together, and which of them touch across seams."""

    pieces: list[_Pieces] = field(default_factory=list)
    count: int = 0
    links: list[NDArray[np.int64]] = field(default_factory=list)
    borders: dict[tuple[str, int, int], NDArray[np.int64]] = field(default_factory=dict)


class PolygonLayer:
    """Makes road polygons of views and writes them."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        size_px: tuple[int, int],
        ground: Ground,
        crs: CRS | None,
        origin: Mapping[str, str],
    ) -> None:
        """Open the layer.

        Args:
            path: The GeoPackage.
            settings: What makes roads.
            size_px: Width and height of the raster.
            ground: Under the grid.
            crs: Of the layer.
            origin: What goes onto each feature, by `ORIGIN_FIELDS`.
        """
        self._settings = settings
        self._size_px = size_px
        self._ground = ground
        self._origin = origin
        self._writer = LayerWriter(path, LAYER, "Polygon", crs, FIELDS)
        self._batch = _Batch()
        self.area_m2 = 0.0

    @property
    def count(self) -> int:
        """Features written by `close`."""
        return self._writer.count

    def add(self, view: View) -> None:
        """Outline the roads of a window."""
        if not view.mask.any():
            return
        for cell in view.window.cells(self._settings.cut_px):
            part = view.part(cell)
            outlines = polygonize_mask(view.mask[part])
            if len(outlines.polygons):
                self._batch.pieces.append(_measure(outlines, view.values[part], cell))
            self._link(cell, outlines.components)
            self._batch.count += len(outlines.polygons)

    def _link(self, cell: Window, components: Components) -> None:
        """Note which pieces touch those of the windows above and to the left."""
        batch = self._batch
        below, beyond = cell.row + cell.height, cell.col + cell.width
        left, right = components.in_border_columns()
        for key, border in (
            (("above", cell.row, cell.col), components.in_row(0)),
            (("left", cell.row, cell.col), left),
        ):
            other = batch.borders.pop(key, None)
            if other is not None:
                touches = (border >= 0) & (other >= 0)
                batch.links.append(np.column_stack([border[touches] + batch.count, other[touches]]))
        for key, border in (
            (("above", below, cell.col), components.in_row(cell.height - 1)),
            (("left", cell.row, beyond), right),
        ):
            batch.borders[key] = np.where(border >= 0, border + batch.count, -1)

    def finish(self, batch: tuple[Window, ...]) -> None:
        """Join what crosses the seams of a batch of windows, simplify and write it."""
        pieces, self._batch = self._batch, _Batch()
        if pieces.count == 0:
            return
        joined = _join(pieces) if len(batch) > 1 else _concatenate(pieces.pieces)
        settings = self._settings
        polygons = simplify_polygons(joined.polygons, settings.tolerance_px, settings.cut_px, self._size_px)
        points = shapely.get_coordinates(shapely.point_on_surface(polygons))
        area_m2 = shapely.area(polygons) * self._ground.square_metres_per_pixel(points)
        self._writer.append(
            shapely.transform(polygons, self._ground.coordinates),
            {
                "area_m2": area_m2,
                "mean_prob": joined.total / joined.pixels / LEVELS,
                "min_prob": joined.least / LEVELS,
                **constant_columns(len(polygons), "road", self._origin),
            },
        )
        self.area_m2 += float(area_m2.sum())

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()


def _measure(outlines: Outlines, values: NDArray[np.uint8], cell: Window) -> _Pieces:
    components, count = outlines.components, len(outlines.polygons)
    value = values.ravel()[components.pixels()]
    begins = np.cumsum(components.lengths_px) - components.lengths_px
    total = np.add.reduceat(value, begins, dtype=np.int64)
    least = np.full(count, LEVELS)
    np.minimum.at(least, components.label, np.minimum.reduceat(value, begins))
    corner = np.array([cell.col, cell.row], float)
    return _Pieces(
        shapely.transform(outlines.polygons, lambda points: points + corner),
        components.sizes_px(),
        np.bincount(components.label, weights=total, minlength=count).astype(np.float64),
        least,
    )


def _concatenate(parts: list[_Pieces]) -> _Pieces:
    return _Pieces(
        np.concatenate([p.polygons for p in parts]),
        np.concatenate([p.pixels for p in parts]),
        np.concatenate([p.total for p in parts]),
        np.concatenate([p.least for p in parts]),
    )


def _join(batch: _Batch) -> _Pieces:
    """Unite the pieces that touch across seams, in the order of each polygon's first piece."""
    pieces = _concatenate(batch.pieces)
    links = np.concatenate([np.zeros((0, 2), np.int64), *batch.links])
    graph = csr_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(batch.count,) * 2)
    label = connected_components(graph, directed=False)[1]
    first = np.unique(label, return_index=True)[1]
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    group = rank[label]

    least = np.full(len(first), LEVELS)
    np.minimum.at(least, group, pieces.least)
    return _Pieces(
        unite_polygons(pieces.polygons, group, len(first)),
        np.bincount(group, weights=pieces.pixels).astype(np.int64),
        np.bincount(group, weights=pieces.total).astype(np.float64),
        least,
    )
