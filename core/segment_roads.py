"""Roads of one raster: probabilities by a network, then polygons and centrelines."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cards import Card, Package, find_package
from .errors import GroundResolutionError, ModelError, RasterError
from .jobs import Event, Progress, Result, SegmentRoads, Warning
from .manifest import begin_manifest, describe_model
from .outputs import check_destinations, check_space
from .progress import Span, Stopwatch, plan_spans
from .road_steps import (
    check_parameters,
    choose_settings,
    destinations_of,
    has_layers,
    put_in_place,
    trace_roads,
)
from .runs import WorkFolder, file_identity, open_work
from .version import read_version

if TYPE_CHECKING:
    from .raster.grid import Grid
    from .raster.probability import ProbabilityTags
    from .raster.region import Region
    from .raster.source import RasterSource
    from .raster.tiling import TilePlan

TASK = "roads"
CLASS_NAME = "road"

_BEYOND_RANGE = 2.0  # resolutions up to this factor outside a model's range are run, with a warning
_LOOKS, _LOOK_PX = 4, 32  # windows along each axis, and their side
_CHUNK_BYTES = 16_000_000


def segment_roads(job: SegmentRoads) -> Generator[Event, None, None]:
    """Find the roads of a raster.

    Raises:
        AftermapError: What is wrong with the job, the raster, the model or the outputs, in one sentence.
    """
    from .raster.grid import plan_grid  # these load GDAL
    from .raster.region import plan_region
    from .raster.source import open_source
    from .raster.tiling import plan_tiles

    began = time.monotonic()
    check_parameters(job)
    destinations = destinations_of(job)
    check_destinations(destinations, (job.raster, job.aoi))
    package = choose_model(job)
    card = package.card
    with open_source(
        job.raster, bands=job.bands, band_count=len(card.bands), gsd_m=job.gsd_m, crs=job.crs
    ) as source:
        yield from (Warning(notice) for notice in source.notices)
        yield from _check_resolution(source, card)
        grid = plan_grid(source, card.gsd_m)
        yield from _check_content(source, grid)
        region = plan_region(
            grid, extent=job.extent, extent_crs=job.extent_crs, aoi=job.aoi, aoi_layer=job.aoi_layer
        )
        plan = plan_tiles(
            grid, region, tile_px=card.tile_px, margin_px=card.margin_px, stride_px=card.stride_px
        )
        settings = choose_settings(job, card.threshold, card.threshold_low)
        spans = _plan_spans(destinations)
        with open_work(_identity(job, card, source), cache=job.cache, resume=job.resume) as work:
            _check_scratch_space(work, grid, destinations)
            manifest = _begin(work, job) | {
                "model": describe_model(card),
                "settings": dataclasses.asdict(settings),
                "grid": _describe_grid(grid, source),
            }
            prediction = yield from _predict(job, package, source, grid, region, plan, work, spans)
            manifest["prediction"] = prediction
            tags = _tags(job, card, grid, settings.threshold, settings.threshold_low, manifest)
            probability = yield from _write_probability(work, grid, tags, destinations, spans)
            attributes = {"model": card.name, "source": tags.source, "date": tags.date[:10]}
            roads: dict[str, Any] = {}
            if has_layers(destinations):
                roads = yield from trace_roads(
                    work, probability, settings, attributes, destinations, spans["trace"]
                )
            manifest["roads"] = roads
            outputs = yield from put_in_place(work, manifest, destinations, spans["place"])
            work.discard()
    yield Result(
        outputs,
        {
            "threshold": settings.threshold,
            "uncertain_from": settings.uncertain_from,
            "model": card.name,
            **prediction,
            **roads,
            "seconds": round(time.monotonic() - began, 1),
        },
    )


def choose_model(job: SegmentRoads) -> Package:
    """The model that the job names, or the one that fits its raster best.

    Raises:
        ModelError: There is none, or it sees other bands than the job gives.
    """
    folders = [Path(folder) for folder in job.model_folders]
    if job.model:
        package = find_package(job.model, folders, TASK)
    else:
        from .raster.source import open_source  # loads GDAL

        with open_source(
            job.raster, bands=job.bands, band_count=len(job.bands) or 1, gsd_m=job.gsd_m, crs=job.crs
        ) as source:
            count = len(job.bands) or source.image_count
            package = find_package("", folders, TASK, count, _mean_gsd(source))
    wanted = package.card.bands
    if len(job.bands) not in (0, len(wanted)):
        raise ModelError(
            f"The model {package.card.name} sees {len(wanted)} bands ({', '.join(wanted)}) and "
            f"{len(job.bands)} were given: give as many, in this order, or choose another model."
        )
    return package


def _mean_gsd(source: RasterSource) -> float:
    x_m, y_m = source.gsd_m
    return math.sqrt(x_m * y_m)


def _check_resolution(source: RasterSource, card: Card) -> Iterator[Warning]:
    gsd_m = _mean_gsd(source)
    finest, coarsest = card.gsd_range_m
    fact = (
        f"The pixels of {source.path} measure {gsd_m:.3g} m on the ground, and the model {card.name} was "
        f"made for {finest:g} to {coarsest:g} m"
    )
    if not finest / _BEYOND_RANGE <= gsd_m <= coarsest * _BEYOND_RANGE:
        raise GroundResolutionError(f"{fact}: choose another model, or other imagery.")
    if not finest <= gsd_m <= coarsest:
        yield Warning(f"{fact}: look at the result with care.")


def _check_content(source: RasterSource, grid: Grid) -> Iterator[Warning]:
    """Look at a few windows: a raster that shows nothing is most often the wrong one."""
    seen: set[tuple[float, ...]] = set()
    for i in range(_LOOKS):
        for j in range(_LOOKS):
            row, col = (grid.height * (2 * i + 1)) // (2 * _LOOKS), (grid.width * (2 * j + 1)) // (2 * _LOOKS)
            image, valid = source.read(grid, row - _LOOK_PX // 2, col - _LOOK_PX // 2, _LOOK_PX, _LOOK_PX)
            seen.update(map(tuple, image[:, valid].T.tolist()))
            if len(seen) > 1:
                return
    if seen:
        yield Warning(
            f"{source.path} looks the same everywhere: is it the right raster, with the right bands?"
        )


def _plan_spans(destinations: dict[str, Path]) -> dict[str, Span]:
    weights = {"load": 0.03, "predict": 0.77, "raster": 0.04, "trace": 0.13, "place": 0.03}
    if "probability" not in destinations:
        del weights["raster"]
    if not has_layers(destinations):
        del weights["trace"]
    return plan_spans(weights)


def _identity(job: SegmentRoads, card: Card, source: RasterSource) -> dict[str, Any]:
    """What decides the probabilities; the rest of the job may change without their being computed anew."""
    return {
        "flow": "segment_roads",
        "version": read_version(),
        "raster": file_identity(job.raster),
        "card": hashlib.sha256(card.to_json().encode()).hexdigest(),
        "bands": source.bands,
        "gsd_m": job.gsd_m,
        "crs": job.crs,
        "extent": job.extent,
        "extent_crs": job.extent_crs,
        "aoi": file_identity(job.aoi) if job.aoi else None,
        "aoi_layer": job.aoi_layer,
        "device": job.device,
    }


def _check_scratch_space(work: WorkFolder, grid: Grid, destinations: dict[str, Path]) -> None:
    """The rows are as large as the grid; a Cloud-Optimised GeoTIFF of them takes about as much at worst."""
    raster_bytes = grid.width * grid.height
    copies = 2 if "probability" in destinations else 1
    there = sum(entry.stat().st_size for entry in work.path.iterdir() if entry.is_file())
    check_space(work.path, raster_bytes * copies - there)
    if "probability" in destinations:
        check_space(destinations["probability"].parent, raster_bytes // 10)


def _begin(work: WorkFolder, job: SegmentRoads) -> dict[str, Any]:
    """The manifest so far; a run that is resumed began when it first did."""
    manifest = begin_manifest(job, {"raster": job.raster, "area_of_interest": job.aoi})
    first = work.facts("begin", {})
    if first is None:
        work.mark("begin", {}, {"started": manifest["started"]})
        return manifest
    return manifest | first


def _describe_grid(grid: Grid, source: RasterSource) -> dict[str, Any]:
    return {
        "width": grid.width,
        "height": grid.height,
        "transform": tuple(grid.transform)[:6],
        "crs": grid.crs.to_wkt() if grid.crs is not None else "",
        "gsd_m": grid.gsd_m,
        "source_gsd_m": source.gsd_m,
        "source_bands": source.bands,
    }


def _predict(
    job: SegmentRoads,
    package: Package,
    source: RasterSource,
    grid: Grid,
    region: Region,
    plan: TilePlan,
    work: WorkFolder,
    spans: dict[str, Span],
) -> Generator[Progress, None, dict[str, Any]]:
    """Run the network over the raster, unless an earlier run has finished that.

    Returns:
        Device, precision and tiles.
    """
    known = work.facts("prediction", {})
    if known is not None:
        return known
    yield spans["load"].at(0.0, f"Loading the model {package.card.name}")
    from .inference.pipeline import predict_raster
    from .networks.segmenter import load_segmenter  # loads torch: seconds

    segmenter = load_segmenter(package, job.device)
    network = {"device": segmenter.device, "precision": segmenter.precision}
    heads = [segmenter.heads.index(CLASS_NAME)]
    clock: Stopwatch | None = None
    run = predict_raster(source, grid, region, plan, segmenter, work.path, heads=heads, job_key=work.key)
    for tile in run:
        clock = clock or Stopwatch(tile.tiles_done)
        parts = [f"Segmenting: tile {tile.tiles_done} of {tile.tiles_total}"]
        if tile.megapixels:
            parts.append(f"{tile.megapixels / clock.seconds:.2g} megapixels/s")
        if left := clock.time_left(tile.tiles_done, tile.tiles_total):
            parts.append(left)
        yield spans["predict"].at(tile.tiles_done / max(1, tile.tiles_total), ", ".join(parts))
    if not _has_valid_pixel(work):
        work.discard()
        raise RasterError(
            f"{job.raster} has no valid pixel where the run looks: check its nodata value and the extent."
        )
    prediction = {**network, "tiles": len(plan)}
    work.mark("prediction", {}, prediction)
    return prediction


def _has_valid_pixel(work: WorkFolder) -> bool:
    from .inference.pipeline import rows_file
    from .raster.probability import NODATA

    nothing = bytes([NODATA]) * _CHUNK_BYTES
    with rows_file(work.path).open("rb") as rows:
        while chunk := rows.read(_CHUNK_BYTES):
            if chunk != nothing[: len(chunk)]:
                return True
    return False


def _tags(
    job: SegmentRoads,
    card: Card,
    grid: Grid,
    threshold: float,
    threshold_low: float | None,
    manifest: dict[str, Any],
) -> ProbabilityTags:
    from .raster.probability import ProbabilityTags

    return ProbabilityTags(
        task=card.task,
        class_name=CLASS_NAME,
        gsd_m=grid.gsd_m,
        threshold=threshold,
        threshold_low=threshold_low,
        model=card.name,
        model_sha256=card.weights_sha256,
        source=job.source or Path(job.raster).name,
        date=manifest["started"],
        manifest=manifest,
    )


def _write_probability(
    work: WorkFolder,
    grid: Grid,
    tags: ProbabilityTags,
    destinations: dict[str, Path],
    spans: dict[str, Span],
) -> Generator[Progress, None, Path]:
    """Describe the rows as a raster, and copy them to a Cloud-Optimised GeoTIFF if that is wanted.

    Returns:
        A raster of the probabilities, for tracing.
    """
    from .inference.pipeline import rows_file
    from .raster.probability import write_cog, write_vrt

    rows = rows_file(work.path)
    described = write_vrt(rows, grid, tags)
    if "probability" in destinations:
        made = work.path / f"probability{destinations['probability'].suffix.lower()}"
        parameters = tags.to_tags()
        if work.facts("raster", parameters) is None or not made.exists():
            yield spans["raster"].at(0.0, "Writing the probability raster")
            write_cog(rows, grid, made, tags)
            work.mark("raster", parameters, {})
    return described
