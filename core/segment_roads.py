"""Roads of one raster: probabilities by a network, then polygons and centrelines."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator
from typing import Any

from .jobs import Event, Result, SegmentRoads
from .manifest import describe_model
from .outputs import check_destinations
from .raster_steps import (
    check_scratch_space,
    choose_model,
    describe_grid,
    describe_probability,
    has_layers,
    open_manifest,
    plan_steps,
    predict,
    prediction_identity,
    prepare_scene,
    put_in_place,
    write_probability,
)
from .road_steps import check_parameters, choose_settings, destinations_of, trace_roads
from .runs import open_work

TASK = "roads"
CLASS_NAME = "road"


def segment_roads(job: SegmentRoads) -> Generator[Event, None, None]:
    """Find the roads of a raster.

    Raises:
        AftermapError: What is wrong with the job, the raster, the model or the outputs, in one sentence.
    """
    from .raster.source import open_source  # loads GDAL

    began = time.monotonic()
    check_parameters(job)
    destinations = destinations_of(job)
    check_destinations(destinations, (job.raster, job.aoi))
    package = choose_model(job, task=TASK)
    card = package.card
    with open_source(
        job.raster, bands=job.bands, band_count=len(card.bands), gsd_m=job.gsd_m, crs=job.crs
    ) as source:
        scene = yield from prepare_scene(job, package, source)
        settings = choose_settings(job, card.threshold, card.threshold_low)
        spans = plan_steps(destinations)
        identity = prediction_identity("segment_roads", job, scene)
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
                threshold=settings.threshold,
                threshold_low=settings.threshold_low,
                manifest=manifest,
            )
            probability = yield from write_probability(work, scene.grid, tags, destinations, spans)
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
