"""Train a damage model on labelled pairs: buildings, and how badly each is damaged."""

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
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from .cards import Card, Package, find_package, heads_of, list_packages
from .damage_fields import level_of
from .damage_report import draw_pair, report_damage
from .damage_scoring import ScoredPair, score_pairs
from .damage_summary import DamageSummary, fit_tile_pooling, level_name, summarise_pairs
from .datasets.damage_crops import PairCrops, PairSettings
from .datasets.damage_tiles import (
    DamageTile,
    LevelGroup,
    arrange_chips,
    group_levels,
    read_damage_folder,
)
from .datasets.folders import IGNORE, read_splits
from .errors import DatasetError, JobError, ModelError
from .jobs import Event, Figure, FinishEarly, Metric, Progress, Result, TrainModel, Warning
from .networks.context import MARGIN_CROPS, MARGIN_STRIDES, measure_margin
from .networks.devices import choose_device, choose_precision, describe_device
from .networks.package import count_parameters, load_network, save_package
from .networks.segmenter import Segmenter
from .networks.siamese import FOOTPRINT, SiameseUNet
from .networks.unet import SegmentationNetwork, UNet, build_network, load_encoder_weights
from .reports import publish_report
from .runs import file_identity, open_work
from .training.distributed import process_count
from .training.figures import draw_learning_curves
from .training.losses import damage_objective, suggest_class_weights
from .training.schedules import build_schedule
from .training.trainer import Trainer, TrainerSettings
from .training_history import History, check_output, figures_of, report_step, undisturbed
from .version import read_version

TASK = "damage"
_BUILDING = "building"  # the head of models that find buildings on one image
GSD_M = 0.5
ROUNDS = 8

_CROP_PX, _BATCH = 320, 6
_STEPS_A_TILE, _FEWEST_STEPS, _MOST_STEPS = 25, 300, 4000
_RATE = 6e-4
_TILE_PX = 512
_DRAWN_TILES = 4
_GSD_RANGE_M = (0.2, 1.0)
_CURVES_NAME = "curves.png"
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
_SHARED_PARAMETERS = ("encoder", "decoder", "dilated_centre")


@dataclass(frozen=True)
class PairSet:
    """The labelled pairs of one folder.

    Attributes:
        folder: Where they lie.
        licence: Of its data.
        train: Those that are trained on.
        validation: Those that judge.
    """

    folder: Path
    licence: str
    train: list[DamageTile]
    validation: list[DamageTile]


@dataclass(frozen=True)
class _Run:
    """What the steps of a training share."""

    job: TrainModel
    sets: list[PairSet]
    groups: list[LevelGroup]
    card: Card
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
    _check_job(job)
    check_output(job)
    sets = []
    for i, name in enumerate(job.folders):
        yield Progress(0.0, f"Reading {Path(name).name}")
        sets.append(read_pairs(job, Path(name), job.licences[i] if i < len(job.licences) else "not stated"))
    groups = group_levels([tile for one in sets for tile in one.train])
    yield from (Warning(sentence) for sentence in describe_groups(groups))
    network, card = start_network(job, groups)
    source = _make_source(job, sets, groups, card)
    with _open_folder(job, network) as folder:
        trainer = _make_trainer(job, source, network, card, folder)
        run = _Run(job, sets, groups, card, source, trainer, History(folder, "score"))
        yield from _train(run)
        result = yield from undisturbed(_finish(run))
    yield result


def _check_job(job: TrainModel) -> None:
    if not job.folders:
        raise JobError("No folder of labelled pairs was given: name at least one.")
    if job.crop_px and (job.crop_px % 32 or job.crop_px < 64):
        raise JobError(f"Crops of {job.crop_px} px do not work: choose a multiple of 32 from 64 on.")
    if job.batch_size < 0 or job.accumulate < 1 or job.scale_jitter < 1:
        raise JobError("Batch size, accumulation and scale jitter must be at least 1.")
    if not 0 < job.validation_share < 1:
        raise JobError("The share of pairs for validation must lie between 0 and 1.")
    if process_count() > 1:
        raise JobError("Damage models train in one process: start the training without torchrun.")


