"""The end of a training: the scores of its network on the validation tiles, and the report."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from .cards import Card
from .datasets.folders import LabelledTile
from .evaluate_model import WorstTiles
from .evaluation.calibration import Scaling
from .evaluation.colour_probe import perturbations, summarise_probe
from .evaluation.pixel_scores import LevelCounts
from .evaluation.report import Picture, Report, Section, Table, Text
from .evaluation.report_sections import (
    calibration_section,
    confusion_of,
    confusion_section,
    highlight_scores,
    probe_section,
    score_section,
    threshold_section,
    tile_section,
)
from .evaluation.tile_scores import ModelScores
from .jobs import Event, Progress
from .networks.segmenter import Segmenter
from .scoring import probe_tiles, score_tiles
from .tasks import find_tile_task
from .training_steps import TileSet

_DRAWN_TILES = 12
_PROBED_TILES = 16  # each is run once for each perturbation


@dataclass
class FinalScores:
    """What the trained network scores, as a run will use it.

    Attributes:
        total: Over the validation tiles of all sets.
        by_set: Name of each set, and the scores over its tiles, in the order of the sets.
        probe: How the score depends on colour, as of `colour_probe.summarise_probe`.
        pictures: Triptychs of the worst tiles, by the path of the image.
    """

    total: ModelScores
    by_set: list[tuple[str, ModelScores]] = field(default_factory=list)
    probe: dict[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)

    def metrics(self) -> list[dict[str, Any]]:
        """One object a set, for the card."""
        return [
            {"dataset": name, "part": "validation", **_known(scores.values())} for name, scores in self.by_set
        ]

    def tile_values(self) -> list[dict[str, Any]]:
        """Scores of each tile as JSON values, the worst first."""
        return [tile.values(self.total.threshold) for tile in self.total.worst_first()]


@dataclass(frozen=True)
class TrainingFacts:
    """What a report says besides scores.

    Attributes:
        sets: The tiles.
        card: Of the trained model.
        curves: PNG of the learning curves.
        findings: What the diagnosis said.
        unscaled: Validation pixels by level, before `scaling`.
        scaling: What calibrates the probabilities.
        device: On which it ran.
    """

    sets: Sequence[TileSet]
    card: Card
    curves: Path
    findings: Sequence[str]
    unscaled: LevelCounts
    scaling: Scaling
    device: str


def score_finally(
    sets: Sequence[TileSet], segmenter: Segmenter, card: Card, gsd_m: float | None, folder: Path
) -> Generator[Event, None, FinalScores]:
    """Score the trained network on all validation tiles, and on some of them in other colours.

    Args:
        sets: Whose validation tiles.
        segmenter: The network, calibrated.
        card: Its card.
        gsd_m: Ground resolution of tiles that state none; none: the card's.
        folder: For the pictures of the worst tiles.
    """
    gallery = WorstTiles(folder, _DRAWN_TILES)
    task = find_tile_task(card.task)
    final = FinalScores(ModelScores(card.threshold, task), pictures=gallery.pictures)
    bands, gsd_m = len(card.bands), gsd_m or card.gsd_m
    for one in sets:
        scores = ModelScores(card.threshold, task)
        final.by_set.append((one.name, scores))  # two folders may have one name
        for tile in score_tiles(one.validation, segmenter, bands, gsd_m):
            found = tile.scores(card.threshold, task.is_linear)
            scores.add(found)
            final.total.add(found)
            gallery.add(tile, card.threshold, found.iou, found.wrong_px)
            yield Progress(1.0, f"Scoring {one.name}: tile {len(scores.tiles)} of {len(one.validation)}")
    tiles = [tile for one in sets for tile in one.validation]
    final.probe = yield from _probe(tiles, segmenter, bands, gsd_m, final.total)
    return final


def _probe(
    tiles: Sequence[LabelledTile], segmenter: Segmenter, bands: int, gsd_m: float, scores: ModelScores
) -> Generator[Event, None, dict[str, float]]:
    """The colour probe on tiles evenly over all; nothing where none shows the class."""
    at = np.unique(np.linspace(0, len(tiles) - 1, min(len(tiles), _PROBED_TILES)).astype(int))
    clean = LevelCounts()
    for i in at:
        clean.merge(scores.tiles[i].counts)
    if not clean.positive.any():
        return {}
    iou: dict[str, float] = {}
    done, total = 0, len(at) * len(perturbations(bands))
    for name, score in probe_tiles([tiles[i] for i in at], segmenter, bands, gsd_m, scores.threshold):
        if score is not None:
            iou[name] = score
            continue
        done += 1
        yield Progress(1.0, f"Changing colours: run {done} of {total}")
    return summarise_probe(clean.scores(scores.threshold)["iou"], iou)


def report_training(facts: TrainingFacts, final: FinalScores) -> Report:
    """The report of a training."""
    card, scores = facts.card, final.total
    training = card.training
    return Report(
        title=f"Training of {card.name}",
        facts={
            "Model": f"{card.name}: {card.title}",
            "Training tiles": sum(len(one.train) for one in facts.sets),
            "Validation tiles": len(scores.tiles),
            "Steps": f"{training['best_step']} of {training['steps']} (the best round)",
            "Threshold": card.threshold,
            "Ground resolution of the network": f"{card.gsd_m:g} m",
            "Device": facts.device,
            "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        },
        highlights=highlight_scores(scores),
        sections=(
            Section("Findings", (Text(facts.findings, is_list=True),) if facts.findings else ()),
            _curve_section(facts.curves),
            _data_section(facts.sets, final),
            score_section(scores),
            threshold_section(scores.counts, card.threshold),
            calibration_section(
                facts.unscaled, facts.scaling, scores.task.class_name, ("before scaling", "after scaling")
            ),
            confusion_section(confusion_of(scores, str(card.classes[0]["name"]))),
            *([probe_section(final.probe)] if final.probe else []),
            tile_section(scores, final.pictures),
            _recipe_section(training),
        ),
    )


def _curve_section(curves: Path) -> Section:
    if not curves.exists():  # stopped before the first round
        return Section("Learning curves", ())
    alt = "Cross-entropy, scores, loss, learning rate and class share over the steps of the training"
    return Section("Learning curves", (Picture(curves.read_bytes(), alt, is_wide=True),))


def _data_section(sets: Sequence[TileSet], final: FinalScores) -> Section:
    rows = []
    for one, (_, scores) in zip(sets, final.by_set, strict=True):
        iou = scores.intervals()["iou"]
        rows.append((one.name, len(one.train), len(one.validation), len(one.left_out), iou, one.licence))
    table = Table(("data", "training tiles", "validation tiles", "left out", "IoU", "licence"), rows)
    return Section("Data", (table, Text([f"{one.name}: {one.split}" for one in sets], is_list=True)))


def _recipe_section(training: Mapping[str, Any]) -> Section:
    """How it was trained, to be read and to be repeated."""
    rows = [
        (name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in training.items()
        if isinstance(value, (str, int, float))
    ]
    return Section("Recipe", (Table(("setting", "value"), rows, is_folded=True),))


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is NaN, which JSON does not know."""
    return {k: v for k, v in values.items() if not (isinstance(v, float) and math.isnan(v))}
