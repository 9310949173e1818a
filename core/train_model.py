"""Train a network on folders of labelled tiles, from the starter model unless told otherwise."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from .cards import Card
from .datasets.crops import CropSource
from .evaluation.calibration import Scaling, fit_scaling
from .evaluation.figures import draw_triptych
from .evaluation.pixel_scores import LEVELS, LevelCounts, choose_threshold
from .jobs import Event, Figure, FinishEarly, Metric, Progress, Result, TrainModel, Warning
from .networks.context import MARGIN_CROPS, MARGIN_STRIDES, measure_margin
from .networks.devices import choose_device, choose_precision, describe_device
from .networks.package import count_parameters, save_package
from .networks.segmenter import Segmenter
from .networks.unet import SegmentationNetwork, build_network
from .reports import publish_report
from .runs import file_identity, open_work
from .scoring import score_tiles
from .training.diagnosis import (
    Finding,
    diagnose_plan,
    diagnose_round,
    diagnose_run,
    find_shifted_threshold,
)
from .training.distributed import is_leader, join_processes, value_from_leader
from .training.figures import draw_learning_curves
from .training.mixing import MIXTURES, choose_mixture, mix_weights
from .training.trainer import Trainer
from .training_history import History, check_output, figures_of, report_step, undisturbed
from .training_report import FinalScores, TrainingFacts, report_training, score_finally
from .training_steps import (
    Recipe,
    TileSet,
    at_working_resolution,
    check_class,
    check_job,
    choose_recipe,
    crop_sources,
    find_sets,
    make_plan,
    make_trainer,
    start_network,
)
from .version import read_version

_HARD_TILES, _RICH_TILES = 2, 2  # of the validation tiles that are drawn after each round
_CURVES_NAME = "learning-curves.png"
_TELLING_TILES = 3
_RECORDED = (
    "task", "start_from", "scale_jitter", "accumulate", "schedule", "step_every", "step_unit", "loss",
    "positive_weight", "skeleton_weight", "sampler", "min_share", "augmentation", "prior_bias",
    "synthetic_share", "patience", "seed",
)  # fmt: skip

State = Mapping[str, torch.Tensor]


def train_model(job: TrainModel) -> Iterator[Event]:
    """Train, validate after each round, keep the best, calibrate it, write it with its card and a report.

    Thrown a `FinishEarly`, it stops training and goes on with the best network so far; before the first step
    there is none, and it raises it. Started by
    ``torchrun``, the processes train one network together; the first one validates, writes and reports.

    Raises:
        DatasetError: The tiles cannot be used, or none that is trained on shows the class.
        ModelError: The start model or the encoder weights do not fit.
        JobError: A parameter makes no sense.
        OutputError: A checkpoint or the model cannot be written.
        DeviceError: The device is not there, or has too little memory.
    """
    if job.task == "damage":
        from .train_damage import train_damage

        yield from train_damage(job)
        return
    check_job(job)
    check_output(job)
    with join_processes(choose_device(job.device).type):
        sets = yield from find_sets(job)
        check_class(job, sets)
        for one in sets:
            yield Warning(f"{one.name}: {one.split}")
        network, card = start_network(job)
        card = at_working_resolution(job, sets, card)
        start = None if job.start_from == "scratch" else copy.deepcopy(network.state_dict())
        recipe = choose_recipe(job, sets, card.gsd_m)
        with _open_folder(job, sets, network) as folder:
            sources, counts = yield from crop_sources(sets, job, card, recipe)
            trainer = make_trainer(network, sources, counts, card, job, recipe, folder)
            run = _Run(job, sets, card, recipe, sources[0], trainer, History(folder))
            yield from _say(run, diagnose_plan(make_plan(job, sets, recipe)))
            yield from _train(run)
            if is_leader():
                result = yield from undisturbed(_finish(run, start))
            else:
                result = Result()
    yield result  # at last: what asked for it may not come back, and the unfinished work is to be gone


@dataclass(frozen=True)
class _Run:
    """What the steps of a training share."""

    job: TrainModel
    sets: Sequence[TileSet]
    card: Card
    recipe: Recipe
    source: CropSource
    trainer: Trainer
    history: History

    @property
    def figures(self) -> Path:
        """Folder beside the model for pictures and the report."""
        return figures_of(self.job)


@contextlib.contextmanager
def _open_folder(job: TrainModel, sets: Sequence[TileSet], network: SegmentationNetwork) -> Iterator[Path]:
    """The folder for checkpoints, which goes once the training has succeeded; followers need none."""
    if not is_leader():
        with tempfile.TemporaryDirectory(prefix="aftermap-training-") as folder:
            yield Path(folder)
        return
    tiles = [
        [file_identity(str(path)) for t in side for path in (t.image, t.mask)]
        for one in sets
        for side in (one.train, one.validation)
    ]
    start = save({k: v.contiguous() for k, v in network.state_dict().items()})
    identity = {
        **dataclasses.asdict(job),
        "resume": True,
        "version": read_version(),
        "tiles": tiles,
        "start": hashlib.sha256(start).hexdigest(),  # another model may have come under the same name
    }
    with open_work(identity, cache=job.cache, resume=job.resume) as work:
        yield work.path
        work.discard()


def _say(run: _Run, findings: Sequence[Finding]) -> Iterator[Event]:
    """Each finding once in a training."""
    for finding in findings:
        if finding.name not in run.history.findings:
            run.history.findings[finding.name] = finding.sentence
            yield Warning(finding.sentence)


def _train(run: _Run) -> Generator[Event, None, None]:
    """The rounds: train, validate, draw; the start model's own score is round 0."""
    trainer, history, steps = run.trainer, run.history, run.recipe.steps
    trainer.restore()
    history.forget_after(trainer.step)
    is_due = trainer.is_round_end if trainer.step else run.job.start_from != "scratch"
    start, first = time.monotonic(), trainer.step
    try:
        if is_due and (yield from _end_round(run)):
            return
        for news in trainer.run():
            pace = (time.monotonic() - start) / (news.step - first)
            yield from report_step(news, history, steps, pace, describe_device(trainer.device))
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
    is_over, score = False, 0.0
    if is_leader():
        if not run.history.has_round(run.trainer.step):
            yield from _validate(run)
        score = next(r["iou"] for r in run.history.rounds if r["step"] == run.trainer.step)
        is_over = 0 < run.job.patience <= run.history.rounds_since_best
    run.trainer.observe(score)
    is_over = bool(value_from_leader(is_over, run.trainer.device))
    if is_over:
        yield Warning(f"No better score in {run.job.patience} rounds: stopped at step {run.trainer.step}.")
    return is_over


