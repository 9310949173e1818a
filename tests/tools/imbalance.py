"""The class-imbalance experiment: what each of the usual remedies is worth, on real tiles, at equal cost.

Every variant trains the same network on the same ground for the same number of steps, with three seeds, and
is scored on tiles of other areas: once on all training areas, and twice on a single area that the starter
model has never seen, as an analyst would who labels tiles of a new place: from the weights of ImageNet, and
from those of the starter model. What is finished is kept in the work folder, so that a run that was stopped
goes on.

The folder of data holds ``roads_dubai``, ``roads_massachusetts`` (``images/`` and ``masks/`` each) and
``encoders/mobilenet_v2_imagenet.safetensors``; ``splits.json`` in it names the validation tiles.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from aftermap.core.cards import read_package
from aftermap.core.datasets.folders import LabelledTile, read_splits, select_tiles
from aftermap.core.datasets.layouts import list_content
from aftermap.core.evaluation.colour_probe import summarise_probe
from aftermap.core.evaluation.pixel_scores import LevelCounts
from aftermap.core.jobs import Result, TrainModel, Warning
from aftermap.core.networks.segmenter import Segmenter, load_segmenter
from aftermap.core.scoring import probe_tiles, score_tiles
from aftermap.core.train_model import train_model
from aftermap.core.training.losses import constant_loss

SEEDS = (1, 2, 3)
EPOCHS = 5
CROP_PX = 256
BATCH = 8
GSD_M = 1.0
LEARNING_RATE = 1e-3
SETS = ("roads_dubai", "roads_massachusetts")
HELD_OUT = tuple(f"t{area}_{i:03d}" for area in (1, 3, 4, 5, 6, 7) for i in (5, 8))
"""Tiles of the areas that are trained on that are held out to choose the round and the threshold by."""

HELD_OUT_QUARTER = "11278720_15"
"""Tile whose top right quarter is held out where each data set is a folder: each then needs validation."""

PROBED_AREA = "t2_"
NEW_AREA = "t5_"


@dataclass(frozen=True)
class Ground:
    """What is trained on, and what scores.

    Attributes:
        part: List of the splits that the training tiles come from.
        trained: Data set to what the names of its training tiles begin with.
        scored: The same for the validation tiles that score.
        is_from_starter: Every variant starts from the starter model, at the rate that suits that.
    """

    part: str
    trained: Mapping[str, str]
    scored: Mapping[str, str]
    is_from_starter: bool = False


LISTS = Ground("train", dict.fromkeys(SETS, ""), dict.fromkeys(SETS, ""))
NEW_PLACE = Ground("validation", {"roads_dubai": NEW_AREA}, {"roads_dubai": PROBED_AREA})
NEW_PLACE_TUNED = replace(NEW_PLACE, is_from_starter=True)
GROUNDS = {"lists": LISTS, "new-place": NEW_PLACE, "new-place-tuned": NEW_PLACE_TUNED}


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        name: In the table.
        changes: Fields of the job.
        is_whole: Trains on whole tiles, from which crops are drawn anyhow, with a folder for each data set;
            else on a fixed grid of crops, all in one folder.
        is_probed: Also measured under other colours.
        is_tried_on_new_place: Also trained on `NEW_PLACE`.
        seeds: One run each.
        twin: Variant with the same learning rate at every step. Where its first seed ends at the same weights
            to the last bit, all do, and its results are this one's.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    is_whole: bool = False
    is_probed: bool = False
    is_tried_on_new_place: bool = True
    seeds: tuple[int, ...] = SEEDS
    twin: str = ""


_FROM_STARTER = {"start_from": "starter", "encoder_weights": "", "learning_rate": 0.0}  # 0: the recipe's
_PLAIN = {
    "loss": "bce",
    "sampler": "uniform",
    "schedule": "step",
    "step_every": 30,
    "augmentation": "mild",
    "scale_jitter": 1.0,
    "prior_bias": False,
}
VARIANTS = {
    "bce": Variant("unweighted BCE; step of 30 epochs", _PLAIN),
    "step-60-epochs": Variant(
        "unweighted BCE; step of 60 epochs",
        {**_PLAIN, "step_every": 60},
        is_tried_on_new_place=False,
        seeds=(1,),
        twin="bce",
    ),
    "step-30-batches": Variant("unweighted BCE; step of 30, per batch", {**_PLAIN, "step_unit": "batch"}),
    "step-60-batches": Variant(
        "unweighted BCE; step of 60, per batch",
        {**_PLAIN, "step_unit": "batch", "step_every": 60},
        is_tried_on_new_place=False,
    ),
    "filtered": Variant("unweighted BCE; only crops with 20 % road", {**_PLAIN, "min_share": 0.2}),
    "weighted": Variant("weighted BCE", {**_PLAIN, "loss": "weighted_bce"}),
    "default": Variant("default recipe, from ImageNet", is_whole=True, is_probed=True),
    "default-starter": Variant(
        "default: from the starter model",
        _FROM_STARTER,
        is_whole=True,
        is_probed=True,
    ),
    "default-colours": Variant(
        "default recipe, from ImageNet, without colour augmentation",
        {"augmentation": "none"},
        is_whole=True,
        is_probed=True,
        is_tried_on_new_place=False,
    ),
}


def main() -> None:
    """Run what is missing, then write summary, page and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/imbalance"))
    parser.add_argument("--out", type=Path, default=Path("resources/experiments"))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of the seeds are run")
    parser.add_argument("--only", nargs="*", default=[*VARIANTS], help="variants that are run; else all")
    parser.add_argument(
        "--report", action="store_true", help="write the page of what is finished; run nothing"
    )
    options = parser.parse_args()
    data, work = options.data.resolve(), options.work.resolve()
    seeds = () if options.report else SEEDS[: options.seeds]
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "class-imbalance.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, ground in GROUNDS.items():
        folder = work / name
        for seed, variant in itertools.product(seeds, options.only):
            run_once(ground, variant, seed, data, folder)
        # What was measured before and is not in the work folder stays what it was.
        summary[name] = summarise(folder, summary.get(name, {}))
    path.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    (options.out / "class-imbalance.md").write_text(report(summary), encoding="utf-8")
    draw(summary["lists"], options.out / "class-imbalance.png")


