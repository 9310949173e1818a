"""Buildings of one raster: probabilities by a network, then one polygon a building."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cards import threshold_of
from .jobs import DetectBuildings, Event, Progress, Result
from .manifest import describe_model
from .outputs import check_destinations
from .progress import Span
from .raster_steps import (
    begin_of_uncertain,
    check_not_negative,
    check_scratch_space,
    check_threshold,
    choose_model,
    describe_grid,
    describe_probability,
    follow_windows,
    has_layers,
    name_destinations,
    open_manifest,
    plan_steps,
    predict,
    prediction_identity,
    prepare_scene,
    put_in_place,
    write_probability,
)
from .runs import WorkFolder, open_work

TASK = "buildings"
CLASS_NAME = "building"

_ENDINGS = ("_building_probability", "_buildings")
_LAYER = "buildings"


@dataclass(frozen=True)
class BuildingSettings:
    """How buildings are made from probabilities; fields as in `DetectBuildings`.

    Attributes:
        threshold: Probability from which a pixel is building.
        min_area_m2: Smallest building.
        regularize: Straighten outlines.
    """

    threshold: float
    min_area_m2: float
    regularize: bool


def detect_buildings(job: DetectBuildings) -> Generator[Event, None, None]:
    """Find the buildings of a raster.

    Any model whose network has an output for buildings will do; those that are made for them come first.

    Raises:
        AftermapError: What is wrong with the job, the raster, the model or the outputs, in one sentence.
    """
    from .raster.source import open_source  # loads GDAL

    began = time.monotonic()
    check_threshold(job.threshold)
    check_not_negative(smallest_area=job.min_area_m2)
    destinations = name_destinations(
        {"probability": job.output_probability, _LAYER: job.output_buildings}, _ENDINGS, TASK
    )
    check_destinations(destinations, (job.raster, job.aoi))
    package = choose_model(job, head=CLASS_NAME, prefers=TASK)
    card = package.card
    with open_source(
        job.raster, bands=job.bands, band_count=len(card.bands), gsd_m=job.gsd_m, crs=job.crs
    ) as source:
        scene = yield from prepare_scene(job, package, source)
        threshold = threshold_of(card, CLASS_NAME) if job.threshold is None else job.threshold
        settings = BuildingSettings(threshold, job.min_area_m2, job.regularize)
        spans = plan_steps(destinations)
        identity = prediction_identity("detect_buildings", job, scene)
        with open_work(identity, cache=job.cache, resume=job.resume) as work:
            check_scratch_space(work, scene.grid, destinations)
            manifest = open_manifest(work, job, {"raster": job.raster, "area_of_interest": job.aoi}) | {
                "model": describe_model(card),
                "settings": dataclasses.asdict(settings),
                "grid": describe_grid(scene.grid, source),
            }
            prediction = yield from predict(job, scene, [CLASS_NAME], work, spans)
            manifest["prediction"] = prediction
            tags = describe_probability(
                job,
                scene,
                task=TASK,
                class_name=CLASS_NAME,
                threshold=threshold,
                threshold_low=None,
                manifest=manifest,
            )
            probability = yield from write_probability(work, scene.grid, tags, destinations, spans)
            attributes = {"model": card.name, "source": tags.source, "date": tags.date[:10]}
            buildings: dict[str, Any] = {}
            if has_layers(destinations):
                buildings = yield from outline_buildings(
                    work, probability, settings, attributes, spans["trace"]
                )
            manifest[_LAYER] = buildings
            outputs = yield from put_in_place(work, manifest, destinations, spans["place"])
            work.discard()
    yield Result(
        outputs,
        {
            "threshold": threshold,
            "uncertain_from": begin_of_uncertain(threshold),
            "model": card.name,
            **prediction,
            **buildings,
            "seconds": round(time.monotonic() - began, 1),
        },
    )


def outline_buildings(
    work: WorkFolder,
    probability: Path,
    settings: BuildingSettings,
    attributes: Mapping[str, str],
    span: Span,
) -> Generator[Progress, None, dict[str, Any]]:
    """Make the layer of buildings in the work folder, unless an earlier run has made it.

    Args:
        work: Of the run; the layer is ``buildings.gpkg`` in it.
        probability: Raster whose first band is the probability of buildings.
        settings: How.
        attributes: Of each building: ``model``, ``source``, ``date``.
        span: Of this step.

    Returns:
        Count and area.
    """
    made = work.path / f"{_LAYER}.gpkg"
    parameters = {**dataclasses.asdict(settings), **attributes}
    known = work.facts(_LAYER, parameters)
    if known is not None and made.exists():
        return known
    yield span.at(0.0, "Outlining buildings")
    from .vector.buildings import vectorize_buildings  # loads GDAL, GEOS, scikit-image

    windows = vectorize_buildings(
        probability, **dataclasses.asdict(settings), buildings=made, attributes=attributes
    )
    summary = dataclasses.asdict((yield from follow_windows(windows, span, "Outlining buildings")))
    work.mark(_LAYER, parameters, summary)
    return summary
