"""Road polygons and centrelines from a probability raster, at any threshold, without the network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator
from pathlib import Path

from .errors import RasterError
from .jobs import Event, Result, VectorizeProbabilities
from .manifest import begin_manifest
from .outputs import check_destinations
from .progress import plan_spans
from .raster_steps import put_in_place
from .road_steps import check_parameters, choose_settings, destinations_of, trace_roads
from .runs import file_identity, open_work
from .segment_roads import CLASS_NAME
from .version import read_version


def vectorize_probabilities(job: VectorizeProbabilities) -> Generator[Event, None, None]:
    """Make road layers anew from a raster that `segment_roads` wrote.

    Raises:
        JobError: A parameter makes no sense.
        RasterError: The raster is not one of Aftermap's probabilities.
        OutputError: An output cannot be written.
    """
    from .raster.probability import read_tags  # loads GDAL

    began = time.monotonic()
    check_parameters(job)
    destinations = destinations_of(job)
    check_destinations(destinations, (job.probability,))
    tags = read_tags(Path(job.probability))
    if tags.class_name != CLASS_NAME:
        raise RasterError(
            f"{job.probability} holds probabilities of the class {tags.class_name}, not of roads: choose a "
            "probability raster that Segment Roads wrote."
        )
    settings = choose_settings(job, tags.threshold, tags.threshold_low)
    spans = plan_spans({"trace": 0.97, "place": 0.03})
    identity = {
        "flow": "vectorize_probabilities",
        "version": read_version(),
        "probability": file_identity(job.probability),
        "settings": dataclasses.asdict(settings),
    }
    with open_work(identity, cache=job.cache) as work:
        manifest = begin_manifest(job, {"probability": job.probability}) | {
            "model": {"name": tags.model, "sha256": tags.model_sha256},
            "settings": dataclasses.asdict(settings),
            "prediction": tags.manifest,
        }
        attributes = {"model": tags.model, "source": tags.source, "date": tags.date[:10]}
        probability = Path(job.probability)
        roads = yield from trace_roads(work, probability, settings, attributes, destinations, spans["trace"])
        manifest["roads"] = roads
        outputs = yield from put_in_place(work, manifest, destinations, spans["place"])
        work.discard()
    yield Result(
        outputs,
        {
            "threshold": settings.threshold,
            "uncertain_from": settings.uncertain_from,
            "model": tags.model,
            **roads,
            "seconds": round(time.monotonic() - began, 1),
        },
    )
