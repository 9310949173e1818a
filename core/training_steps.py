"""What training, its plan and the learning-rate range test share: tiles, network, recipe, trainer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from .cards import Card, Package, find_package, threshold_of
from .datasets.crops import NEGATIVE_BELOW, CropSettings, CropSource, weigh_tiles
from .datasets.folders import IGNORE, LabelledTile, TileArrays, read_splits, read_tile
from .datasets.footprints import Footprint
from .datasets.index import IndexProgress, TileRecord
from .datasets.splits import plan_folder_split, plan_listed_split, plan_split
from .datasets.survey import Survey, survey_folder
from .datasets.synthetic import generate_scene
from .errors import DatasetError, JobError, ModelError
from .jobs import Event, Progress, TrainModel, Warning
from .networks.devices import choose_device, choose_precision
from .networks.package import load_network
from .networks.unet import (
    SegmentationNetwork,
    TextbookUNet,
    UNet,
    build_network,
    load_encoder_weights,
    start_at_prior,
)
from .runs import cache_folder
from .tasks import BUILDINGS, TileTask, find_tile_task
from .training.diagnosis import TrainingPlan
from .training.losses import build_loss, suggest_positive_weight, sum_heads
from .training.schedules import Schedule, build_schedule, curve
from .training.trainer import Trainer, TrainerSettings

ROUNDS = 10
"""After each there is a checkpoint, a validation and new pictures."""

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_NEW_ARCHITECTURE = {"name": "unet", "encoder": "mobilenet_v2", "decoder": "light", "dilated_centre": True}
_TILE_PX = 1536  # large tiles: less is computed twice, and fewer pixels lie near a border
_SYNTHETIC_SCENES = 240
_SYNTHETIC_PX = 768
_LARGEST_CROP_PX = 384
_SMALLEST_CROP_PX = 128
_BATCH_PX = 8 * 384**2
_EPOCHS = 60
_NEW_RATE, _TUNING_RATE = 1e-3, 3e-4
_MANY_CROPS = 60
_FEWEST_STEPS, _MOST_STEPS = 150, 4000


@dataclass(frozen=True)
class TileSet:
    """One folder of the job: what it trains on and what it is judged by.

    Attributes:
        folder: The folder.
        licence: Of its data.
        train: Tiles that are trained on.
        validation: Tiles that judge.
        below_min_share: Tiles that would be trained on if they held more of the class.
        left_out: Tiles that stand on neither side, lest training and validation overlap.
        records: What the index knows of each tile, by the path of its image.
        split: How the sides were chosen, a sentence.
    """

    folder: Path
    licence: str
    train: list[LabelledTile]
    validation: list[LabelledTile]
    below_min_share: list[LabelledTile]
    left_out: list[LabelledTile]
    records: dict[Path, TileRecord]
    split: str

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name


@dataclass(frozen=True)
class Recipe:
    """What a job leaves open, made up for its data.

    Attributes:
        crop_px: Side of a crop at the working resolution.
        batch_size: Crops in a batch.
        steps_per_epoch: Steps in which as much ground is seen as there is; a fraction.
        steps: Of the whole run.
        learning_rate: At its peak.
    """

    crop_px: int
    batch_size: int
    steps_per_epoch: float
    steps: int
    learning_rate: float


def check_job(job: TrainModel) -> None:
    """Refuse what cannot work, before anything is read.

    Raises:
        JobError: A parameter makes no sense.
    """
    if not job.folders:
        raise JobError("No folder of labelled tiles was given: name at least one.")
    find_tile_task(job.task)
    if job.crop_px and (job.crop_px % 32 or job.crop_px < 64):
        raise JobError(f"Crops of {job.crop_px} px do not work: choose a multiple of 32 from 64 on.")
    if job.batch_size < 0 or job.accumulate < 1 or job.scale_jitter < 1:
        raise JobError("Batch size, accumulation and scale jitter must be at least 1.")
    if not 0 <= job.synthetic_share <= 1:
        raise JobError("The share of generated crops must lie between 0 and 1.")


def check_class(job: TrainModel, sets: Sequence[TileSet]) -> None:
    """Refuse to learn from background alone.

    Raises:
        DatasetError: No training tile shows the class, and no generated crop will.
    """
    if not job.synthetic_share and not pixel_share(sets, [one.train for one in sets]):
        raise DatasetError(
            f"No training tile of {', '.join(job.folders)} shows the class, so there is nothing to learn: "
            "check which value of the masks marks it, or add tiles that show it."
        )


def find_sets(job: TrainModel) -> Generator[Event, None, list[TileSet]]:
    """The tiles of each folder, indexed and split.

    Raises:
        DatasetError: A folder has no tiles that can be used, or too few.
        JobError: The validation folder cannot serve the job.
        OutputError: The cache cannot be written.
    """
    if job.validation and len(job.folders) > 1:
        raise JobError(
            "One folder of validation tiles serves one folder of training tiles: give a splits file."
        )
    sets = []
    for i, name in enumerate(job.folders):
        licence = job.licences[i] if i < len(job.licences) else "not stated"
        sets.append((yield from _find_set(job, Path(name), licence)))
    return sets


def _find_set(job: TrainModel, folder: Path, licence: str) -> Generator[Event, None, TileSet]:
    survey = yield from _survey(job, folder)
    records = {tile.image: record for tile, record in survey.usable}
    tiles, footprints = _with_footprints(survey)
    if job.validation:
        theirs = yield from _survey(job, Path(job.validation))
        records |= {tile.image: record for tile, record in theirs.usable}
        held_out, their_footprints = _with_footprints(theirs)
        split = plan_folder_split(tiles, held_out, Path(job.validation), footprints, their_footprints)
    elif job.splits:
        lists = read_splits(Path(job.splits), folder, job.task)
        broken = {record.stem for record in survey.records if record.problem}
        listed = {part: [s for s in stems if s not in broken] for part, stems in lists.items()}
        split = plan_listed_split(tiles, listed, folder, footprints)
    else:
        shares = [records[t.image].class_share for t in tiles]
        split = plan_split(tiles, shares, job.validation_share, footprints)
    kept = [t for t in split.train if records[t.image].class_share >= job.min_share]
    if not kept or not split.validation:
        raise DatasetError(
            f"{folder} leaves {len(kept)} training and {len(split.validation)} validation tiles: "
            "add tiles, or lower the least class share."
        )
    return TileSet(
        folder,
        licence,
        kept,
        split.validation,
        below_min_share=[t for t in split.train if records[t.image].class_share < job.min_share],
        left_out=split.left_out,
        records=records,
        split=split.how,
    )


def _with_footprints(survey: Survey) -> tuple[list[LabelledTile], list[Footprint | None]]:
    return [tile for tile, _ in survey.usable], [record.footprint for _, record in survey.usable]


def _survey(job: TrainModel, folder: Path) -> Generator[Event, None, Survey]:
    """What is known of a folder, with a word on what of it cannot be used."""
    cache = cache_folder(job.cache) / "indexes"
    for news in survey_folder(folder, cache, task=job.task, mask_value=job.mask_value):
        if isinstance(news, IndexProgress):
            yield Progress(0.0, f"Indexing {folder.name}: tile {news.done} of {news.total}")
        else:
            survey = news
    yield from (Warning(sentence) for sentence in (*survey.concerns, *survey.problems))
    return survey


def start_network(job: TrainModel) -> tuple[SegmentationNetwork, Card]:
    """The network that a job starts from, and the card that it will have.

    A model that was made for another task serves if one of its outputs is the class, as that of a road model
    for buildings is: the new network keeps that output and leaves the others.

    Raises:
        ModelError: The start model, the architecture or the encoder weights do not fit.
    """
    task = find_tile_task(job.task)
    if job.start_from != "scratch":
        package = _find_start(job)
        network, card = load_network(package), package.card
        if card.task != task.name:
            network, card = _with_one_head(network, card, task)
        gsd_m = job.working_gsd_m or card.gsd_m
        title = f"{task.title}, fine-tuned from {package.card.name}"
        return network, dataclasses.replace(card, name=_name(job), title=title, gsd_m=gsd_m)
    architecture = {**_NEW_ARCHITECTURE, **job.architecture}
    architecture.setdefault("heads", task.heads)
    torch.manual_seed(job.seed)
    network = build_network(architecture)
    if job.encoder_weights:
        if not isinstance(network, UNet):
            raise ModelError(
                "The textbook U-Net has no encoder that can be pretrained: leave the encoder weights out."
            )
        try:
            load_encoder_weights(network, load_file(job.encoder_weights))
        except (OSError, SafetensorError) as error:
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
        title=f"{task.title}, {architecture.get('encoder', 'textbook')}",
        task=job.task,
        architecture={**architecture, "heads": list(network.heads)},
        classes=(_describe_class(task),),
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


def _find_start(job: TrainModel) -> Package:
    """The package that a job starts from.

    Raises:
        ModelError: There is none, or it does not know the class.
    """
    task, folders = find_tile_task(job.task), [Path(folder) for folder in job.model_folders]
    name = "" if job.start_from == "starter" else job.start_from
    return find_package(name, folders, head=task.class_name, prefers=task.name)


def _with_one_head(
    network: SegmentationNetwork, card: Card, task: TileTask
) -> tuple[SegmentationNetwork, Card]:
    """The same network with the output for the class of a task alone, and its card without scores."""
    at = network.heads.index(task.class_name)
    architecture = {**card.architecture, "heads": [task.class_name]}
    small = build_network(architecture)
    state = network.state_dict()
    state.update({k: v[at : at + 1] for k, v in state.items() if k.startswith("head.")})
    small.load_state_dict(state)
    card = dataclasses.replace(
        card,
        task=task.name,
        architecture=architecture,
        classes=(_describe_class(task),),
        threshold=threshold_of(card, task.class_name),
        calibration={},
        metrics=(),
    )
    return small.eval(), card


def _describe_class(task: TileTask) -> dict[str, Any]:
    return {"code": 1, "name": task.class_name, "colour": task.colour}


def _name(job: TrainModel) -> str:
    return job.name or Path(job.output).stem


def at_working_resolution(job: TrainModel, sets: Sequence[TileSet], card: Card) -> Card:
    """The card with the ground resolution at which the network will work.

    What was asked for; else the start model's, or the tiles' own where that is finer and there are tiles
    enough to learn it, as far as scale jitter has shown it to the start model.
    """
    if job.working_gsd_m or job.start_from == "scratch":
        return card
    sizes = _working_sizes(job, sets, card.gsd_m)
    native = [one.records[t.image].gsd_m or job.gsd_m or card.gsd_m for one in sets for t in one.train]
    shown = float(card.training.get("scale_jitter") or TrainModel.scale_jitter)
    finest = max(float(np.median(native)), card.gsd_m / shown)
    if finest >= card.gsd_m or sizes.sum() < _MANY_CROPS / 2 * _LARGEST_CROP_PX**2:
        return card
    return dataclasses.replace(card, gsd_m=round(finest, 3))


def choose_recipe(job: TrainModel, sets: Sequence[TileSet], gsd_m: float) -> Recipe:
    """What the job leaves open: crops as large as the tiles, batches of equal cost, steps after the ground.

    Args:
        job: The job.
        sets: Its tiles.
        gsd_m: Working resolution.
    """
    sizes = _working_sizes(job, sets, gsd_m)
    crop_px = job.crop_px
    if not crop_px:
        side = float(np.median(np.sqrt(sizes)))
        crop_px = int(np.clip(32 * math.ceil(side / 32), _SMALLEST_CROP_PX, _LARGEST_CROP_PX))
    batch_size = job.batch_size or int(np.clip(round(_BATCH_PX / crop_px**2), 2, 32))
    crops = float(np.maximum(1.0, sizes / crop_px**2).sum())
    steps_per_epoch = crops / (batch_size * job.accumulate)
    asked = job.steps or round(job.epochs * steps_per_epoch)
    steps = asked or int(np.clip(_EPOCHS * steps_per_epoch, _FEWEST_STEPS, _MOST_STEPS))
    return Recipe(crop_px, batch_size, steps_per_epoch, steps, job.learning_rate or _suggest_rate(job, crops))


def _suggest_rate(job: TrainModel, crops: float) -> float:
    """Fine-tuning on a handful of crops takes smaller steps: little to learn there, much to lose."""
    if job.start_from == "scratch":
        return _NEW_RATE
    return _TUNING_RATE * float(np.clip(math.sqrt(crops / _MANY_CROPS), 1 / 3, 1))


def _working_sizes(job: TrainModel, sets: Sequence[TileSet], gsd_m: float) -> NDArray[np.float64]:
    """Pixels of each training tile at the working resolution."""
    records = [one.records[t.image] for one in sets for t in one.train]
    return np.array([r.width * r.height * ((r.gsd_m or job.gsd_m or gsd_m) / gsd_m) ** 2 for r in records])


def build_run_schedule(job: TrainModel, recipe: Recipe) -> Schedule:
    """The schedule of the learning rate over the run.

    Raises:
        JobError: There is no such schedule.
    """
    return build_schedule(job.schedule, recipe.steps, recipe.steps_per_epoch, job.step_every, job.step_unit)


def describe_recipe(recipe: Recipe, schedule: Schedule) -> dict[str, Any]:
    """The length of a run and its learning rates, in JSON values, as `PlanTraining` promises them."""
    return {
        "steps": recipe.steps,
        "steps_per_epoch": recipe.steps_per_epoch,
        "batch_size": recipe.batch_size,
        "crop_px": recipe.crop_px,
        "learning_rate": recipe.learning_rate,
        "learning_rates": [
            (step, recipe.learning_rate * factor) for step, factor in curve(schedule, recipe.steps)
        ],
    }


def draw_weights(sets: Sequence[TileSet]) -> list[float]:
    """How often each training tile is drawn, before class shares are weighed in.

    A set of three tiles must not be seen as often as one of fifty, nor a tenth as often: the √ of its pixels
    lies between. Within a set, tiles are drawn by the √ of theirs.
    """
    weights: list[float] = []
    for one in sets:
        records = [one.records[t.image] for t in one.train]
        pixels = np.array([r.width * r.height for r in records], dtype=float)
        roots = np.sqrt(pixels)
        weights += list(roots / roots.sum() * math.sqrt(pixels.sum()))
    return weights


def sampled_share(job: TrainModel, sets: Sequence[TileSet]) -> float:
    """Class share of the tiles as the sampler draws them, from the index alone."""
    shares = np.array([one.records[t.image].class_share for one in sets for t in one.train])
    return float(shares @ weigh_tiles(shares, np.array(draw_weights(sets)), job.sampler))


def pixel_share(sets: Sequence[TileSet], tiles: Sequence[Sequence[LabelledTile]]) -> float:
    """Class share of the labelled pixels of some tiles of each set."""
    records = [one.records[t.image] for one, some in zip(sets, tiles, strict=True) for t in some]
    return sum(r.class_px for r in records) / max(sum(r.valid_px for r in records), 1)


def make_plan(job: TrainModel, sets: Sequence[TileSet], recipe: Recipe) -> TrainingPlan:
    """The numbers of a training that are known before it begins.

    Raises:
        JobError: There is no such schedule or sampler.
    """
    train = [one.train for one in sets]
    every = [[*one.train, *one.below_min_share] for one in sets]
    share = sampled_share(job, sets)
    weight = job.positive_weight or suggest_positive_weight(share)
    return TrainingPlan(
        schedule=build_run_schedule(job, recipe),
        steps=recipe.steps,
        steps_per_epoch=recipe.steps_per_epoch,
        train_tiles=sum(map(len, train)),
        all_tiles=sum(map(len, every)),
        negative_tiles=_negatives(sets, train),
        all_negative_tiles=_negatives(sets, every),
        validation_tiles=sum(len(one.validation) for one in sets),
        min_share=job.min_share,
        share=pixel_share(sets, every),
        sampled_share=share,
        positive_weight=weight if job.loss == "weighted_bce" else 1.0,
    )


def _negatives(sets: Sequence[TileSet], tiles: Sequence[Sequence[LabelledTile]]) -> int:
    return sum(
        one.records[t.image].class_share < NEGATIVE_BELOW
        for one, some in zip(sets, tiles, strict=True)
        for t in some
    )


def crop_sources(
    sets: Sequence[TileSet], job: TrainModel, card: Card, recipe: Recipe
) -> Generator[Event, None, tuple[list[CropSource], list[int]]]:
    """Where crops come from, and how many of a batch come from each source; the tiles are read into memory.

    Raises:
        RasterError: An image can no longer be read.
        DatasetError: A mask cannot.
    """
    settings = CropSettings(
        recipe.crop_px,
        card.gsd_m,
        job.scale_jitter,
        sampler=job.sampler,
        fill=tuple(float(m) for m in card.radiometry["mean"]),
        augmentation=job.augmentation,
    )
    wanted = [tile for one in sets for tile in one.train]
    tiles: list[TileArrays] = []
    for tile in wanted:
        tiles.append(read_tile(tile, job.gsd_m or card.gsd_m, len(card.bands)))
        yield Progress(0.0, f"Reading tiles: {len(tiles)} of {len(wanted)}")
    sources = [CropSource(tiles, draw_weights(sets), settings)]
    generated_count = round(recipe.batch_size * job.synthetic_share)
    if not generated_count:
        return sources, [recipe.batch_size]
    generated = yield from _generate_tiles(job)
    sources.append(CropSource(generated, [1.0] * len(generated), settings))
    return sources, [recipe.batch_size - generated_count, generated_count]


def make_trainer(
    network: SegmentationNetwork,
    sources: Sequence[CropSource],
    counts: Sequence[int],
    card: Card,
    job: TrainModel,
    recipe: Recipe,
    folder: Path,
) -> Trainer:
    """The trainer of a job; a new network is made to begin at the share of the class (`start_at_prior`).

    Raises:
        JobError: There is no such loss or schedule, or the batch is too small for the processes.
        DeviceError: There is no such device.
    """
    device = choose_device(job.device)
    torch.manual_seed(job.seed)
    settings = TrainerSettings(
        steps=recipe.steps,
        rounds=ROUNDS,
        learning_rate=recipe.learning_rate,
        seed=job.seed,
        mean=tuple(card.radiometry["mean"]),
        std=tuple(card.radiometry["std"]),
        accumulate=job.accumulate,
    )
    share = sources[0].sampled_share
    if job.start_from == "scratch" and job.prior_bias and isinstance(network, UNet | TextbookUNet):
        start_at_prior(network, share)
    # A line is thin, and a skeleton says where it runs; a roof's says nothing.
    of_class, of_roofs = (
        build_loss(job.loss, share, positive_weight=job.positive_weight, skeleton_weight=weight)
        for weight in (job.skeleton_weight, 0.0)
    )
    losses = [of_class, *(of_roofs for _ in network.heads[1:])]
    use_bfloat16 = choose_precision(device) == torch.bfloat16
    schedule = build_run_schedule(job, recipe)
    return Trainer(
        network, sources, counts, sum_heads(losses), settings, device, use_bfloat16, folder, schedule
    )


def _generate_tiles(job: TrainModel) -> Generator[Event, None, list[TileArrays]]:
    """Generated scenes at several ground resolutions, from the training's seed."""
    rng = np.random.default_rng((job.seed, 0xA77E))
    tiles = []
    for i in range(_SYNTHETIC_SCENES):
        gsd_m = float(np.exp(rng.uniform(np.log(0.35), np.log(1.0))))
        scene = generate_scene(int(rng.integers(2**31)), _SYNTHETIC_PX, gsd_m)
        labels = np.stack((scene.road, scene.building)).astype(np.uint8)
        if job.task == BUILDINGS.name:
            labels = np.stack((scene.building, np.full_like(labels[0], IGNORE)))
        tiles.append(
            TileArrays(f"generated-{i}", np.ascontiguousarray(np.moveaxis(scene.image, 2, 0)), labels, gsd_m)
        )
        yield Progress(0.0, f"Generating scenes: {i + 1} of {_SYNTHETIC_SCENES}")
    return tiles