def run_once(ground: Ground, name: str, seed: int, data: Path, work: Path) -> None:
    """One variant with one seed, unless it is finished or none of the ground's."""
    variant, path = VARIANTS[name], work / f"{name}-{seed}.json"
    if path.exists() or seed not in variant.seeds or not is_tried(variant, ground):
        return
    folders = {False: work / "crops", True: work / "whole"}
    for is_whole, folder in folders.items():
        if not folder.exists():
            write_tiles(ground, data, folder, is_whole)
    result = run(variant, ground, seed, data, folders[variant.is_whole], path.with_suffix(".aftermap"))
    path.write_text(json.dumps(result), encoding="utf-8")
    print(work.name, name, seed, {k: round(v, 3) for k, v in result["iou"].items()}, flush=True)


def is_tried(variant: Variant, ground: Ground) -> bool:
    """Whether a variant is one of a ground's."""
    if ground is LISTS:
        return True
    starts_there = variant.changes.get("start_from") == "starter"
    is_its_start = starts_there == ground.is_from_starter
    return variant.is_tried_on_new_place and (is_its_start or not variant.is_whole)


def write_tiles(ground: Ground, data: Path, folder: Path, is_whole: bool) -> None:
    """The training and calibration tiles: whole, a folder a set, or those to train on cut on a grid."""
    staged = folder.with_name(f"{folder.name}.tmp")
    lists: dict[str, dict[str, list[str]]] = {}
    for name, prefix in ground.trained.items():
        target = staged / name if is_whole else staged
        listed = lists.setdefault(name if is_whole else folder.name, {"train": [], "validation": []})
        for tile in listed_tiles(data, name, ground.part, prefix):
            images = {"images": Image.open(tile.image).convert("RGB"), "masks": _mask(tile.mask)}
            for part, box in _pieces(tile, is_whole):
                stem = f"{name}-{tile.stem}_{box[1]}_{box[0]}"
                listed[part].append(stem)
                for kind, image in images.items():
                    (target / kind).mkdir(parents=True, exist_ok=True)
                    image.crop(box).save(target / kind / f"{stem}.png")
    (staged / "splits.json").write_text(json.dumps(lists), encoding="utf-8")
    staged.rename(folder)


def _mask(path: Path) -> Image.Image:
    return Image.open(path).convert("L").point(lambda v: 255 * (v > 127))


