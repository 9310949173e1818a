"""Train a damage model on labelled pairs: buildings, and how badly each is damaged."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from .cards import Card
from .damage_report import draw_pair, report_damage
from .damage_scoring import ScoredPair, score_pairs
from .damage_steps import (
    Ground,
    PairSet,
    check_job,
    choose_recipe,
    crop_settings,
    describe_groups,
    describe_ignored,
    describe_problems,
    diagnose_levels,
    diagnose_schedule,
    read_pairs,
    start_network,
)
from .damage_summary import DamageSummary, fit_tile_pooling, score_each, summarise_pairs
from .datasets.damage_crops import PairCrops
from .datasets.damage_survey import image_paths
from .datasets.damage_tiles import DamageTile, LevelGroup, group_levels
from .datasets.folders import IGNORE
from .jobs import Event, Figure, FinishEarly, Metric, Progress, Result, TrainModel, Warning
from .networks.context import MARGIN_CROPS, MARGIN_STRIDES, measure_margin
from .networks.devices import choose_device, choose_precision, describe_device
from .networks.package import count_parameters, save_package
from .networks.segmenter import Segmenter
from .networks.siamese import SiameseUNet
from .networks.unet import SegmentationNetwork, build_network
from .reports import publish_report
from .runs import file_identity, open_work
from .training.figures import draw_learning_curves
from .training.losses import damage_objective, suggest_class_weights
from .training.trainer import Trainer, TrainerSettings
from .training_history import History, check_output, figures_of, report_step, undisturbed
from .training_steps import Recipe, build_run_schedule
from .version import read_version

ROUNDS = 8

_CURVES_NAME = "learning-curves.png"
_DRAWN_TILES = 4
_RECORDED = (
    "task",
    "start_from",
    "batch_size",
    "crop_px",
    "learning_rate",
    "schedule",
    "augmentation",
    "accumulate",
    "seed",
)


@dataclass(frozen=True)
class _Run:
    """What the steps of a training share."""

    job: TrainModel
    sets: list[PairSet]
    groups: list[LevelGroup]
    card: Card
    recipe: Recipe
    source: PairCrops
    trainer: Trainer
    history: History

    @property
    def validation(self) -> list[DamageTile]:
        return [tile for one in self.sets for tile in one.validation]


def train_damage(job: TrainModel) -> Generator[Event, None, None]:
    """Train, validate after each round, keep the best, learn how to pool, write the model with its report.

    Raises:
        DatasetError: The pairs cannot be used.
        ModelError: The start model or the encoder weights do not fit.
        JobError: A parameter makes no sense.
        OutputError: A checkpoint or the model cannot be written.
        DeviceError: The device is not there, or has too little memory.
    """
    check_job(job)
    check_output(job)
    yield from (Warning(sentence) for sentence in describe_ignored(job))
    sets = []
    for i, name in enumerate(job.folders):
        yield Progress(0.0, f"Reading {Path(name).name}")
        sets.append(read_pairs(job, Path(name), job.licences[i] if i < len(job.licences) else "not stated"))
        yield from (Warning(sentence) for sentence in describe_problems(sets[-1]))
        yield Warning(f"{Path(name).resolve().name}: {sets[-1].split}")
    groups = group_levels([tile for one in sets for tile in one.train])
    network, card = start_network(job, groups)
    tiles = [tile for one in sets for tile in one.train]
    ground = [Ground(t.building.shape[0], t.building.shape[1], t.gsd_m) for t in tiles]
    recipe = choose_recipe(job, ground, card.gsd_m)
    source = PairCrops(tiles, groups, crop_settings(job, recipe, card))
    with _open_folder(job, network) as folder:
        trainer = _make_trainer(job, recipe, source, network, card, folder)
        run = _Run(job, sets, groups, card, recipe, source, trainer, History(folder, "score"))
        yield from (Warning(sentence) for sentence in _diagnose(run))
        yield from _train(run)
        result = yield from undisturbed(_finish(run))
    yield result


def _diagnose(run: _Run) -> list[str]:
    """What the user should know before it begins, in sentences."""
    judged = Counter(b.damage for tile in run.validation for b in tile.buildings)
    return [
        *describe_groups(run.groups),
        *diagnose_levels(run.groups, judged, sum(one.counts[1] for one in run.sets)),
        *diagnose_schedule(run.trainer.schedule, run.recipe),
    ]


def _make_trainer(
    job: TrainModel, recipe: Recipe, source: PairCrops, network: SiameseUNet, card: Card, folder: Path
) -> Trainer:
    device = choose_device(job.device)
    return Trainer(
        network,
        [source],
        [recipe.batch_size],
        damage_objective(suggest_class_weights(source.level_shares)),
        TrainerSettings(
            steps=recipe.steps,
            rounds=ROUNDS,
            learning_rate=recipe.learning_rate,
            seed=job.seed,
            mean=tuple(card.radiometry["mean"]),
            std=tuple(card.radiometry["std"]),
            accumulate=job.accumulate,
        ),
        device,
        choose_precision(device) == torch.bfloat16,
        folder,
        build_run_schedule(job, recipe),
    )


@contextlib.contextmanager
def _open_folder(job: TrainModel, network: SegmentationNetwork) -> Iterator[Path]:
    """The folder for checkpoints, which goes once the training has succeeded."""
    folders = [*job.folders, *([job.validation] if job.validation else [])]
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    start = save({k: v.contiguous() for k, v in network.state_dict().items()})
    identity = {
        **dataclasses.asdict(job),
        "resume": True,
        "version": read_version(),
        "files": [file_identity(str(path)) for path in files],
        "start": hashlib.sha256(start).hexdigest(),
    }
    with open_work(identity, cache=job.cache, resume=job.resume) as work:
        yield work.path
        work.discard()


def _train(run: _Run) -> Generator[Event, None, None]:
    """The rounds: train, validate, draw."""
    trainer, history = run.trainer, run.history
    trainer.restore()
    history.forget_after(trainer.step)
    device, steps = describe_device(trainer.device), trainer.settings.steps
    start, first = time.monotonic(), trainer.step
    try:
        if trainer.step and trainer.is_round_end and (yield from _end_round(run)):
            return
        for news in trainer.run():
            pace = (time.monotonic() - start) / (news.step - first)
            yield from report_step(news, history, steps, pace, device)
            if trainer.is_round_end and (yield from _end_round(run)):
                return
    except FinishEarly:
        if not trainer.step:
            raise  # nothing was learned that could be kept
        yield Warning(f"Stopped at step {trainer.step} of {steps}; the best network so far is kept.")
        if history.best is None:
            yield from _validate(run)


def _end_round(run: _Run) -> Generator[Event, None, bool]:
    """Validate; whether the training is over because it no longer gets better."""
    trainer, history = run.trainer, run.history
    if not history.has_round(trainer.step):
        yield from _validate(run)
    trainer.observe(next(r["score"] for r in history.rounds if r["step"] == trainer.step))
    is_over = 0 < run.job.patience <= history.rounds_since_best
    if is_over:
        yield Warning(f"No better score in {run.job.patience} rounds: stopped at step {trainer.step}.")
    return is_over


def _validate(run: _Run) -> Generator[Event, None, None]:
    """Score the averaged network, and draw curves and a few tiles."""
    trainer, history = run.trainer, run.history
    pairs = yield from _score(run, copy.deepcopy(trainer.averaged), run.card)
    summary = summarise_pairs(pairs, run.groups)
    scores = {"step": trainer.step, **summary.round_scores()}
    history.add_round(scores, trainer.averaged)
    yield Metric("validation", {k: v for k, v in scores.items() if k != "step"}, trainer.step)
    folder = figures_of(run.job)
    if history.steps:
        # The cross-entropy of the levels does not belong beside that of the pixels of buildings.
        rounds = [{k: v for k, v in one.items() if k != "loss"} for one in history.rounds]
        draw_learning_curves(history.steps, rounds, folder / _CURVES_NAME)
        yield Figure("Learning curves", str(folder / _CURVES_NAME))
    for pair in choose_drawn(pairs):
        path = folder / f"{pair.tile.stem}.png"
        draw_pair(pair, run.groups, summary.threshold, path)
        yield Figure(pair.tile.stem, str(path))


def choose_drawn(pairs: Sequence[ScoredPair]) -> list[ScoredPair]:
    """The tiles with most damaged buildings."""

    def damaged(pair: ScoredPair) -> int:
        return sum(1 < b.damage < IGNORE for b in pair.tile.buildings)

    return sorted(pairs, key=lambda p: (-damaged(p), p.tile.stem))[:_DRAWN_TILES]


def _score(run: _Run, network: SegmentationNetwork, card: Card) -> Generator[Event, None, list[ScoredPair]]:
    device, tiles = run.trainer.device, run.validation
    segmenter = Segmenter(network.eval(), card, device, choose_precision(device))
    pairs = []
    for pair in score_pairs(tiles, segmenter):
        pairs.append(pair)
        share = run.trainer.step / run.trainer.settings.steps
        yield Progress(share, f"Validating after step {run.trainer.step}: pair {len(pairs)} of {len(tiles)}")
    return pairs


def _finish(run: _Run) -> Generator[Event, None, Result]:
    """Calibrate the best network, learn how to pool, write it with its card, and report how good it is."""
    network = build_network(run.card.architecture)
    network.load_state_dict(load_file(run.history.best_file))
    pairs = yield from _score(run, copy.deepcopy(network), run.card)
    plain = summarise_pairs(pairs, run.groups)
    pooling = fit_tile_pooling(pairs, run.groups)
    summary = summarise_pairs(pairs, run.groups, pooling)
    metrics = tuple(
        {"dataset": one.folder.name, "part": "validation", **of_set.values()}
        for one, of_set in _by_set(run, pairs, pooling)
    )
    card = dataclasses.replace(
        run.card,
        threshold=plain.threshold,
        margin_px=_measure_margin(network, run),
        calibration={
            "method": "threshold: IoU of buildings on the validation tiles; pooling: left-out tiles",
            "pooling": pooling,
            "macro_f1_plain_mean": plain.round_scores()["macro_f1"],
        },
        metrics=metrics,
        training_data=tuple(
            {
                "name": one.folder.name,
                "licence": one.licence,
                "train_tiles": one.counts[0],
                "validation_tiles": one.counts[1],
            }
            for one in run.sets
        ),
        training={
            **{k: v for k, v in dataclasses.asdict(run.job).items() if k in _RECORDED},
            "steps": run.trainer.settings.steps,
            "best_step": (run.history.best or {"step": 0})["step"],
            "parameters": count_parameters(network),
            "rounds": run.history.rounds,
        },
        versions={"aftermap": read_version(), "torch": str(torch.__version__)},
        licence="; ".join(sorted({one.licence for one in run.sets})),
    )
    package = save_package(Path(run.job.output), network, card)
    folder = figures_of(run.job)
    with tempfile.TemporaryDirectory(prefix="aftermap-report-") as name:
        pictures = {}
        for pair in choose_drawn(pairs):
            pictures[pair.tile.stem] = Path(name) / f"{pair.tile.stem}.png"
            draw_pair(pair, run.groups, card.threshold, pictures[pair.tile.stem])
        data = ", ".join(f"{one.counts[1]} pairs of {one.folder.name}" for one in run.sets)
        findings = [*(f"{one.folder.resolve().name}: {one.split}" for one in run.sets), *_diagnose(run)]
        made = report_damage(card, data, summary, pictures, folder / _CURVES_NAME, findings)
        report = publish_report(made, Path(name), folder)
    values = {
        **summary.values(),
        "pooling": pooling,
        "tile_scores": _score_each(run, pairs, pooling, card.threshold),
        "steps": run.trainer.step,
        "device": describe_device(run.trainer.device),
        "sets": [dict(m) for m in metrics],
    }
    return Result({"model": str(package.path), "figures": str(folder), "report": str(report)}, values)


def _score_each(
    run: _Run, pairs: Sequence[ScoredPair], pooling: Mapping[str, Any], threshold: float
) -> list[dict[str, Any]]:
    """Scores of each pair that judges, with the path of its image after."""
    images: dict[str, str] = {}
    for folder in [run.job.validation] if run.job.validation else run.job.folders:
        images |= image_paths(Path(folder))
    return [
        {**one, "image": images[one["stem"]]} for one in score_each(pairs, run.groups, pooling, threshold)
    ]


def _by_set(
    run: _Run, pairs: Sequence[ScoredPair], pooling: Mapping[str, Any]
) -> Iterator[tuple[PairSet, DamageSummary]]:
    start = 0
    for one in run.sets:
        own = pairs[start : start + len(one.validation)]
        start += len(own)
        yield one, summarise_pairs(own, run.groups, pooling)


def _measure_margin(network: SegmentationNetwork, run: _Run) -> int:
    """The context margin of the building head, on large crops of the training pairs at their true scale."""
    side = MARGIN_STRIDES * network.stride_px
    settings = dataclasses.replace(run.source.settings, crop_px=side, scale_jitter=1.0)
    crops = PairCrops(run.source.tiles, run.groups, settings)
    return measure_margin(network.eval(), run.trainer.sample(crops, MARGIN_CROPS), 0.5)
