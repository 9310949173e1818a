"""From a probability raster to a layer of road polygons and a layer of road centrelines."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from ..errors import JobError, RasterError
from ..raster.georeference import UNREFERENCED
from ..raster.probability import read_tags
from .centreline_layer import CentrelineLayer
from .ground import Ground
from .polygon_layer import PolygonLayer
from .views import Settings, read_view
from .windows import BlockProgress, plan_windows

_SMALLEST_BLOCK_PX = 32


@dataclass(frozen=True)
class RoadSummary:
    """What was written.

    Attributes:
        polygons: Number of road polygons.
        centrelines: Number of centrelines.
        area_m2: Area of all polygons.
        length_m: Length of all centrelines.
    """

    polygons: int
    centrelines: int
    area_m2: float
    length_m: float


def vectorize_roads(
    probability: Path,
    *,
    threshold: float,
    threshold_low: float | None = None,
    min_area_m2: float,
    simplify_m: float,
    block_m: float,
    polygons: Path | None,
    centrelines: Path | None,
    attributes: Mapping[str, str],
) -> Generator[BlockProgress, None, RoadSummary]:
    """Write the roads of a probability raster as polygons and centrelines.

    Windows are read and written one after the other, so that memory does not grow with the raster; with
    `block_m` 0, or blocks much larger than a window, the features of a block are held until it is done.
    The same raster and parameters give the same features in the same order.

    Networks are cut at lines every `block_m` from the grid's origin; polygons and centrelines of both sides
    meet there exactly. Hysteresis, the least area and the bridging of gaps look across such lines by
    `centrelines.CONTEXT_M`; a component that reaches farther is judged by what is seen of it.

    Args:
        probability: Raster of encoded probabilities with Aftermap's tags.
        threshold: Probability from which a pixel is road, 0 to 1.
        threshold_low: Hysteresis, as in `road_mask`.
        min_area_m2: Roads smaller than this are dropped.
        simplify_m: How far outlines may move, besides the half pixel of their stairs; 0: pixel edges.
            Centrelines are simplified by one pixel at least.
        block_m: Side of the ground blocks at which networks are cut; 0: never.
        polygons: GeoPackage for the layer ``road_polygons``, replaced if there; none: not wanted.
        centrelines: GeoPackage for the layer ``road_centrelines``; none: not wanted.
        attributes: ``model``, ``source`` and ``date``, for each feature.

    Yields:
        Progress, several times a second.

    Raises:
        JobError: A parameter makes no sense.
        RasterError: The raster cannot be read, or is none of Aftermap's.
        OutputError: A GeoPackage cannot be written.
    """
    gsd_m = read_tags(probability).gsd_m
    settings = Settings(threshold, threshold_low, min_area_m2, simplify_m, block_m, gsd_m)
    _check(settings)
    try:
        with rasterio.open(probability) as dataset:
            crs = dataset.crs
            ground = Ground(UNREFERENCED if dataset.transform.is_identity else dataset.transform, crs, gsd_m)
            size_px = (dataset.width, dataset.height)
            areas = PolygonLayer(polygons, settings, size_px, ground, crs, attributes) if polygons else None
            lines = CentrelineLayer(centrelines, settings, ground, crs, attributes) if centrelines else None
            layers = [layer for layer in (areas, lines) if layer]

            batches = plan_windows(dataset.height, dataset.width, settings.cut_px)
            total, done = sum(map(len, batches)), 0
            for batch in batches:
                for window in batch:
                    view = read_view(dataset, window, settings)
                    for layer in layers:
                        yield BlockProgress(done, total)
                        layer.add(view)
                    done += 1
                for layer in layers:
                    yield BlockProgress(done, total)
                    layer.finish(batch)
            for layer in layers:
                layer.close()
    except RasterioError as error:
        raise RasterError(f"{probability} cannot be read ({error}): segment the scene again.") from error
    return RoadSummary(
        polygons=areas.count if areas else 0,
        centrelines=lines.count if lines else 0,
        area_m2=areas.area_m2 if areas else 0.0,
        length_m=lines.length_m if lines else 0.0,
    )


def _check(settings: Settings) -> None:
    low = settings.threshold_low
    if not 0.0 < settings.threshold <= 1.0:
        raise JobError(
            f"A threshold of {settings.threshold:g} makes no sense: give one from 0 (excluded) to 1."
        )
    if low is not None and not 0.0 < low <= settings.threshold:
        raise JobError(f"A lower threshold of {low:g} makes no sense: give one up to {settings.threshold:g}.")
    for name, value in (
        ("least area", settings.min_area_m2),
        ("simplification", settings.simplify_m),
        ("block size", settings.block_m),
    ):
        if not 0.0 <= value < float("inf"):
            raise JobError(f"A {name} of {value:g} makes no sense: give 0 or more.")
    if settings.block_m and settings.cut_px < _SMALLEST_BLOCK_PX:
        raise JobError(
            f"Blocks of {settings.block_m:g} m are smaller than {_SMALLEST_BLOCK_PX} pixels of the raster: "
            f"give at least {_SMALLEST_BLOCK_PX * settings.gsd_m:g} m, or 0 to cut nowhere."
        )
