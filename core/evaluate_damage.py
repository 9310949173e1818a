"""Score a damage model on labelled pairs: buildings, levels, ranking, and the xView2 score."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .cards import Package
from .damage_report import draw_pair, report_damage
from .damage_scoring import score_pairs
from .damage_summary import score_each, summarise_pairs
from .datasets.damage_survey import image_paths
from .datasets.damage_tiles import LevelGroup, arrange_chips, read_damage_folder
from .datasets.folders import read_splits
from .errors import DatasetError
from .jobs import EvaluateModel, Event, Figure, Progress, Result, Warning
from .networks.package import rewrite_card
from .networks.segmenter import load_segmenter
from .reports import check_report_folder, publish_report
from .vector.pooled_levels import MEAN

_TASK = "damage"
_DRAWN_TILES = 8


def evaluate_damage(job: EvaluateModel, package: Package) -> Iterator[Event]:
    """Run a damage model over labelled pairs and compare.

    The result's values are those of `DamageSummary.values`; under ``plain_mean`` the macro-F1 where each
    building has the plain mean of its pixels, the baseline of the model's pooling; and under ``tile_scores``
    those of `score_each`, with the paths of the images after. Chips of single buildings are cut to one size,
    so that they carry no cue of it.

    Raises:
        DatasetError: The folder holds no labelled pairs, or one of them is broken.
        OutputError: The report cannot be written.
    """
    if job.report:
        check_report_folder(Path(job.report))
    yield from (Warning(sentence) for sentence in describe_ignored(job))
    folder, card = Path(job.folder), package.card
    yield Progress(0.0, f"Reading {folder.name}")
    stems = read_splits(Path(job.splits), folder, _TASK).get(job.part, []) if job.splits else None
    tiles = read_damage_folder(folder, stems)
    if not tiles:
        raise DatasetError(f"The list {job.part} of {job.splits} names no pair of {folder.name}.")
    if all(tile.is_chip for tile in tiles):
        tiles = arrange_chips(tiles)
    groups = [
        LevelGroup(int(c["code"]), tuple(c["codes"]), int(c["training_buildings"])) for c in card.classes
    ]
    segmenter = load_segmenter(package, job.device)
    pairs = []
    for pair in score_pairs(tiles, segmenter):
        pairs.append(pair)
        yield Progress(len(pairs) / len(tiles), f"Scoring: pair {len(pairs)} of {len(tiles)}")
    pooling = card.calibration.get("pooling", MEAN)
    threshold = card.threshold if job.threshold is None else job.threshold
    summary = summarise_pairs(pairs, groups, pooling, threshold)
    plain = summarise_pairs(pairs, groups, MEAN, threshold)
    values = {**summary.values(), "plain_mean": plain.brief(), "pairs": len(tiles)}
    images = image_paths(folder)
    each = [{**one, "image": images[one["stem"]]} for one in score_each(pairs, groups, pooling, threshold)]
    outputs = {}
    if job.report:
        with tempfile.TemporaryDirectory(prefix="aftermap-report-") as name:
            pictures = {}
            for pair in sorted(pairs, key=lambda p: -len(p.tile.buildings))[:_DRAWN_TILES]:
                pictures[pair.tile.stem] = Path(name) / f"{pair.tile.stem}.png"
                draw_pair(pair, groups, threshold, pictures[pair.tile.stem])
            report = report_damage(card, f"{len(tiles)} pairs of {folder.name}", summary, pictures)
            outputs["report"] = str(publish_report(report, Path(name), Path(job.report)))
            for stem in pictures:
                yield Figure(stem, str(Path(job.report) / f"{stem}.png"))
    if job.record:
        part = job.part if job.splits else "all"
        is_left_out = folder.resolve().name not in (data["name"] for data in card.training_data)
        entry = {"dataset": folder.resolve().name, "part": part, "left_out": is_left_out, **values}
        kept = [m for m in card.metrics if (m["dataset"], m["part"]) != (entry["dataset"], part)]
        rewrite_card(package, dataclasses.replace(card, metrics=(*kept, entry)))
    yield Result(outputs, {**values, "tile_scores": each})


def describe_ignored(job: EvaluateModel) -> list[str]:
    """A sentence about the options that were given and mean nothing for damage; none where there are none."""
    given = {
        "the colour probe": job.probe,
        "the ground size of a pixel": job.gsd_m is not None,
        "the mask value": bool(job.mask_value),
    }
    names = [name for name, is_given in given.items() if is_given]
    return [f"Without effect on the scores of a damage model: {', '.join(names)}."] if names else []
