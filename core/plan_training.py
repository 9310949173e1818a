"""Say what a training would do, without doing it: tiles, shares, weights, schedule, crops, findings."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cards import Card
from .datasets.crops import make_batch
from .datasets.folders import LabelledTile
from .jobs import Event, Figure, PlanTraining, Result
from .runs import cache_folder, digest
from .scan_tiles import describe_tile, write_json
from .tasks import find_tile_task
from .training.diagnosis import diagnose_plan
from .training.figures import draw_augmentation_sheet
from .training.losses import constant_loss, positive_weight_formula, suggest_positive_weight
from .training_steps import (
    Recipe,
    TileSet,
    at_working_resolution,
    check_job,
    choose_recipe,
    crop_sources,
    describe_recipe,
    find_sets,
    make_plan,
    pixel_share,
    start_network,
)

_PREVIEW_CROPS = 12


def plan_training(job: PlanTraining) -> Iterator[Event]:
    """Plan the training; see `PlanTraining` for what the result holds.

    Raises:
        DatasetError: The tiles cannot be used.
        ModelError: The start model is not there.
        JobError: A parameter makes no sense.
        OutputError: The preview cannot be written.
    """
    if job.task == "damage":
        from .plan_damage import plan_damage

        yield from plan_damage(job)
        return
    check_job(job)
    sets = yield from find_sets(job)
    card = at_working_resolution(job, sets, start_network(job)[1])
    recipe = choose_recipe(job, sets, card.gsd_m)
    plan = make_plan(job, sets, recipe)
    weight = job.positive_weight or suggest_positive_weight(plan.sampled_share)
    values: dict[str, Any] = {
        "train_tiles": plan.train_tiles,
        "validation_tiles": plan.validation_tiles,
        "below_min_share": plan.all_tiles - plan.train_tiles,
        "split": " ".join(f"{one.name}: {one.split}" for one in sets),
        "share_all": plan.share,
        "share_kept": pixel_share(sets, [one.train for one in sets]),
        "share_sampled": plan.sampled_share,
        **describe_recipe(recipe, plan.schedule),
        "positive_weight": weight,
        "positive_weight_formula": positive_weight_formula(plan.sampled_share),
        "constant_loss": constant_loss(plan.sampled_share),
        "findings": [finding.sentence for finding in diagnose_plan(plan)],
    }
    outputs = {"tiles": str(_write_tiles(job, sets))}
    if job.preview:
        path = Path(job.preview) / "augmentation.png"
        yield from _draw_preview(job, sets, card, recipe, path)
        outputs["augmentation"] = str(path)
    yield Result(outputs, values)


def _write_tiles(job: PlanTraining, sets: Sequence[TileSet]) -> Path:
    """The tiles and on which side of the split each stands, as JSON in the cache."""
    tiles, class_name = [], find_tile_task(job.task).class_name
    for one in sets:
        for part in ("train", "validation", "below_min_share", "left_out"):
            some: list[LabelledTile] = getattr(one, part)
            tiles += [
                {**describe_tile(one.folder, t, one.records[t.image], class_name), "part": part} for t in some
            ]
    path = plan_path(job)
    write_json(path, tiles)
    return path


def plan_path(job: PlanTraining) -> Path:
    """Where the tiles of a plan are listed, in the cache."""
    named = ("folders", "task", "validation", "splits")
    key = digest({name: getattr(job, name) for name in named})[:16]
    return cache_folder(job.cache) / "indexes" / f"plan-{key}.json"


def _draw_preview(
    job: PlanTraining, sets: Sequence[TileSet], card: Card, recipe: Recipe, path: Path
) -> Generator[Event, None, None]:
    """A sheet of crops as the network will see them."""
    sources, counts = yield from crop_sources(_thinned(sets), job, card, recipe)
    share = [max(1, round(_PREVIEW_CROPS * c / sum(counts))) for c in counts]
    images, labels = make_batch(sources, share, job.seed, 0)
    draw_augmentation_sheet(images.numpy(), labels.numpy()[:, 0], path)
    yield Figure("Crops as the network sees them", str(path))


def _thinned(sets: Sequence[TileSet]) -> list[TileSet]:
    """Few tiles of each set, evenly over all: a preview must not read a whole archive."""

    def some(tiles: list[LabelledTile]) -> list[LabelledTile]:
        at = np.unique(np.linspace(0, len(tiles) - 1, min(len(tiles), _PREVIEW_CROPS)).astype(int))
        return [tiles[i] for i in at]

    return [dataclasses.replace(one, train=some(one.train)) for one in sets]
