"""What training a damage model and its plan share: pairs, levels, the network to start from, the recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .cards import Card, Package, find_package, heads_of, list_packages
from .damage_fields import level_of
from .damage_summary import level_name
from .datasets.damage_crops import PairSettings
from .datasets.damage_tiles import (
    FEWEST_BUILDINGS,
    DamageTile,
    LevelGroup,
    arrange_chips,
    read_whole_tiles,
)
from .datasets.folders import read_splits
from .errors import DatasetError, JobError, ModelError
from .jobs import TrainModel
from .networks.package import load_network
from .networks.siamese import FOOTPRINT, SiameseUNet
from .networks.unet import SegmentationNetwork, UNet, load_encoder_weights
from .training.diagnosis import find_early_end, find_never_acting
from .training.distributed import process_count
from .training.schedules import Schedule
from .training_steps import Recipe

TASK = "damage"
GSD_M = 0.5

_BUILDING = "building"  # the head of models that find buildings on one image
_CROP_PX, _BATCH = 320, 6
_STEPS_A_TILE, _FEWEST_STEPS, _MOST_STEPS = 25, 300, 4000
_RATE = 6e-4
_TILE_PX = (
    1024  # every pixel is computed 1.6 times instead of 2.6 with 512 px, for 0.6 GB of memory instead of 0.4
)
_NAMED_PROBLEMS = 5
_GSD_RANGE_M = (0.2, 1.0)
_SHARED_PARAMETERS = ("encoder", "decoder", "dilated_centre")
_FEW_PAIRS = 5
_FEW_JUDGED = 20  # of one level: an interval on its F1 is then about 0.2 wide on each side
_NO_EFFECT = (
    "mask_value",
    "gsd_m",
    "loss",
    "positive_weight",
    "skeleton_weight",
    "sampler",
    "min_share",
    "synthetic_share",
)
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class PairSet:
    """The labelled pairs of one folder.

    Attributes:
        folder: Where they lie.
        licence: Of its data.
        train: Those that are trained on; chips are arranged in larger tiles.
        validation: Those that judge, likewise.
        counts: How many pairs are trained on, and how many judge.
        split: How the sides were chosen, a sentence.
        problems: A sentence for each pair that was left out because a file of it is damaged.
    """

    folder: Path
    licence: str
    train: list[DamageTile]
    validation: list[DamageTile]
    counts: tuple[int, int]
    split: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """Size of a tile that is trained on.

    Attributes:
        height: In pixels.
        width: In pixels.
        gsd_m: Side of a pixel.
    """

    height: int
    width: int
    gsd_m: float

    def pixels_at(self, gsd_m: float) -> float:
        """How many pixels it has at another resolution."""
        return self.height * self.width * (self.gsd_m / gsd_m) ** 2


def check_job(job: TrainModel) -> None:
    """Refuse what cannot work, before anything is read.

    Raises:
        JobError: A parameter makes no sense.
    """
    if not job.folders:
        raise JobError("No folder of labelled pairs was given: name at least one.")
    if job.crop_px and (job.crop_px % 32 or job.crop_px < 64):
        raise JobError(f"Crops of {job.crop_px} px do not work: choose a multiple of 32 from 64 on.")
    if job.batch_size < 0 or job.accumulate < 1 or job.scale_jitter < 1:
        raise JobError("Batch size, accumulation and scale jitter must be at least 1.")
    if not 0 < job.validation_share < 1:
        raise JobError("The share of pairs for validation must lie between 0 and 1.")
    if job.validation and len(job.folders) > 1:
        raise JobError(
            "One folder of validation pairs serves one folder of training pairs: give a splits file."
        )
    if process_count() > 1:
        raise JobError("Damage models train in one process: start the training without torchrun.")


def describe_ignored(job: TrainModel) -> list[str]:
    """A sentence about parameters that were given and mean nothing for damage; none where there are none."""
    given = [name for name in _NO_EFFECT if getattr(job, name) != getattr(TrainModel, name)]
    if not given:
        return []
    names = ", ".join(name.removesuffix("_m").replace("_", " ") for name in given)
    return [f"Without effect on the training of a damage model: {names}."]


def read_pairs(job: TrainModel, folder: Path, licence: str) -> PairSet:
    """The pairs of a folder, split as the job says.

    Raises:
        DatasetError: They cannot be read, or one side is empty.
    """
    if job.validation:
        (train, broken), (validation, others) = map(read_whole_tiles, (folder, Path(job.validation)))
        problems = broken + others
    elif job.splits:
        lists = read_splits(Path(job.splits), folder, TASK)
        (train, broken), (validation, others) = (
            read_whole_tiles(folder, lists.get(part, [])) for part in ("train", "validation")
        )
        problems = broken + others
    else:
        tiles, problems = read_whole_tiles(folder)
        train, validation = split_evenly(tiles, job.validation_share)
    check_sides(folder, len(train), len(validation))
    split = describe_split(job, [t.group for t in train], [t.group for t in validation])
    counts = (len(train), len(validation))
    return PairSet(folder, licence, _arrange(train), _arrange(validation), counts, split, problems)


def split_evenly(pairs: Sequence[_Item], validation_share: float) -> tuple[list[_Item], list[_Item]]:
    """Every n-th pair in the order of their names judges, so that equal folders are split alike.

    Returns:
        Those that are trained on, and those that judge.
    """
    every = min(max(2, round(1 / validation_share)), len(pairs))
    train = [p for i, p in enumerate(pairs) if i % every != every - 1]
    return train, [p for i, p in enumerate(pairs) if i % every == every - 1]


def describe_split(job: TrainModel, train: Sequence[str], validation: Sequence[str]) -> str:
    """How the sides were chosen, and whether they show the same events.

    Args:
        job: The job.
        train: Event of each pair that is trained on.
        validation: Of each that judges.
    """
    if job.validation:
        how = f"the pairs of {Path(job.validation).resolve().name} judge."
    elif job.splits:
        how = f"the lists of {Path(job.splits).name} say which pairs judge."
    else:
        every = max(2, round((len(train) + len(validation)) / max(len(validation), 1)))
        how = f"one pair in {every}, in the order of their names, judges."
    both = sorted(set(train) & set(validation))
    if not both:
        return f"{how} No event is on both sides."
    named = both[0] if len(both) == 1 else f"{both[0]} and {len(both) - 1} more events"
    return (
        f"{how} Pairs of {named} are on both sides: the scores will say how well the model does there, and "
        "less about another event."
    )


def check_sides(folder: Path, train: int, validation: int) -> None:
    """Refuse a folder of which one side is empty.

    Raises:
        DatasetError: One is.
    """
    if not train or not validation:
        raise DatasetError(
            f"{folder} gives {train} pairs to train on and {validation} to judge by, and both take at least "
            "one: add pairs, mend the lists, or name a folder of validation pairs."
        )


def describe_problems(pairs: PairSet) -> list[str]:
    """A sentence for each of the first pairs that were left out, and one with their number."""
    if not pairs.problems:
        return []
    total = f"Pairs of {pairs.folder} that were left out because a file of theirs is damaged: "
    return [*pairs.problems[:_NAMED_PROBLEMS], f"{total}{len(pairs.problems)}."]


def _arrange(tiles: list[DamageTile]) -> list[DamageTile]:
    """Chips of single buildings side by side; scenes as they are."""
    is_chips = bool(tiles) and all(tile.is_chip for tile in tiles)
    return arrange_chips(tiles) if is_chips else tiles


def describe_groups(groups: Sequence[LevelGroup]) -> list[str]:
    """A sentence for what the training buildings are, and one for levels that were merged."""
    counts = ", ".join(f"{group.count} {level_name(group)}" for group in groups)
    return [f"Training buildings: {counts}.", *describe_merged(groups)]


def describe_merged(groups: Sequence[LevelGroup]) -> list[str]:
    """A sentence for levels that were merged."""
    found = []
    for group in groups:
        *names, last = (level_of(code).name for code in group.codes)
        if names:
            found.append(
                f"The levels {', '.join(names)} and {last} are merged: one of them has fewer than "
                f"{FEWEST_BUILDINGS} training buildings."
            )
    return found


def diagnose_levels(groups: Sequence[LevelGroup], judged: Mapping[int, int], pairs: int) -> list[str]:
    """What is odd about the buildings that teach and that judge, in sentences.

    Args:
        groups: The levels that are told apart.
        judged: Validation buildings by code of `xbd.Damage`.
        pairs: Validation pairs.
    """
    found = [
        f"Training buildings that are {level_name(group)}: {group.count}. {FEWEST_BUILDINGS} are the least "
        "that can teach a level: add pairs that show it."
        for group in groups
        if group.count < FEWEST_BUILDINGS
    ]
    if pairs < _FEW_PAIRS:
        found.append(
            f"Pairs that judge: {pairs}, so that scores depend on which. Hold back {_FEW_PAIRS} or more."
        )
    for group in groups:
        count = sum(judged.get(code, 0) for code in group.codes)
        if not count:
            found.append(
                f"No validation building is {level_name(group)}: how well this level is told cannot be "
                "measured. Hold back pairs that show it, by lists or in a folder of their own."
            )
        elif count < _FEW_JUDGED:
            found.append(
                f"Validation buildings that are {level_name(group)}: {count}, so that the score of this "
                "level is a rough one."
            )
    return found


def diagnose_schedule(schedule: Schedule, recipe: Recipe) -> list[str]:
    """What is odd about the schedule of the learning rate, in sentences."""
    found = (
        find(schedule, recipe.steps, recipe.steps_per_epoch) for find in (find_never_acting, find_early_end)
    )
    return [finding.sentence for finding in found if finding is not None]


def choose_recipe(job: TrainModel, tiles: Sequence[Ground], gsd_m: float) -> Recipe:
    """What the job leaves open.

    Args:
        job: The job.
        tiles: What is trained on; chips as they are arranged.
        gsd_m: Working resolution.
    """
    crop_px, batch = job.crop_px or _CROP_PX, job.batch_size or _BATCH
    ground_px = sum(tile.pixels_at(gsd_m) for tile in tiles)
    steps_per_epoch = ground_px / crop_px**2 / (batch * job.accumulate)
    asked = job.steps or round(job.epochs * steps_per_epoch)
    steps = asked or int(np.clip(_STEPS_A_TILE * len(tiles), _FEWEST_STEPS, _MOST_STEPS))
    return Recipe(crop_px, batch, steps_per_epoch, steps, job.learning_rate or _RATE)


def crop_settings(job: TrainModel, recipe: Recipe, card: Card) -> PairSettings:
    """How crops are drawn."""
    mean = card.radiometry["mean"]
    return PairSettings(
        crop_px=recipe.crop_px,
        working_gsd_m=card.gsd_m,
        scale_jitter=min(job.scale_jitter, PairSettings.scale_jitter),
        fill=tuple(mean[: len(mean) // 2]),
        augmentation=job.augmentation,
    )


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
