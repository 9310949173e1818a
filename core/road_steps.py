"""The steps that the runs which make road layers share: checking, tracing, putting files in their places."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import JobError
from .jobs import Progress, SegmentRoads, VectorizeProbabilities
from .manifest import embed_in_geopackage, now, write_manifest
from .outputs import Output, commit
from .progress import Span
from .runs import WorkFolder

if TYPE_CHECKING:
    from .vector.road_layers import BlockProgress, RoadSummary

RoadJob = SegmentRoads | VectorizeProbabilities

_ENDINGS = ("_road_probability", "_road_polygons", "_road_centrelines")
_LAYERS = ("polygons", "centrelines")


@dataclass(frozen=True)
class VectorSettings:
    """How roads are made from probabilities; fields as in `SegmentRoads`.

    Attributes:
        threshold: Probability from which a pixel is road.
        threshold_low: Hysteresis: pixels from here on are road where they hang on one over `threshold`.
        min_area_m2: Smallest polygon.
        simplify_m: Tolerance of the simplification.
        block_m: Side of the ground blocks.
    """

    threshold: float
    threshold_low: float | None
    min_area_m2: float
    simplify_m: float
    block_m: float

    @property
    def uncertain_from(self) -> float:
        """Probability at which the uncertain band begins; it ends at the threshold."""
        return min(0.2, self.threshold / 2.0)


def check_parameters(job: RoadJob) -> None:
    """Refuse numbers that make no sense before anything is opened.

    Raises:
        JobError: One is out of its range.
    """
    if job.threshold is not None and not 0.0 < job.threshold < 1.0:
        raise JobError(f"A threshold of {job.threshold} makes no sense: give a probability between 0 and 1.")
    for name, value in (
        ("smallest area", job.min_area_m2),
        ("tolerance of simplification", job.simplify_m),
        ("block size", job.block_m),
    ):
        if not (math.isfinite(value) and value >= 0.0):
            raise JobError(f"A {name} of {value} makes no sense: give 0 or more.")


def choose_settings(job: RoadJob, threshold: float, threshold_low: float | None) -> VectorSettings:
    """The job's settings, with the model's thresholds where it states none.

    Where it states one, the lower threshold of the hysteresis keeps its ratio to the upper.
    """
    chosen = threshold if job.threshold is None else job.threshold
    low = None if threshold_low is None else threshold_low * (chosen / threshold)
    return VectorSettings(chosen, low, job.min_area_m2, job.simplify_m, job.block_m)


def destinations_of(job: RoadJob) -> dict[str, Path]:
    """Name of each output that is wanted to its path; the manifest lies beside the first.

    Raises:
        JobError: None is wanted.
    """
    stated = {
        "probability": job.output_probability if isinstance(job, SegmentRoads) else "",
        "polygons": job.output_polygons,
        "centrelines": job.output_centrelines,
    }
    wanted = {name: Path(path) for name, path in stated.items() if path}
    if not wanted:
        raise JobError("The run would write nothing: name at least one output.")
    first = next(iter(wanted.values()))
    stem = first.stem
    for ending in _ENDINGS:
        stem = stem.removesuffix(ending)
    return {**wanted, "manifest": first.with_name(f"{stem}_roads.manifest.json")}


def has_layers(destinations: Mapping[str, Path]) -> bool:
    """Whether vector layers are wanted."""
    return any(name in destinations for name in _LAYERS)


def trace_roads(
    work: WorkFolder,
    probability: Path,
    settings: VectorSettings,
    attributes: Mapping[str, str],
    destinations: Mapping[str, Path],
    span: Span,
) -> Generator[Progress, None, dict[str, Any]]:
    """Make the vector layers that are wanted, in the work folder, unless an earlier run has made them.

    Args:
        work: Of the run.
        probability: What is traced.
        settings: How.
        attributes: Of each feature: ``model``, ``source``, ``date``.
        destinations: Of the run.
        span: Of this step.

    Returns:
        Counts, area and length.
    """
    made = {name: work.path / f"{name}.gpkg" for name in _LAYERS if name in destinations}
    parameters = {**dataclasses.asdict(settings), **attributes, "layers": sorted(made)}
    known = work.facts("vectors", parameters)
    if known is not None and all(path.exists() for path in made.values()):
        return known
    yield span.at(0.0, "Tracing roads")
    from .vector.road_layers import vectorize_roads  # loads GDAL, GEOS, scikit-image

    for path in made.values():
        path.unlink(missing_ok=True)
    blocks = vectorize_roads(
        probability,
        **dataclasses.asdict(settings),
        polygons=made.get("polygons"),
        centrelines=made.get("centrelines"),
        attributes=attributes,
    )
    summary = dataclasses.asdict((yield from _tell(blocks, span)))
    work.mark("vectors", parameters, summary)
    return summary


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
    for name in _LAYERS:
        if name in made:
            embed_in_geopackage(made[name], manifest)
    write_manifest(made["manifest"], manifest)
    for share in commit([Output(made[name], path) for name, path in destinations.items()], work.key):
        yield span.at(share, message)
    return paths


def _tell(
    blocks: Generator[BlockProgress, None, RoadSummary], span: Span
) -> Generator[Progress, None, RoadSummary]:
    try:
        while True:
            block = next(blocks)
            share = block.done / max(1, block.total)
            yield span.at(share, f"Tracing roads: part {block.done} of {block.total}")
    except StopIteration as end:
        summary: RoadSummary = end.value
        return summary
    finally:
        blocks.close()
