"""The steps that the runs on one raster share, from the choice of a model to the files in their places."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .cards import Card, Package, find_package
from .errors import GroundResolutionError, JobError, ModelError, RasterError
from .jobs import AssessDamage, DetectBuildings, Job, Partial, Progress, SegmentRoads, Warning
from .manifest import begin_manifest, embed_in_geopackage, now, write_manifest
from .outputs import Output, check_space, commit
from .progress import Span, Stopwatch, plan_spans
from .runs import WorkFolder, file_identity
from .version import read_version

if TYPE_CHECKING:
    from .raster.grid import Grid
    from .raster.probability import ProbabilityTags
    from .raster.region import Region
    from .raster.source import RasterSource, TileSource
    from .raster.tiling import TilePlan
    from .vector.windows import BlockProgress

RasterJob = SegmentRoads | DetectBuildings

_BEYOND_RANGE = 2.0  # resolutions up to this factor outside a model's range are run, with a warning
_LOOKS, _LOOK_PX = 4, 32  # windows along each axis, and their side
_CHUNK_BYTES = 16_000_000
_LAYER_SUFFIX = ".gpkg"

_Summary = TypeVar("_Summary")


@dataclass(frozen=True)
class Scene:
    """A raster and the model that will look at it.

    Attributes:
        package: The model.
        source: The raster, open.
        grid: Where the model's pixels lie.
        region: What is wanted of it.
        plan: The tiles.
    """

    package: Package
    source: TileSource
    grid: Grid
    region: Region
    plan: TilePlan

    @property
    def card(self) -> Card:
        """Of the model."""
        return self.package.card


# ------------------------------------------------------------------------------------- before the run


def check_threshold(threshold: float | None) -> None:
    """Refuse a threshold that makes no sense.

    Raises:
        JobError: It is no probability.
    """
    if threshold is not None and not 0.0 < threshold < 1.0:
        raise JobError(f"A threshold of {threshold} makes no sense: give a probability between 0 and 1.")


def check_not_negative(**values: float) -> None:
    """Refuse sizes that make no sense; the names, with spaces for underscores, are what the user reads.

    Raises:
        JobError: One is negative or no number.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0.0):
            raise JobError(f"A {name.replace('_', ' ')} of {value} makes no sense: give 0 or more.")


def begin_of_uncertain(threshold: float) -> float:
    """Probability at which the uncertain band begins; it ends at the threshold."""
    return min(0.2, threshold / 2.0)


def name_destinations(outputs: Mapping[str, str], endings: Sequence[str], what: str) -> dict[str, Path]:
    """Name of each output that is wanted to its path; the manifest lies beside the first.

    Args:
        outputs: Name of each output to its path; empty: it is not wanted.
        endings: What the names of files end in, left out of the manifest's name.
        what: What the manifest's name says that was found.

    Raises:
        JobError: None is wanted.
    """
    wanted = {name: Path(path) for name, path in outputs.items() if path}
    if not wanted:
        raise JobError("The run would write nothing: name at least one output.")
    first = next(iter(wanted.values()))
    stem = first.stem
    for ending in endings:
        stem = stem.removesuffix(ending)
    return {**wanted, "manifest": first.with_name(f"{stem}_{what}.manifest.json")}


def choose_model(job: RasterJob, *, task: str = "", head: str = "", prefers: str = "") -> Package:
    """The model that the job names, or the one that fits its raster best.

    Args:
        job: What was asked for.
        task: As in `find_package`.
        head: Likewise.
        prefers: Likewise.

    Raises:
        ModelError: There is none, or it sees other bands than the job gives.
    """
    folders = [Path(folder) for folder in job.model_folders]
    if job.model:
        package = find_package(job.model, folders, task, head=head)
    else:
        from .raster.source import open_source  # loads GDAL

        with open_source(
            job.raster, bands=job.bands, band_count=len(job.bands) or 1, gsd_m=job.gsd_m, crs=job.crs
        ) as source:
            count = len(job.bands) or source.image_count
            package = find_package("", folders, task, count, mean_gsd(source), head=head, prefers=prefers)
    wanted = package.card.bands
    if len(job.bands) not in (0, len(wanted)):
        raise ModelError(
            f"The model {package.card.name} sees {len(wanted)} bands ({', '.join(wanted)}) and "
            f"{len(job.bands)} were given: give as many, in this order, or choose another model."
        )
    return package


