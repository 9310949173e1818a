"""Train a network on folders of labelled tiles, from the starter model unless told otherwise."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from .cards import Card, find_package
from .datasets.crops import CropSettings, CropSource, make_batch
from .datasets.folders import LabelledTile, TileArrays, find_tiles, read_splits, read_tile, select_tiles
from .datasets.index import IndexProgress, TileRecord, index_tiles
from .datasets.splits import split_tiles
from .datasets.synthetic import generate_scene
from .errors import DatasetError, JobError, ModelError
from .evaluation.pixel_scores import LEVELS, LevelCounts, choose_threshold, level_of, relaxed_f1, sum_relaxed
from .jobs import Event, Figure, Metric, Progress, Result, TrainModel, Warning
from .networks.context import measure_margin
from .networks.devices import choose_device, choose_precision, describe_device
from .networks.package import count_parameters, load_network, save_package
from .networks.segmenter import Segmenter
from .networks.unet import SegmentationNetwork, UNet, build_network, load_encoder_weights
from .runs import cache_folder, open_work
from .scoring import score_tiles
from .training.figures import draw_learning_curves, draw_triptych
from .training.losses import build_loss
from .training.trainer import Trainer, TrainerSettings
from .version import read_version

ROUNDS = 10
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_NEW_ARCHITECTURE = {"name": "unet", "encoder": "mobilenet_v2", "decoder": "light", "dilated_centre": True}
_HEADS = ("road", "building")
_BEST_NAME = "best.safetensors"
_DRAWN_TILES = 4
_TILE_PX = 1536  # large tiles: less is computed twice, and fewer pixels lie near a border
_MARGIN_CROPS = 4
_MARGIN_STRIDES = 24  # side of the crops that the context margin is measured on
_SYNTHETIC_SCENES = 240
_SYNTHETIC_PX = 768


@dataclass(frozen=True)
class _TileSet:
    """One folder of the job: what it trains on and what it is judged by."""

    name: str
    licence: str
    train: list[LabelledTile]
    validation: list[LabelledTile]


def train_model(job: TrainModel) -> Iterator[Event]:
    """Train, validate after each round, keep the best, calibrate its threshold, write it with its card.

    Raises:
        DatasetError: The tiles cannot be used.
        ModelError: The start model or the encoder weights do not fit.
        JobError: A parameter makes no sense.
    """
    _check(job)
    identity = {**dataclasses.asdict(job), "resume": True, "version": read_version()}
    with open_work(identity, cache=job.cache, resume=job.resume) as work:
        sets = yield from _find_sets(job)
        network, card = _start_network(job)
        sources, counts = yield from _crop_sources(sets, job, card)
        trainer = _make_trainer(network, sources, counts, card, job, work.path)
        history = _History(work.path)
        yield from _train(trainer, sets, card, job, history)
        best = build_network(card.architecture)
        best.load_state_dict(load_file(work.path / _BEST_NAME))
        card = _finish_card(card, sets, job, trainer, history.best)
        card = dataclasses.replace(card, margin_px=_measure_margin(best.eval(), trainer, card.threshold))
        package = save_package(Path(job.output), best, card)
        work.discard()
    values = {**history.best, "steps": trainer.settings.steps, "device": describe_device(trainer.device)}
    yield Result({"model": str(package.path), "figures": str(_figure_folder(job))}, values)


_RECORDED = (
    "task", "start_from", "batch_size", "crop_px", "scale_jitter", "loss", "sampler",
    "min_share", "synthetic_share", "seed",
)  # fmt: skip


def _check(job: TrainModel) -> None:
    if not job.folders:
        raise JobError("No folder of labelled tiles was given: name at least one.")
    if job.task != "roads":
        raise JobError(f"This version trains for roads, not for {job.task!r}.")
    if job.crop_px % 32 or job.crop_px < 64:
        raise JobError(f"Crops of {job.crop_px} px do not work: choose a multiple of 32 from 64 on.")
    if not 0 <= job.synthetic_share <= 1 or job.batch_size < 1 or job.scale_jitter < 1:
        raise JobError(
            "The batch size must be at least 1, the scale jitter at least 1, the generated share 0 to 1."
        )
    output = Path(job.output)
    if output.parent.exists() and not os.access(output.parent, os.W_OK):
        raise JobError(
            f"The model cannot be written to {output.parent}: choose a folder where you may write."
        )


def _find_sets(job: TrainModel) -> Generator[Event, None, list[_TileSet]]:
    sets = []
    for i, name in enumerate(job.folders):
        folder = Path(name)
        licence = job.licences[i] if i < len(job.licences) else "not stated"
        found, shares = yield from _usable(job, find_tiles(folder), folder.name)
        train, validation = yield from _split(job, folder, found, shares)
        train = [t for t in train if shares[t.stem] >= job.min_share]
        if not train or not validation:
            raise DatasetError(
                f"{folder.name} leaves {len(train)} training and {len(validation)} validation tiles: "
                "add tiles, or lower the least class share."
            )
        sets.append(_TileSet(folder.name, licence, train, validation))
    return sets


def _split(
    job: TrainModel, folder: Path, tiles: list[LabelledTile], shares: dict[str, float]
) -> Generator[Event, None, tuple[list[LabelledTile], list[LabelledTile]]]:
    if job.splits:
        lists = read_splits(Path(job.splits), folder, job.task)
        broken = set(shares) - {t.stem for t in tiles}
        train, validation = (
            select_tiles(tiles, [s for s in lists.get(part, []) if s not in broken], folder)
            for part in ("train", "validation")
        )
        return train, validation
    if job.validation:
        if len(job.folders) > 1:
            raise JobError(
                "One folder of validation tiles serves one folder of training tiles: give a splits file."
            )
        held_out, _ = yield from _usable(job, find_tiles(Path(job.validation)), Path(job.validation).name)
        return tiles, held_out
    train, validation, how = split_tiles(tiles, [shares[t.stem] for t in tiles], job.validation_share)
    yield Warning(f"{folder.name}: {how}")
    return train, validation


def _usable(
    job: TrainModel, tiles: list[LabelledTile], name: str
) -> Generator[Event, None, tuple[list[LabelledTile], dict[str, float]]]:
    """The tiles that can be read, with a word on each that cannot, and class shares by stem."""
    records: list[TileRecord] = []
    for news in index_tiles(tiles, cache_folder(job.cache) / "indexes"):
        if isinstance(news, IndexProgress):
            yield Progress(0.0, f"Indexing {name}: tile {news.done} of {news.total}")
        else:
            records = news
    for record in records:
        if record.problem:
            yield Warning(record.problem)
    usable = [t for t, r in zip(tiles, records, strict=True) if not r.problem]
    return usable, {r.stem: r.road_share for r in records}


def _start_network(job: TrainModel) -> tuple[SegmentationNetwork, Card]:
    if job.start_from != "scratch":
        name = "" if job.start_from == "starter" else job.start_from
        package = find_package(name, map(Path, job.model_folders), job.task)
        gsd_m = job.working_gsd_m or package.card.gsd_m
        card = dataclasses.replace(
            package.card, name=_name(job), title=f"Roads, fine-tuned from {package.card.name}", gsd_m=gsd_m
        )
        return load_network(package), card
    architecture = {**_NEW_ARCHITECTURE, **job.architecture}
    architecture.setdefault("heads", _HEADS)
    torch.manual_seed(job.seed)
    network = build_network(architecture)
    if job.encoder_weights:
        if not isinstance(network, UNet):
            raise ModelError(
                "The textbook U-Net has no encoder that can be pretrained: leave the encoder weights out."
            )
        try:
            load_encoder_weights(network, load_file(job.encoder_weights))
        except OSError as error:
            raise ModelError(
                f"The encoder weights {job.encoder_weights} cannot be read ({error})."
            ) from error
    bands = (
        ("red", "green", "blue")
        if network.bands == 3
        else tuple(f"band {i + 1}" for i in range(network.bands))
    )
    card = Card(
        name=_name(job),
        title=f"Roads, {architecture.get('encoder', 'textbook')}",
        task=job.task,
        architecture={**architecture, "heads": list(network.heads)},
        classes=({"code": 1, "name": "road", "colour": "#e6005a"},),
        bands=bands,
        radiometry={
            "scaling": "uint8 / 255; other types stretched between their 0.5 and 99.5 percentiles",
            "mean": list((_IMAGENET_MEAN * network.bands)[: network.bands]),
            "std": list((_IMAGENET_STD * network.bands)[: network.bands]),
        },
        gsd_m=job.working_gsd_m or 0.8,
        gsd_range_m=(0.1, 2.0),
        tile_px=_TILE_PX,
        margin_px=192,
        stride_px=network.stride_px,
        threshold=0.5,
    )
    return network, card


def _figure_folder(job: TrainModel) -> Path:
    output = Path(job.output)
    return output.with_name(f"{output.stem}-training")


def _name(job: TrainModel) -> str:
    return job.name or Path(job.output).stem


def _crop_sources(
    sets: Sequence[_TileSet], job: TrainModel, card: Card
) -> Generator[Event, None, tuple[list[CropSource], list[int]]]:
    """Where crops come from, and how many of a batch come from each source."""
    fill = tuple(float(m) for m in card.radiometry["mean"])
    settings = CropSettings(job.crop_px, card.gsd_m, job.scale_jitter, sampler=job.sampler, fill=fill)
    tiles, weights = yield from _read_tiles(sets, job, card)
    sources = [CropSource(tiles, weights, settings)]
    generated_count = round(job.batch_size * job.synthetic_share)
    if not generated_count:
        return sources, [job.batch_size]
    generated = yield from _generate_tiles(job)
    sources.append(CropSource(generated, [1.0] * len(generated), settings))
    return sources, [job.batch_size - generated_count, generated_count]


def _make_trainer(
    network: SegmentationNetwork,
    sources: Sequence[CropSource],
    counts: Sequence[int],
    card: Card,
    job: TrainModel,
    folder: Path,
) -> Trainer:
    device = choose_device(job.device)
    torch.manual_seed(job.seed)
    settings = TrainerSettings(
        steps=job.steps or _suggest_steps(sources[0].tiles, job),
        rounds=ROUNDS,
        learning_rate=job.learning_rate or (1e-3 if job.start_from == "scratch" else 3e-4),
        seed=job.seed,
        mean=tuple(card.radiometry["mean"]),
        std=tuple(card.radiometry["std"]),
    )
    losses = [build_loss(job.loss, sources[0].sampled_share) for _ in network.heads]
    use_bfloat16 = choose_precision(device) == torch.bfloat16
    return Trainer(network, sources, counts, losses, settings, device, use_bfloat16, folder)


def _finish_card(
    card: Card, sets: Sequence[_TileSet], job: TrainModel, trainer: Trainer, best: dict[str, Any]
) -> Card:
    data: list[dict[str, Any]] = [
        {
            "name": s.name,
            "licence": s.licence,
            "train_tiles": len(s.train),
            "validation_tiles": len(s.validation),
        }
        for s in sets
    ]
    if job.synthetic_share:
        data.append({"name": "generated", "licence": "none needed", "share": job.synthetic_share})
    return dataclasses.replace(
        card,
        threshold=best["threshold"],
        calibration={
            "method": "mean IoU of the sets over their validation tiles",
            "temperature": 1.0,
        },
        metrics=tuple(best["sets"]),
        training_data=tuple(data),
        training={
            **{k: v for k, v in dataclasses.asdict(job).items() if k in _RECORDED},
            "steps": trainer.settings.steps,
            "best_step": best["step"],
            "learning_rate": trainer.settings.learning_rate,
            "parameters": count_parameters(trainer.network),
            "sampled_road_share": round(trainer.sources[0].sampled_share, 4),
        },
        versions={"aftermap": read_version(), "torch": str(torch.__version__)},
        licence="; ".join(sorted({s.licence for s in sets})),
    )


def _measure_margin(network: SegmentationNetwork, trainer: Trainer, threshold: float) -> int:
    """The context margin of a network, on large crops of its training tiles at their true scale."""
    source = trainer.sources[0]
    side = _MARGIN_STRIDES * network.stride_px
    settings = dataclasses.replace(source.settings, crop_px=side, scale_jitter=1.0)
    crops = CropSource(source.tiles, list(source.tile_weights), settings)
    images, _ = make_batch([crops], [_MARGIN_CROPS], trainer.settings.seed, 0)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (trainer.settings.mean, trainer.settings.std))
    return measure_margin(network, (images - mean) / std, threshold)


def _read_tiles(
    sets: Sequence[_TileSet], job: TrainModel, card: Card
) -> Generator[Event, None, tuple[list[TileArrays], list[float]]]:
    """Training tiles in memory, and how often each is drawn: sets by √ of their pixels, so do their tiles."""
    tiles: list[TileArrays] = []
    weights: list[float] = []
    total = sum(len(s.train) for s in sets)
    for one in sets:
        arrays = []
        for tile in one.train:
            arrays.append(read_tile(tile, job.gsd_m or card.gsd_m, len(card.bands)))
            yield Progress(0.0, f"Reading tiles: {len(tiles) + len(arrays)} of {total}")
        areas = np.sqrt([a.labels[0].size for a in arrays])
        # A set of three tiles must not be seen as often as one of fifty: √ of its pixels lies between.
        set_weight = math.sqrt(sum(a.labels[0].size for a in arrays))
        weights += list(areas / areas.sum() * set_weight)
        tiles += arrays
    return tiles, weights


def _generate_tiles(job: TrainModel) -> Generator[Event, None, list[TileArrays]]:
    """Generated scenes at several ground resolutions, from the training's seed."""
    rng = np.random.default_rng((job.seed, 0xA77E))
    tiles = []
    for i in range(_SYNTHETIC_SCENES):
        gsd_m = float(np.exp(rng.uniform(np.log(0.35), np.log(1.0))))
        scene = generate_scene(int(rng.integers(2**31)), _SYNTHETIC_PX, gsd_m)
        labels = np.stack((scene.road, scene.building)).astype(np.uint8)
        tiles.append(
            TileArrays(f"generated-{i}", np.ascontiguousarray(np.moveaxis(scene.image, 2, 0)), labels, gsd_m)
        )
        yield Progress(0.0, f"Generating scenes: {i + 1} of {_SYNTHETIC_SCENES}")
    return tiles