def _validate(run: _Run) -> Generator[Event, None, None]:
    """Score the averaged network, at the threshold of the highest mean IoU, and draw curves and tiles."""
    trainer, history = run.trainer, run.history
    segmenter = _segmenter(run, copy.deepcopy(trainer.averaged))
    tiles = yield from _count(run, segmenter, f"Validating after step {trainer.step}")
    scores = {"step": trainer.step, **_summarise(tiles, run.card.threshold)}
    if len(run.sets) > 1:
        scores["folders"] = [_judge_folder(one, some) for one, some in zip(run.sets, tiles, strict=True)]
    if not history.rounds:
        history.drawn = [_choose_drawn(one, counts) for one, counts in zip(run.sets, tiles, strict=True)]
        if not any(c.positive.any() for counts in tiles for c in counts):
            yield Warning(
                "No validation tile shows the class, so neither rounds nor thresholds can be compared: "
                "add tiles that do."
            )
    history.add_round(scores, trainer.averaged)
    yield from _say(run, diagnose_round(history.steps, history.rounds))
    overall = {k: v for k, v in scores.items() if k not in ("step", "folders")}
    yield Metric("validation", overall, trainer.step)
    if history.steps:
        path = run.figures / _CURVES_NAME
        draw_learning_curves(history.steps, history.rounds, path)
        yield Figure("Learning curves", str(path))
    for one, stems in zip(run.sets, history.drawn, strict=True):
        drawn = [t for t in one.validation if t.stem in stems]
        for tile in score_tiles(drawn, segmenter, len(run.card.bands), run.job.gsd_m or run.card.gsd_m):
            path = run.figures / f"{one.name}-{tile.stem}.png"
            draw_triptych(
                tile.image, tile.labels[0], tile.probabilities, scores["threshold"], tile.stem, path
            )
            yield Figure(tile.stem, str(path))