def mean_gsd(source: RasterSource) -> float:
    """Side of a square as large as a pixel, in metres."""
    x_m, y_m = source.gsd_m
    return math.sqrt(x_m * y_m)


def prepare_scene(job: RasterJob, package: Package, source: RasterSource) -> Generator[Warning, None, Scene]:
    """Check whether a raster is one for the model, and plan where the model looks.

    Raises:
        AftermapError: What does not fit, in one sentence.
    """
    from .raster.grid import plan_grid  # loads GDAL

    card = package.card
    yield from (Warning(notice) for notice in source.notices)
    yield from check_resolution(source, card)
    grid = plan_grid(source, card.gsd_m)
    yield from check_content(source, grid)
    return plan_scene(job, package, source, grid)


def plan_scene(job: RasterJob | AssessDamage, package: Package, source: TileSource, grid: Grid) -> Scene:
    """Plan where the model looks.

    Args:
        job: Says within what.
        package: The model.
        source: The raster.
        grid: Where the model's pixels lie.

    Raises:
        JobError, VectorError: As `raster.region.plan_region`.
    """
    from .raster.region import plan_region  # these load GDAL
    from .raster.tiling import plan_tiles

    card = package.card
    region = plan_region(
        grid, extent=job.extent, extent_crs=job.extent_crs, aoi=job.aoi, aoi_layer=job.aoi_layer
    )
    plan = plan_tiles(grid, region, tile_px=card.tile_px, margin_px=card.margin_px, stride_px=card.stride_px)
    return Scene(package, source, grid, region, plan)


def check_resolution(source: RasterSource, card: Card) -> Iterator[Warning]:
    """Warn of a resolution for which the model was not made.

    Raises:
        GroundResolutionError: It is far off.
    """
    gsd_m = mean_gsd(source)
    finest, coarsest = card.gsd_range_m
    fact = (
        f"The pixels of {source.path} measure {gsd_m:.3g} m on the ground, and the model {card.name} was "
        f"made for {finest:g} to {coarsest:g} m"
    )
    if not finest / _BEYOND_RANGE <= gsd_m <= coarsest * _BEYOND_RANGE:
        raise GroundResolutionError(f"{fact}: choose another model, or other imagery.")
    if not finest <= gsd_m <= coarsest:
        yield Warning(f"{fact}: look at the result with care.")


def check_content(source: RasterSource, grid: Grid) -> Iterator[Warning]:
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


def plan_steps(destinations: Mapping[str, Path]) -> dict[str, Span]:
    """The parts of a run's progress: ``load``, ``predict``, ``raster``, ``trace`` and ``place``."""
    weights = {"load": 0.03, "predict": 0.77, "raster": 0.04, "trace": 0.13, "place": 0.03}
    if "probability" not in destinations:
        del weights["raster"]
    if not has_layers(destinations):
        del weights["trace"]
    return plan_spans(weights)


def has_layers(destinations: Mapping[str, Path]) -> bool:
    """Whether vector layers are wanted."""
    return any(path.suffix.lower() == _LAYER_SUFFIX for path in destinations.values())


def prediction_identity(flow: str, job: RasterJob, scene: Scene) -> dict[str, Any]:
    """What decides the probabilities; the rest of the job may change without their being computed anew."""
    return {
        "flow": flow,
        "version": read_version(),
        "raster": file_identity(job.raster),
        "card": hashlib.sha256(scene.card.to_json().encode()).hexdigest(),
        "bands": scene.source.bands,
        "gsd_m": job.gsd_m,
        "crs": job.crs,
        "extent": job.extent,
        "extent_crs": job.extent_crs,
        "aoi": file_identity(job.aoi) if job.aoi else None,
        "aoi_layer": job.aoi_layer,
        "device": job.device,
    }


