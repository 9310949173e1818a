"""The steps that the runs which make road layers share: settings, destinations, tracing."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .jobs import Progress, SegmentRoads, VectorizeProbabilities
from .progress import Span
from .raster_steps import (
    begin_of_uncertain,
    check_not_negative,
    check_threshold,
    follow_windows,
    name_destinations,
)
from .runs import WorkFolder

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
        return begin_of_uncertain(self.threshold)


def check_parameters(job: RoadJob) -> None:
    """Refuse numbers that make no sense before anything is opened.

    Raises:
        JobError: One is out of its range.
    """
    check_threshold(job.threshold)
    check_not_negative(
        smallest_area=job.min_area_m2, tolerance_of_simplification=job.simplify_m, block_size=job.block_m
    )


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
    outputs = {
        "probability": job.output_probability if isinstance(job, SegmentRoads) else "",
        "polygons": job.output_polygons,
        "centrelines": job.output_centrelines,
    }
    return name_destinations(outputs, _ENDINGS, "roads")


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
    summary = dataclasses.asdict((yield from follow_windows(blocks, span, "Tracing roads")))
    work.mark("vectors", parameters, summary)
    return summary