def _suggest_steps(tiles: Sequence[TileArrays], job: TrainModel) -> int:
    """About sixty looks at each crop's worth of ground, 150 to 4000 steps."""
    crops = sum(max(1.0, t.labels[0].size / job.crop_px**2) for t in tiles)
    return int(np.clip(60 * crops / job.batch_size, 150, 4000))


class _History:
    """What a training did so far, kept beside its checkpoint so that a resumed one goes on with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.losses: list[tuple[int, float]] = []
        self.rates: list[tuple[int, float]] = []
        self.rounds: list[dict[str, Any]] = []
        path = folder / "history.json"
        if path.exists():
            body = json.loads(path.read_text(encoding="utf-8"))
            self.losses, self.rates = ([tuple(x) for x in body[k]] for k in ("losses", "rates"))
            self.rounds = body["rounds"]

    def forget_after(self, step: int) -> None:
        """Drop what lies after the checkpoint that the training goes on from."""
        self.losses = [x for x in self.losses if x[0] <= step]
        self.rates = [x for x in self.rates if x[0] <= step]

    @property
    def best(self) -> dict[str, Any]:
        """The round with the highest mean IoU over the sets, and the last of equals."""
        return max(self.rounds, key=lambda r: (r["iou"], r["step"]))

    def add_round(self, scores: dict[str, Any], network: SegmentationNetwork) -> None:
        """Keep a round's scores, and its network if it is the best so far."""
        self.rounds = [r for r in self.rounds if r["step"] != scores["step"]] + [scores]
        if self.best is scores:
            staged = self.folder / "best.tmp"
            save_file({k: v.contiguous().cpu() for k, v in network.state_dict().items()}, staged)
            staged.replace(self.folder / _BEST_NAME)
        staged = self.folder / "history.tmp"
        staged.write_text(
            json.dumps({"losses": self.losses, "rates": self.rates, "rounds": self.rounds}), encoding="utf-8"
        )
        staged.replace(self.folder / "history.json")