def _segmenter(run: _Run, network: SegmentationNetwork) -> Segmenter:
    device = run.trainer.device
    return Segmenter(network.eval(), run.card, device, choose_precision(device))


def _count(run: _Run, segmenter: Segmenter, what: str) -> Generator[Event, None, list[list[LevelCounts]]]:
    """Level counts of each validation tile of each set."""
    counts: list[list[LevelCounts]] = []
    done, total = 0, sum(len(one.validation) for one in run.sets)
    gsd_m = run.job.gsd_m or run.card.gsd_m
    for one in run.sets:
        counts.append([])
        for tile in score_tiles(one.validation, segmenter, len(run.card.bands), gsd_m):
            counts[-1].append(tile.counts)
            done += 1
            yield Progress(run.trainer.step / run.recipe.steps, f"{what}: tile {done} of {total}")
    return counts


def _summarise(tiles: Sequence[Sequence[LevelCounts]], prior: float) -> dict[str, Any]:
    """Scores of a network over its validation tiles, at the threshold that they choose."""
    totals = [_sum(counts) for counts in tiles]
    telling = [c for c in totals if c.positive.any()]
    curve = np.mean([c.iou_curve() for c in telling], axis=0) if telling else np.zeros(LEVELS)
    threshold = choose_threshold(curve, prior, sum(map(len, tiles)))
    scores = [c.scores(threshold) for c in telling or totals]
    return {
        "iou": float(curve.max()),
        "threshold": threshold,
        **{name: float(np.mean([s[name] for s in scores])) for name in ("f1", "precision", "recall")},
        "loss": float(np.mean([_cross_entropy(c) for c in totals])),
    }


def _judge_folder(one: TileSet, tiles: Sequence[LevelCounts]) -> dict[str, Any]:
    """How well a network does on the tiles of one folder, at the threshold that suits it best."""
    total = _sum(tiles)
    iou = float(total.iou_curve().max()) if total.positive.any() else None
    return {"name": one.name, "iou": iou, "loss": _cross_entropy(total)}


def _sum(tiles: Sequence[LevelCounts]) -> LevelCounts:
    total = LevelCounts()
    for counts in tiles:
        total.merge(counts)
    return total


def _cross_entropy(counts: LevelCounts) -> float:
    """Unweighted binary cross-entropy, from the counts at each probability level."""
    p = np.clip(np.arange(LEVELS) / (LEVELS - 1), 0.25 / (LEVELS - 1), 1 - 0.25 / (LEVELS - 1))
    pixels = counts.positive.sum() + counts.negative.sum()
    return float(-(counts.positive @ np.log(p) + counts.negative @ np.log1p(-p)) / max(pixels, 1))


def _choose_drawn(one: TileSet, counts: Sequence[LevelCounts]) -> list[str]:
    """Of the tiles that show the class: those where the network does worst, and those with most of it."""
    with_class = [i for i, c in enumerate(counts) if c.positive.any()] or list(range(len(counts)))
    hard = sorted(with_class, key=lambda i: float(counts[i].iou_curve().max()))[:_HARD_TILES]
    rich = sorted((i for i in with_class if i not in hard), key=lambda i: -int(counts[i].positive.sum()))
    return [one.validation[i].stem for i in (*hard, *rich[:_RICH_TILES])]