def read_pairs(job: TrainModel, folder: Path, licence: str) -> PairSet:
    """The pairs of a folder, split as the job says.

    Raises:
        DatasetError: They cannot be read, or one side is empty.
    """
    if job.validation:
        train, validation = read_damage_folder(folder), read_damage_folder(Path(job.validation))
    elif job.splits:
        lists = read_splits(Path(job.splits), folder, TASK)
        train, validation = (read_damage_folder(folder, lists[part]) for part in ("train", "validation"))
    else:
        tiles = read_damage_folder(folder)
        # Every n-th scene in the order of their names, so that equal folders are split alike.
        every = min(max(2, round(1 / job.validation_share)), len(tiles))
        train = [t for i, t in enumerate(tiles) if i % every != every - 1]
        validation = [t for i, t in enumerate(tiles) if i % every == every - 1]
    if not train or not validation:
        raise DatasetError(
            f"{folder} gives {len(train)} pairs to train on and {len(validation)} to judge by, and both take "
            "at least one: add pairs, mend the lists, or name a folder of validation pairs."
        )
    return PairSet(folder, licence, _arrange(train), _arrange(validation))


def _arrange(tiles: list[DamageTile]) -> list[DamageTile]:
    """Chips of single buildings side by side; scenes as they are."""
    is_chips = bool(tiles) and all(tile.is_chip for tile in tiles)
    return arrange_chips(tiles) if is_chips else tiles


def describe_groups(groups: Sequence[LevelGroup]) -> list[str]:
    """A sentence for levels that were merged, and one for what the training buildings are."""
    counts = ", ".join(f"{group.count} {level_name(group)}" for group in groups)
    found = [f"Training buildings: {counts}."]
    for group in groups:
        if len(group.codes) > 1:
            names = " and ".join(level_of(code).name for code in group.codes)
            found.append(f"The levels {names} are merged: one of them has fewer than 50 training buildings.")
    return found


def start_network(job: TrainModel, groups: Sequence[LevelGroup]) -> tuple[SiameseUNet, Card]:
    """The network that a job starts from, and the card that it will have.

    From a damage model of the same levels all of it, from any other model with a building head what finds
    buildings: its encoder, decoder and building head.

    Raises:
        ModelError: The start model or the encoder weights do not fit.
    """
    torch.manual_seed(job.seed)
    names = [FOOTPRINT, *(str(level_of(group.code).field).removeprefix("p_") for group in groups)]
    if job.start_from == "scratch":
        architecture: dict[str, Any] = {
            "encoder": "mobilenet_v2",
            "decoder": "light",
            "dilated_centre": True,
        }
        architecture.update({k: v for k, v in job.architecture.items() if k != "name"})
        network = SiameseUNet(names, **architecture)
        if job.encoder_weights:
            try:
                load_encoder_weights(network.trunk, load_file(job.encoder_weights))
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"The encoder weights {job.encoder_weights} cannot be read ({error})."
                ) from error
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    else:
        package = _find_start(job)
        old = load_network(package)
        kept = {k: package.card.architecture[k] for k in _SHARED_PARAMETERS if k in package.card.architecture}
        architecture = dict(kept)
        network = SiameseUNet(names, **architecture)
        _inherit(network, old)
        half = slice(0, network.trunk.bands)
        mean, std = list(package.card.radiometry["mean"][half]), list(package.card.radiometry["std"][half])
    card = Card(
        name=job.name or Path(job.output).stem,
        title=f"Building damage: {', '.join(level_name(group) for group in groups)}",
        task=TASK,
        architecture={"name": "siamese_unet", "heads": names, **architecture},
        classes=tuple(
            {
                "code": group.code,
                "name": level_name(group),
                "colour": level_of(group.code).colour,
                "codes": list(group.codes),
                "training_buildings": group.count,
            }
            for group in groups
        ),
        bands=tuple(
            f"{colour} {when}" for when in ("before", "after") for colour in ("red", "green", "blue")
        ),
        radiometry={
            "scaling": "uint8 / 255; other types stretched between their 0.5 and 99.5 percentiles",
            "mean": mean + mean,
            "std": std + std,
        },
        gsd_m=job.working_gsd_m or GSD_M,
        gsd_range_m=_GSD_RANGE_M,
        tile_px=_TILE_PX,
        margin_px=96,
        stride_px=network.stride_px,
        threshold=0.5,
    )
    return network, card


def _find_start(job: TrainModel) -> Package:
    """The model to start from; the starter is a damage model if there is one, else a finder of buildings."""
    folders = [Path(folder) for folder in job.model_folders]
    if job.start_from != "starter":
        package = find_package(job.start_from, folders)
    else:
        packages = sorted(list_packages(folders), key=lambda p: p.card.task != TASK)
        fitting = [p for p in packages if p.card.task == TASK or _BUILDING in heads_of(p.card)]
        if not fitting:
            raise ModelError("There is no model to start from that finds buildings: start from scratch.")
        package = fitting[0]
    if package.card.task != TASK and _BUILDING not in heads_of(package.card):
        raise ModelError(f"The model {package.card.name} does not find buildings: start from another.")
    return package