def check_scratch_space(
    work: WorkFolder,
    grid: Grid,
    destinations: Mapping[str, Path],
    *,
    output: str = "probability",
    heads: int = 1,
) -> None:
    """Find out whether there is room: for rows as large as the grid, and as much again for a raster of them.

    Raises:
        OutputError: There is not.
    """
    raster_bytes = grid.width * grid.height * heads
    copies = 2 if output in destinations else 1
    there = sum(entry.stat().st_size for entry in work.path.iterdir() if entry.is_file())
    check_space(work.path, raster_bytes * copies - there)
    if output in destinations:
        check_space(destinations[output].parent, raster_bytes // 10)


# ------------------------------------------------------------------------------------------ the steps


def open_manifest(work: WorkFolder, job: Job, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The manifest so far; a run that is resumed began when it first did.

    Args:
        work: Of the run.
        job: As in `begin_manifest`.
        inputs: Likewise.
    """
    manifest = begin_manifest(job, inputs)
    first = work.facts("begin", {})
    if first is None:
        work.mark("begin", {}, {"started": manifest["started"]})
        return manifest
    return manifest | first


def describe_grid(grid: Grid, source: RasterSource) -> dict[str, Any]:
    """Where the probabilities lie, for the manifest."""
    return {
        "width": grid.width,
        "height": grid.height,
        "transform": tuple(grid.transform)[:6],
        "crs": grid.crs.to_wkt() if grid.crs is not None else "",
        "gsd_m": grid.gsd_m,
        "source_gsd_m": source.gsd_m,
        "source_bands": source.bands,
    }


def predict(
    job: RasterJob,
    scene: Scene,
    heads: Sequence[str],
    work: WorkFolder,
    spans: Mapping[str, Span],
    *,
    may_be_empty: bool = False,
    preview: Callable[[int], Iterable[Partial]] | None = None,
) -> Generator[Progress | Partial, None, dict[str, Any]]:
    """Run the network over the raster, unless an earlier run has finished that.

    Args:
        job: What was asked for.
        scene: Where.
        heads: Those of the network whose probabilities are wanted.
        work: Gets the rows.
        spans: Of the run: ``load`` and ``predict``.
        may_be_empty: Whether a raster that shows nothing is an answer.
        preview: Told how many rows of the grid are on the disk, again and again until all are; what it makes
            of them is passed on.

    Returns:
        Device, precision and tiles.

    Raises:
        RasterError: The raster has nothing to look at.
    """
    known = work.facts("prediction", {})
    if known is not None:
        return known
    yield spans["load"].at(0.0, f"Loading the model {scene.card.name}")
    from .inference.pipeline import predict_raster
    from .networks.segmenter import load_segmenter  # loads torch: seconds

    segmenter = load_segmenter(scene.package, job.device)
    network = {"device": segmenter.device, "precision": segmenter.precision}
    run = predict_raster(
        scene.source,
        scene.grid,
        scene.region,
        scene.plan,
        segmenter,
        work.path,
        heads=[segmenter.heads.index(head) for head in heads],
        job_key=work.key,
    )
    clock: Stopwatch | None = None
    for tile in run:
        clock = clock or Stopwatch(tile.tiles_done)
        parts = [f"Segmenting: tile {tile.tiles_done} of {tile.tiles_total}"]
        if tile.megapixels:
            parts.append(f"{tile.megapixels / clock.seconds:.2g} megapixels/s")
        if left := clock.time_left(tile.tiles_done, tile.tiles_total):
            parts.append(left)
        yield spans["predict"].at(tile.tiles_done / max(1, tile.tiles_total), ", ".join(parts))
        if preview is not None and tile.tiles_done < tile.tiles_total:
            yield from preview(tile.rows_done)
    if not may_be_empty and not _has_valid_pixel(work):
        work.discard()
        raise RasterError(
            f"{job.raster} has no valid pixel where the run looks: check its nodata value and the extent, "
            "and whether it shows only cloud or deep shadow there."
        )
    prediction = {**network, "tiles": len(scene.plan)}
    work.mark("prediction", {}, prediction)
    return prediction


def describe_rows(work: WorkFolder, grid: Grid, bands: Sequence[str], rows_done: int) -> Path:
    """Describe the first rows of an unfinished prediction as a raster.

    Args:
        work: Holds the rows.
        grid: Of all rows.
        bands: Name of each band.
        rows_done: How many rows are on the disk.

    Returns:
        A raster as wide as the grid, and so many rows high; `write_probability` replaces it.
    """
    from .inference.pipeline import rows_file
    from .raster.probability import write_vrt

    return write_vrt(rows_file(work.path), replace(grid, height=rows_done), bands=bands)


def _has_valid_pixel(work: WorkFolder) -> bool:
    from .inference.pipeline import rows_file
    from .raster.probability import NODATA

    nothing = bytes([NODATA]) * _CHUNK_BYTES
    with rows_file(work.path).open("rb") as rows:
        while chunk := rows.read(_CHUNK_BYTES):
            if chunk != nothing[: len(chunk)]:
                return True
    return False


def describe_probability(
    job: RasterJob,
    scene: Scene,
    *,
    task: str,
    class_name: str,
    threshold: float,
    threshold_low: float | None,
    manifest: dict[str, Any],
) -> ProbabilityTags:
    """What the probability raster of a run says about itself."""
    from .raster.probability import ProbabilityTags

    return ProbabilityTags(
        task=task,
        class_name=class_name,
        gsd_m=scene.grid.gsd_m,
        threshold=threshold,
        threshold_low=threshold_low,
        model=scene.card.name,
        model_sha256=scene.card.weights_sha256,
        source=job.source or Path(job.raster).name,
        date=manifest["started"],
        manifest=manifest,
    )


def write_probability(
    work: WorkFolder,
    grid: Grid,
    tags: ProbabilityTags,
    destinations: Mapping[str, Path],
    spans: Mapping[str, Span],
    *,
    output: str = "probability",
    bands: Sequence[str] = ("",),
) -> Generator[Progress, None, Path]:
    """Describe the rows as a raster, and copy them to a Cloud-Optimised GeoTIFF if that is wanted.

    Args:
        work: Holds the rows.
        grid: Where they lie.
        tags: What they are.
        destinations: Of the run.
        spans: Of the run: ``raster``, if it is wanted.
        output: Name of the raster among the destinations.
        bands: Name of each band.

    Returns:
        A raster of the probabilities, for tracing.
    """
    from .inference.pipeline import rows_file
    from .raster.probability import write_cog, write_vrt

    rows = rows_file(work.path)
    described = write_vrt(rows, grid, tags, bands)
    if output in destinations:
        made = work.path / f"{output}{destinations[output].suffix.lower()}"
        parameters = tags.to_tags()
        if work.facts("raster", parameters) is None or not made.exists():
            yield spans["raster"].at(0.0, "Writing the probability raster")
            write_cog(rows, grid, made, tags, bands)
            work.mark("raster", parameters, {})
    return described


def follow_windows(
    windows: Generator[BlockProgress, None, _Summary], span: Span, message: str
) -> Generator[Progress, None, _Summary]:
    """Run what vectorises window by window, and say how far it is.

    Returns:
        What it returns.
    """
    try:
        while True:
            window = next(windows)
            share = window.done / max(1, window.total)
            yield span.at(share, f"{message}: part {window.done} of {window.total}")
    except StopIteration as end:
        summary: _Summary = end.value
        return summary
    finally:
        windows.close()


def put_in_place(
    work: WorkFolder, manifest: dict[str, Any], destinations: Mapping[str, Path], span: Span
) -> Generator[Progress, None, dict[str, str]]:
    """Complete the manifest, write it beside and into the outputs, and move all of them to their places.

    Args:
        work: Holds the finished outputs under their names.
        manifest: Gets the time of its end.
        destinations: Of the run.
        span: Of this step.

    Returns:
        Name of each output to its path.
    """
    message = "Putting the files in their places"
    yield span.at(0.0, message)
    paths = {name: str(path) for name, path in destinations.items()}
    manifest |= {"finished": now(), "outputs": paths}
    made = {name: work.path / f"{name}{path.suffix.lower()}" for name, path in destinations.items()}
    for path in made.values():
        if path.suffix == _LAYER_SUFFIX:
            embed_in_geopackage(path, manifest)
    write_manifest(made["manifest"], manifest)
    for share in commit([Output(made[name], path) for name, path in destinations.items()], work.key):
        yield span.at(share, message)
    return paths