def _finish(run: _Run, start: State | None) -> Generator[Event, None, Result]:
    """Calibrate the best network, write it with its card, and report how good it is."""
    network, tiles, share = yield from _choose_network(run, start)
    summary = _summarise(tiles, run.card.threshold)
    unscaled = _sum([c for counts in tiles for c in counts])
    # A tile or two say nothing of how frequent the class is elsewhere, which is what a bias is about.
    scaling = fit_scaling(unscaled) if sum(map(len, tiles)) >= _TELLING_TILES else Scaling()
    whole = scaling.following(Scaling.of(run.card.calibration))
    card = dataclasses.replace(
        run.card,
        threshold=scaling.threshold(summary["threshold"]),
        calibration={
            "method": "threshold: mean IoU of the sets over their validation tiles; scaling: Platt",
            "temperature": whole.temperature,
            "bias": whole.bias,
        },
        margin_px=_measure_margin(network, run, summary["threshold"]),
    )
    device = run.trainer.device
    segmenter = Segmenter(copy.deepcopy(network), card, device, choose_precision(device))
    with tempfile.TemporaryDirectory(prefix="aftermap-report-") as name:
        final = yield from score_finally(run.sets, segmenter, card, run.job.gsd_m, Path(name))
        findings = [
            *diagnose_run(run.history.steps, run.history.rounds),
            *_judge_threshold(unscaled, summary),
        ]
        yield from _say(run, findings)
        card = _finish_card(run, card, final, share)
        package = save_package(Path(run.job.output), network, card)
        facts = TrainingFacts(
            sets=run.sets,
            card=card,
            curves=run.figures / _CURVES_NAME,
            findings=list(run.history.findings.values()),
            unscaled=unscaled,
            scaling=scaling,
            device=describe_device(device),
        )
        report = publish_report(report_training(facts, final), Path(name), run.figures)
    values = {
        **summary,
        "threshold": card.threshold,
        "scaling": {"temperature": whole.temperature, "bias": whole.bias},
        "mixture": share,
        "best_step": (run.history.best or {"step": 0})["step"],
        "steps": run.trainer.step,
        "sets": [dict(m) for m in card.metrics],
        "colour_probe": final.probe,
        "tile_scores": final.tile_values(),
        "device": describe_device(device),
    }
    return Result({"model": str(package.path), "figures": str(run.figures), "report": str(report)}, values)


def _judge_threshold(counts: LevelCounts, summary: Mapping[str, float]) -> list[Finding]:
    found = find_shifted_threshold(
        summary["threshold"], counts.scores(summary["threshold"])["iou"], counts.scores(0.5)["iou"]
    )
    return [] if found is None else [found]


def _choose_network(
    run: _Run, start: State | None
) -> Generator[Event, None, tuple[SegmentationNetwork, list[list[LevelCounts]], float]]:
    """The best round's network, or its mixture with the start model that validation bears out."""
    best = load_file(run.history.best_file)
    candidates = MIXTURES if start is not None else (1.0,)
    states = {share: best if start is None else mix_weights(start, best, share) for share in candidates}
    counts: dict[float, list[list[LevelCounts]]] = {}
    for share, state in states.items():
        segmenter = _segmenter(run, _network_with(run.card, state))
        counts[share] = yield from _count(run, segmenter, "Comparing with the start model")
    share = choose_mixture(counts, run.job.seed)
    return _network_with(run.card, states[share]), counts[share], share


def _network_with(card: Card, state: State) -> SegmentationNetwork:
    network = build_network(card.architecture)
    network.load_state_dict(state)
    return network.eval()


def _finish_card(run: _Run, card: Card, final: FinalScores, share: float) -> Card:
    job, recipe, best = run.job, run.recipe, run.history.best
    data: list[dict[str, Any]] = [
        {
            "name": one.name,
            "licence": one.licence,
            "train_tiles": len(one.train),
            "validation_tiles": len(one.validation),
        }
        for one in run.sets
    ]
    if job.synthetic_share:
        data.append({"name": "generated", "licence": "none needed", "share": job.synthetic_share})
    return dataclasses.replace(
        card,
        metrics=tuple(final.metrics()),
        training_data=tuple(data),
        training={
            **{k: v for k, v in dataclasses.asdict(job).items() if k in _RECORDED},
            **dataclasses.asdict(recipe),
            "best_step": best["step"] if best else 0,
            "mixture": share,
            "parameters": count_parameters(run.trainer.network),
            "sampled_class_share": round(run.source.sampled_share, 4),
            "rounds": run.history.rounds,
            "curve": run.history.steps[:: max(1, len(run.history.steps) // 100)],
        },
        versions={"aftermap": read_version(), "torch": str(torch.__version__)},
        licence="; ".join(sorted({one.licence for one in run.sets})),
    )


def _measure_margin(network: SegmentationNetwork, run: _Run, threshold: float) -> int:
    """The context margin of a network, on large crops of its training tiles at their true scale."""
    source = run.source
    side = MARGIN_STRIDES * network.stride_px
    settings = dataclasses.replace(source.settings, crop_px=side, scale_jitter=1.0)
    crops = CropSource(source.tiles, list(source.tile_weights), settings)
    return measure_margin(network, run.trainer.sample(crops, MARGIN_CROPS), threshold)
