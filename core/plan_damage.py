"""Say what training a damage model would do, without doing it: pairs, levels, weights, schedule, crops."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .damage_fields import level_of
from .damage_steps import (
    TASK,
    Ground,
    check_job,
    check_sides,
    choose_recipe,
    crop_settings,
    describe_ignored,
    describe_merged,
    describe_split,
    diagnose_levels,
    diagnose_schedule,
    split_evenly,
    start_network,
)
from .damage_summary import level_name
from .datasets.crops import make_batch
from .datasets.damage_crops import PairCrops, PairSettings
from .datasets.damage_survey import PairRecord, PairSurvey, count_buildings
from .datasets.damage_tiles import (
    CHIP_GSD_M,
    LevelGroup,
    arrange_chips,
    arranged_sizes,
    group_counts,
    read_pair,
)
from .datasets.folders import read_splits
from .errors import DatasetError
from .jobs import Event, Figure, PlanTraining, Result, Warning
from .plan_training import plan_path
from .progress import Span
from .scan_damage import describe_pair, follow_survey
from .scan_tiles import write_json
from .training.figures import draw_augmentation_sheet
from .training.losses import MAX_WEIGHT, suggest_class_weights
from .training_steps import build_run_schedule, describe_recipe

_PREVIEW_CROPS = 6
_PREVIEW_COLUMNS = 4
_PREVIEW_PAIRS, _PREVIEW_CHIPS = 2, 20  # that are read for each level


@dataclass(frozen=True)
class _Side:
    """Some pairs of a folder."""

    survey: PairSurvey
    records: list[PairRecord]

    @property
    def is_of_chips(self) -> bool:
        return all(record.is_chip for record in self.records)

    @property
    def events(self) -> list[str]:
        return [record.event for record in self.records]

    def ground(self) -> list[Ground]:
        """What the training makes tiles of."""
        if self.is_of_chips:
            return [Ground(*size, CHIP_GSD_M) for size in arranged_sizes(len(self.records))]
        return [Ground(r.height, r.width, r.gsd_m) for r in self.records]


@dataclass(frozen=True)
class _Set:
    """The pairs of one folder of the job: what it trains on, what judges, and what is on neither side."""

    train: _Side
    validation: _Side
    left_out: _Side
    split: str


def plan_damage(job: PlanTraining) -> Generator[Event, None, None]:
    """Plan the training; see `PlanTraining` for what the result holds.

    Raises:
        DatasetError: The pairs cannot be used.
        ModelError: The start model is not there, or does not fit.
        JobError: A parameter makes no sense.
        OutputError: The cache or the preview cannot be written.
    """
    check_job(job)
    yield from (Warning(sentence) for sentence in describe_ignored(job))
    sets = []
    for name in job.folders:
        sets.append((yield from _find_set(job, Path(name))))
    train = [record for one in sets for record in one.train.records]
    validation = [record for one in sets for record in one.validation.records]
    groups = group_counts(count_buildings(train))
    card = start_network(job, groups)[1]
    recipe = choose_recipe(job, [tile for one in sets for tile in one.train.ground()], card.gsd_m)
    schedule = build_run_schedule(job, recipe)
    judged = count_buildings(validation)
    values: dict[str, Any] = {
        "train_tiles": len(train),
        "validation_tiles": len(validation),
        "below_min_share": 0,
        "split": " ".join(f"{one.train.survey.content.folder.resolve().name}: {one.split}" for one in sets),
        "levels": describe_level_groups(groups, judged),
        "constant_loss": constant_level_loss(groups, judged),
        **describe_recipe(recipe, schedule),
        "findings": [
            *describe_merged(groups),
            *diagnose_levels(groups, judged, len(validation)),
            *diagnose_schedule(schedule, recipe),
        ],
    }
    outputs = {"tiles": str(_write_pairs(job, sets))}
    if job.preview:
        path = Path(job.preview) / "augmentation.png"
        _draw_preview(job, sets, groups, crop_settings(job, recipe, card), path)
        yield Figure("Crops as the network sees them", str(path))
        outputs["augmentation"] = str(path)
    yield Result(outputs, values)


def _find_set(job: PlanTraining, folder: Path) -> Generator[Event, None, _Set]:
    """The pairs of a folder, surveyed and split as `damage_steps.read_pairs` splits them.

    Raises:
        DatasetError: The folder cannot be used, or one side is empty.
        OutputError: The cache cannot be written.
    """
    survey = yield from follow_survey(folder, job.cache, Span(0.0, 1.0))
    theirs = survey
    if job.validation:
        theirs = yield from follow_survey(Path(job.validation), job.cache, Span(0.0, 1.0))
        train, validation = survey.usable, theirs.usable
    elif job.splits:
        lists = read_splits(Path(job.splits), folder, TASK)
        train, validation = (_listed(survey, lists.get(part, [])) for part in ("train", "validation"))
    else:
        train, validation = split_evenly(survey.usable, job.validation_share)
    check_sides(folder, len(train), len(validation))
    used = {record.name for record in (*train, *validation)}
    left_out = [] if job.validation else [r for r in survey.usable if r.name not in used]
    one = _Set(_Side(survey, train), _Side(theirs, validation), _Side(survey, left_out), "")
    return replace(one, split=describe_split(job, one.train.events, one.validation.events))


def _listed(survey: PairSurvey, names: Sequence[str]) -> list[PairRecord]:
    """The usable ones among the pairs of a list."""
    records = {record.name: record for record in survey.records}
    if missing := [name for name in names if name not in records]:
        raise DatasetError(
            f"{survey.content.folder} has no pair {missing[0]} with labels ({len(missing)} are missing): "
            "mend the list."
        )
    return [records[name] for name in names if not records[name].problem]


def describe_level_groups(groups: Sequence[LevelGroup], judged: Mapping[int, int]) -> list[dict[str, Any]]:
    """The levels that a training tells apart, in JSON values, with their weights in its loss.

    Args:
        groups: The levels, with their training buildings.
        judged: Validation buildings by code of `xbd.Damage`.
    """
    total, most = (pick(group.count for group in groups) for pick in (sum, max))
    weights = suggest_class_weights([group.count / total for group in groups])
    return [
        {
            "code": group.code,
            "codes": list(group.codes),
            "name": level_name(group),
            "merged": [level_of(code).name for code in group.codes] if len(group.codes) > 1 else [],
            "colour": level_of(group.code).colour,
            "train": group.count,
            "validation": sum(judged.get(code, 0) for code in group.codes),
            "share": group.count / total,
            "weight": weight,
            "formula": f"√({most} / {group.count}) = {math.sqrt(most / group.count):.2f}"
            + (f", at most {MAX_WEIGHT:g}" if weight == MAX_WEIGHT else ""),
        }
        for group, weight in zip(groups, weights, strict=True)
    ]


def constant_level_loss(groups: Sequence[LevelGroup], judged: Mapping[int, int]) -> float:
    """What it costs to say of every validation building how frequent the levels are in training.

    This is the cross-entropy, in nats, against which that of the rounds is to be held; 0 where no validation
    building has a known level.
    """
    total = sum(group.count for group in groups)
    counts = [sum(judged.get(code, 0) for code in group.codes) for group in groups]
    costs = [-count * math.log(group.count / total) for group, count in zip(groups, counts, strict=True)]
    return sum(costs) / max(sum(counts), 1)


def _write_pairs(job: PlanTraining, sets: Sequence[_Set]) -> Path:
    """The pairs and on which side each stands, as JSON in the cache."""
    pairs = [
        {**describe_pair(side.survey, record), "part": part}
        for one in sets
        for part, side in (("train", one.train), ("validation", one.validation), ("left_out", one.left_out))
        for record in side.records
    ]
    path = plan_path(job)
    write_json(path, pairs)
    return path


def _draw_preview(
    job: PlanTraining, sets: Sequence[_Set], groups: Sequence[LevelGroup], settings: PairSettings, path: Path
) -> None:
    """A sheet of crops as the network will see them, each as before and after side by side."""
    tiles = []
    for side in (one.train for one in sets):
        pairs = side.survey.content.pairs
        some = [read_pair(pairs[record.name]) for record in _richest(side, groups)]
        tiles += arrange_chips(some) if side.is_of_chips else some
    images, labels = make_batch([PairCrops(tiles, groups, settings)], [_PREVIEW_CROPS], job.seed, 0)
    dates = images.reshape(-1, images.shape[1] // 2, *images.shape[2:])
    is_building = labels[:, 0].repeat_interleave(2, dim=0)
    draw_augmentation_sheet(dates.numpy(), is_building.numpy(), path, _PREVIEW_COLUMNS)


def _richest(side: _Side, groups: Sequence[LevelGroup]) -> list[PairRecord]:
    """Few pairs that show every level: those with most buildings of each; a preview must be quick."""
    count = _PREVIEW_CHIPS if side.is_of_chips else _PREVIEW_PAIRS
    chosen: dict[str, PairRecord] = {}
    for group in groups:

        def of_group(record: PairRecord, codes: Sequence[int] = group.codes) -> int:
            return sum(record.buildings.get(code, 0) for code in codes)

        ranked = sorted(side.records, key=lambda record: (-of_group(record), record.name))
        chosen |= {record.name: record for record in ranked[:count]}
    return list(chosen.values())