def _pieces(tile: LabelledTile, is_whole: bool) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Which list each piece of a tile stands on, and its left, top, right and bottom."""
    with Image.open(tile.image) as image:
        width, height = image.size
    if tile.stem in HELD_OUT:
        yield "validation", (0, 0, width, height)
    elif is_whole and tile.stem == HELD_OUT_QUARTER:
        yield "validation", (width // 2, 0, width, height // 2)
        yield "train", (0, 0, width // 2, height)
        yield "train", (width // 2, height // 2, width, height)
    elif is_whole:
        yield "train", (0, 0, width, height)
    else:
        for top in range(0, height - CROP_PX + 1, CROP_PX):
            for left in range(0, width - CROP_PX + 1, CROP_PX):
                yield "train", (left, top, left + CROP_PX, top + CROP_PX)


def count_crops(folder: Path) -> tuple[int, int, int, int]:
    """Training crops, those with 20 % road; training tiles, those with 20 % road."""
    shares: dict[str, list[float]] = {}
    for stem in json.loads((folder / "splits.json").read_text())[folder.name]["train"]:
        share = float((np.asarray(Image.open(folder / "masks" / f"{stem}.png")) > 0).mean())
        shares.setdefault(stem.rsplit("_", 2)[0], []).append(share)
    crops = [share for some in shares.values() for share in some]
    whole = [statistics.fmean(some) for some in shares.values()]
    return len(crops), sum(s >= 0.2 for s in crops), len(whole), sum(s >= 0.2 for s in whole)


def run(
    variant: Variant, ground: Ground, seed: int, data: Path, folder: Path, output: Path
) -> dict[str, Any]:
    """Train and score one variant with one seed."""
    # Equal steps for all: five times round the crops of the grid.
    steps = round(EPOCHS * count_crops(folder.with_name("crops"))[0] / BATCH)
    fields = {
        "start_from": "scratch",
        "encoder_weights": str(data / "encoders" / "mobilenet_v2_imagenet.safetensors"),
        "learning_rate": LEARNING_RATE,
        "batch_size": BATCH,
        "crop_px": CROP_PX,
        **variant.changes,
        **(_FROM_STARTER if ground.is_from_starter else {}),
    }
    job = TrainModel(
        folders=tuple(str(images.parent) for images in sorted(folder.rglob("images"))),
        output=str(output),
        splits=str(folder / "splits.json"),
        gsd_m=GSD_M,
        working_gsd_m=GSD_M,
        steps=steps,
        seed=seed,
        cache=str(output.parent / "cache"),
        **fields,
    )
    events = list(train_model(job))
    assert isinstance(events[-1], Result)
    package = read_package(output)
    segmenter, threshold = load_segmenter(package), package.card.threshold
    counts = {
        name: _count(listed_tiles(data, name, "validation", prefix), segmenter)
        for name, prefix in ground.scored.items()
    }
    probe = {}
    if variant.is_probed and ground is LISTS:
        tiles = listed_tiles(data, "roads_dubai", "validation", PROBED_AREA)
        iou = {name: score for name, score in probe_tiles(tiles, segmenter, 3, GSD_M, threshold) if score}
        probe = summarise_probe(_count(tiles, segmenter).scores(threshold)["iou"], iou)
    return {
        "iou": {name: c.scores(c.best_threshold())["iou"] for name, c in counts.items()},
        "iou_transferred": {name: c.scores(threshold)["iou"] for name, c in counts.items()},
        "iou_at_half": {name: c.scores(0.5)["iou"] for name, c in counts.items()},
        "threshold": threshold,
        "weights": package.card.weights_sha256,
        "probe": probe,
        "training": package.card.training,
        "findings": [e.message for e in events if isinstance(e, Warning)],
    }


def listed_tiles(data: Path, name: str, part: str, prefix: str) -> list[LabelledTile]:
    """The tiles on a list of a data set whose names begin so."""
    stems = read_splits(data / "splits.json", data / name, "roads")[part]
    wanted = [stem for stem in stems if stem.startswith(prefix)]
    return select_tiles(list_content(data / name, "roads").tiles, wanted, data / name)


def _count(tiles: Sequence[LabelledTile], segmenter: Segmenter) -> LevelCounts:
    total = LevelCounts()
    for tile in score_tiles(tiles, segmenter, 3, GSD_M):
        total.merge(tile.counts)
    return total


Summary = dict[str, Any]


def summarise(work: Path, before: Summary) -> Summary:
    """What the runs of a ground say: those of a variant whose seeds are finished, else what stood before.

    Returns:
        ``variants``: by name ``seeds``, a mean with its range of ``iou``, ``carried`` and ``probe``, and the
        ``curve`` of the last seed (step, IoU and cross-entropy on `HELD_OUT`; empty where it was not kept);
        and what is equal for all: ``crops``, ``steps``, ``guess``.
    """
    variants: Summary = dict(before.get("variants", {}))
    summary = {**before, "variants": variants}
    for name in VARIANTS:
        paths = [path for seed in SEEDS if (path := work / f"{name}-{seed}.json").exists()]
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        if not runs:
            continue
        training = runs[-1]["training"]
        curve = [[r["step"], *_on_held_out(r)] for r in training["rounds"] if r["step"]]
        if name in variants and len(runs) < len(VARIANTS[name].seeds):
            variants[name]["curve"] = variants[name]["curve"] or curve
            continue
        variants[name] = {
            "seeds": len(runs),
            "weights": [r["weights"] for r in runs],
            "iou": _spreads([r["iou"] for r in runs]),
            "carried": _spreads([r["iou_transferred"] for r in runs]),
            "probe": _spreads([r["probe"] for r in runs]),
            "curve": curve,
        }
        summary["steps"], summary["crops"] = training["steps"], count_crops(work / "crops")
        twin = variants.get(VARIANTS[name].twin)
        if twin and twin.get("weights", [""])[0] == runs[0]["weights"]:
            variants[name] = twin
        if name == "bce":
            shares = [s["class_share"] for s in training["curve"]]
            summary["guess"] = constant_loss(statistics.fmean(shares))
    return summary


def _on_held_out(scores: Mapping[str, Any]) -> tuple[float, float]:
    """IoU and cross-entropy of a round on `HELD_OUT`, which are those of the first set."""
    folders = {one["name"]: one for one in scores.get("folders", ())}
    on = folders.get(SETS[0], scores)
    return on["iou"], on["loss"]


def _spreads(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float, float]]:
    """Mean, lowest and highest of each value."""
    values = {key: [run[key] for run in runs] for key in runs[0]}
    return {key: (statistics.fmean(some), min(some), max(some)) for key, some in values.items()}


def report(summary: Summary) -> str:
    """The tables, with what they say."""
    lists, place, tuned = (summary[name]["variants"] for name in GROUNDS)
    known = [name for name in VARIANTS if name in lists]
    rows = [
        [_label(name, lists), *_cells(lists[name], "iou", SETS), *_cells(lists[name], "carried", SETS)]
        for name in known
    ]
    probes = [
        [
            _label(name, lists),
            *_cells(lists[name], "probe", ("clean", "unseen")),
            *_cells(lists[name], "probe", ("worst_drop", "mean_drop"), percent=True),
        ]
        for name in known
        if lists[name]["probe"]
    ]
    places = [
        [
            _label(name, tuned if name in tuned else place),
            *_cells(place.get(name), "iou", SETS[:1]),
            *_cells(place.get(name), "carried", SETS[:1]),
            *_cells(tuned.get(name), "iou", SETS[:1]),
            *_cells(tuned.get(name), "carried", SETS[:1]),
        ]
        for name in VARIANTS
        if name in place or name in tuned
    ]
    crops, new_crops = summary["lists"]["crops"], summary["new-place"]["crops"]
    steps = summary["lists"]["steps"]
    page = Path(__file__).with_name("imbalance_page.md").read_text(encoding="utf-8")
    return page.format(
        steps=steps,
        rows=_table(rows),
        probes=_table(probes),
        places=_table(places),
        new_crops=new_crops[0],
        new_rich_crops=new_crops[1],
        new_tiles=new_crops[2],
        new_steps=summary["new-place"]["steps"],
        crops=crops[0],
        rich_crops=crops[1],
        tiles=crops[2],
        rich_tiles=crops[3],
        epochs=EPOCHS,
        gone_30=f"{60 / steps:.0%}",
        gone_60=f"{120 / steps:.0%}",
    )


def _label(name: str, variants: Summary) -> str:
    return f"{VARIANTS[name].name} | {variants[name]['seeds']}"


def _cells(entry: Summary | None, what: str, keys: Sequence[str], percent: bool = False) -> list[str]:
    if entry is None:
        return ["–"] * len(keys)
    factor, digits = (100, 1) if percent else (1, 3)
    cells = []
    for key in keys:
        mean, low, high = (f"{factor * value:.{digits}f}" for value in entry[what][key])
        cells.append(mean if entry["seeds"] == 1 else f"{mean} ({low} to {high})")
    return cells


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(lists: Summary, path: Path) -> None:
    """Curves of one seed of each variant, once those of all are known; those of a twin are its own."""
    drawn = {name: entry for name, entry in lists["variants"].items() if not VARIANTS[name].twin}
    if not all(entry["curve"] for entry in drawn.values()):
        return
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, variant in VARIANTS.items():
        if name in drawn:
            steps, iou, loss = zip(*drawn[name]["curve"], strict=True)
            left.plot(steps, iou, marker="o", ms=3, label=variant.name)
            right.plot(steps, loss, marker="o", ms=3)
    right.axhline(lists["guess"], color="0.4", ls="--", lw=1)
    right.annotate(f"constant guess: {lists['guess']:.3f}", (0, lists["guess"]), va="bottom", fontsize=8)
    left.set(title="IoU on the held-out tiles", xlabel="step", ylim=(0, None))
    right.set(title="Unweighted cross-entropy on the held-out tiles", xlabel="step", ylim=(0, 0.7))
    left.legend(fontsize=7)
    for axes in (left, right):
        axes.grid(color="0.9")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