def _inherit(network: SiameseUNet, old: SegmentationNetwork) -> None:
    """Take over what another network knows of buildings, and of damage if it tells the same levels apart."""
    if isinstance(old, SiameseUNet):
        theirs = old.state_dict()
        own = network.state_dict()
        network.load_state_dict({k: v for k, v in theirs.items() if v.shape == own[k].shape}, strict=False)
        return
    if not isinstance(old, UNet) or old.bands != network.trunk.bands:
        raise ModelError("Only a U-Net of the same bands can be started from: choose another model.")
    state = dict(old.state_dict())
    head = old.heads.index(_BUILDING)
    for name in ("head.weight", "head.bias"):
        state[name] = state[name][head : head + 1]
    network.trunk.load_state_dict(state)


def _make_source(
    job: TrainModel, sets: Sequence[PairSet], groups: Sequence[LevelGroup], card: Card
) -> PairCrops:
    mean = card.radiometry["mean"]
    settings = PairSettings(
        crop_px=job.crop_px or _CROP_PX,
        working_gsd_m=card.gsd_m,
        scale_jitter=min(job.scale_jitter, PairSettings.scale_jitter),
        fill=tuple(mean[: len(mean) // 2]),
        augmentation=job.augmentation,
    )
    return PairCrops([tile for one in sets for tile in one.train], groups, settings)


def _make_trainer(
    job: TrainModel, source: PairCrops, network: SiameseUNet, card: Card, folder: Path
) -> Trainer:
    mean, std = card.radiometry["mean"], card.radiometry["std"]
    batch = job.batch_size or _BATCH
    ground_px = sum(t.building.size * (t.gsd_m / card.gsd_m) ** 2 for t in source.tiles)
    steps_per_epoch = ground_px / source.settings.crop_px**2 / (batch * job.accumulate)
    asked = job.steps or round(job.epochs * steps_per_epoch)
    steps = asked or int(np.clip(_STEPS_A_TILE * len(source.tiles), _FEWEST_STEPS, _MOST_STEPS))
    device = choose_device(job.device)
    return Trainer(
        network,
        [source],
        [batch],
        damage_objective(suggest_class_weights(source.level_shares)),
        TrainerSettings(
            steps=steps,
            rounds=ROUNDS,
            learning_rate=job.learning_rate or _RATE,
            seed=job.seed,
            mean=tuple(mean),
            std=tuple(std),
            accumulate=job.accumulate,
        ),
        device,
        choose_precision(device) == torch.bfloat16,
        folder,
        build_schedule(job.schedule, steps, steps_per_epoch, job.step_every, job.step_unit),
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
    trainer, history = run.trainer, run.history
    trainer.restore()
    device, steps = describe_device(trainer.device), trainer.settings.steps
    start, first = time.monotonic(), trainer.step
    try:
        if trainer.step and trainer.is_round_end and not history.has_round(trainer.step):
            yield from _validate(run)
        for news in trainer.run():
            pace = (time.monotonic() - start) / (news.step - first)
            yield from report_step(news, history, steps, pace, device)
            if trainer.is_round_end:
                yield from _validate(run)
                trainer.observe(history.rounds[-1]["score"])
                if 0 < run.job.patience <= history.rounds_since_best:
                    yield Warning(
                        f"No better score in {run.job.patience} rounds: stopped at step {trainer.step}."
                    )
                    return
    except FinishEarly:
        if not trainer.step:
            raise  # nothing was learned that could be kept
        yield Warning(f"Stopped at step {trainer.step} of {steps}; the best network so far is kept.")
        if history.best is None:
            yield from _validate(run)


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
        draw_learning_curves(history.steps, history.rounds, folder / _CURVES_NAME)
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
        yield Progress(share, f"Validating after step {run.trainer.step}: tile {len(pairs)} of {len(tiles)}")
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
                "train_tiles": len(one.train),
                "validation_tiles": len(one.validation),
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
        data = ", ".join(f"{len(one.validation)} tiles of {one.folder.name}" for one in run.sets)
        report = publish_report(report_damage(card, data, summary, pictures), Path(name), folder)
    values = {
        **summary.values(),
        "pooling": pooling,
        "steps": run.trainer.step,
        "device": describe_device(run.trainer.device),
        "sets": [dict(m) for m in metrics],
    }
    return Result({"model": str(package.path), "figures": str(folder), "report": str(report)}, values)


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