def _train(
    trainer: Trainer, sets: Sequence[_TileSet], card: Card, job: TrainModel, history: _History
) -> Iterator[Event]:
    """The rounds: train, validate, draw; the start model's own score is round 0."""
    figures, steps = _figure_folder(job), trainer.settings.steps
    trainer.restore()
    history.forget_after(trainer.step)
    is_due = trainer.is_round_end if trainer.step else job.start_from != "scratch"
    if is_due and trainer.step not in (r["step"] for r in history.rounds):
        yield from _validate(trainer, sets, card, job, history, None)
    start, first = time.monotonic(), trainer.step
    for news in trainer.run():
        if news.step % 10 == 0 or news.step == steps:
            history.losses.append((news.step, news.loss))
            history.rates.append((news.step, news.learning_rate))
            yield Metric("training", {"loss": news.loss, "learning_rate": news.learning_rate}, news.step)
        left = (time.monotonic() - start) / (news.step - first) * (steps - news.step)
        yield Progress(
            news.step / steps,
            f"Training: step {news.step} of {steps}, loss {news.loss:.3f}, {left:.0f} s left",
        )
        if trainer.is_round_end:
            is_last = news.step == steps
            yield from _validate(trainer, sets, card, job, history, figures if is_last else None)
            draw_learning_curves(
                history.losses, history.rounds, history.rates, figures / "learning-curves.png"
            )
            yield Figure("Learning curves", str(figures / "learning-curves.png"))


