"""The learning-rate range test of a training: a short run whose rate grows, and the rate that it suggests."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import JobError
from .jobs import Event, Figure, FindLearningRate, FinishEarly, Metric, Progress, Result
from .training.figures import draw_range_test
from .training.range_test import RangePoint, run_range_test, suggest_rate
from .training_steps import (
    at_working_resolution,
    check_class,
    check_job,
    choose_recipe,
    crop_sources,
    find_sets,
    make_trainer,
    start_network,
)

STEPS = 80


def find_learning_rate(job: FindLearningRate) -> Iterator[Event]:
    """Try the rates on the job's own tiles, network and loss; see `FindLearningRate` for the result.

    Raises:
        DatasetError: The tiles cannot be used, or none that is trained on shows the class.
        ModelError: The start model or the encoder weights do not fit.
        JobError: A parameter makes no sense, or the loss falls at no rate.
        DeviceError: The device is not there, or has too little memory.
    """
    check_job(job)
    sets = yield from find_sets(job)
    check_class(job, sets)
    network, card = start_network(job)
    card = at_working_resolution(job, sets, card)
    recipe = choose_recipe(job, sets, card.gsd_m)
    sources, counts = yield from crop_sources(sets, job, card, recipe)
    points: list[RangePoint] = []
    with tempfile.TemporaryDirectory(prefix="aftermap-range-test-") as folder:
        trainer = make_trainer(network, sources, counts, card, job, recipe, Path(folder))
        try:
            for point in run_range_test(trainer.try_rate, STEPS):
                points.append(point)
                yield Metric("range_test", dataclasses.asdict(point), len(points))
                message = f"Learning rate {point.learning_rate:.1e}, loss {point.loss:.3f}"
                yield Progress(len(points) / STEPS, message)
        except FinishEarly:
            pass  # the rates so far may do
    rate = suggest_rate(points)
    if rate is None:
        raise JobError(
            "The loss fell at none of the learning rates, so none can be suggested: check that masks and "
            "images belong together, or start from another model."
        )
    outputs = {}
    if job.figure:
        draw_range_test(points, rate, Path(job.figure))
        yield Figure("Learning-rate range test", job.figure)
        outputs["figure"] = job.figure
    curve = [(p.learning_rate, p.loss, p.smoothed) for p in points]
    yield Result(outputs, {"learning_rate": rate, "curve": curve})