def _validate(
    trainer: Trainer,
    sets: Sequence[_TileSet],
    card: Card,
    job: TrainModel,
    history: _History,
    figures: Path | None,
) -> Iterator[Event]:
    """Score the averaged network, and choose its threshold by the mean IoU over the sets."""
    segmenter = Segmenter(
        copy.deepcopy(trainer.averaged), card, trainer.device, choose_precision(trainer.device)
    )
    results = []
    for one in sets:
        counts, tiles = LevelCounts(), []
        for tile in score_tiles(one.validation, segmenter, len(card.bands), job.gsd_m or card.gsd_m):
            counts.merge(tile.counts)
            tiles.append(tile)
            yield Progress(
                trainer.step / trainer.settings.steps,
                f"Validating {one.name}: tile {len(tiles)} of {len(one.validation)}",
            )
        results.append((one, counts, tiles))
    telling = [c for _, c, _ in results if c.positive.any()]
    if not telling and not history.rounds:
        yield Warning(
            "No validation tile shows a road, so neither rounds nor thresholds can be compared: "
            "add tiles that do."
        )
    curve = np.mean([c.iou_curve() for c in telling], axis=0) if telling else np.zeros(LEVELS)
    threshold = choose_threshold(curve, card.threshold)
    scores: dict[str, Any] = {
        "step": trainer.step,
        "iou": float(curve.max()),
        "threshold": threshold,
        "sets": [],
    }
    for one, counts, tiles in results:
        scores["sets"].append(
            {
                "dataset": one.name,
                "part": "validation",
                **counts.scores(threshold),
                "relaxed_f1": relaxed_f1(sum_relaxed(t.relaxed(level_of(threshold)) for t in tiles)),
                "threshold": threshold,
                "tiles": len(tiles),
            }
        )
        if figures is not None:
            for tile in tiles[:_DRAWN_TILES]:
                path = figures / f"{one.name}-{tile.stem}.png"
                draw_triptych(tile.image, tile.labels[0], tile.probabilities, threshold, tile.stem, path)
                yield Figure(tile.stem, str(path))
    scores["f1"] = float(np.mean([s["f1"] for s in scores["sets"]]))
    history.add_round(scores, trainer.averaged)
    yield Metric("validation", {k: v for k, v in scores.items() if k != "sets"}, trainer.step)
