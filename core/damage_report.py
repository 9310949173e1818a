"""Pictures and reports of damage models: pre | post | truth | prediction, scores, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .cards import Card
from .damage_fields import LEVELS
from .damage_scoring import ScoredPair
from .damage_summary import DamageSummary
from .datasets.damage_tiles import LevelGroup
from .evaluation.bootstrap import Interval
from .evaluation.figures import shrink_panels
from .evaluation.report import Cell, Picture, Report, Section, Table, Text

_GAP_PX, _TITLE_PX = 6, 20
_UNSEEN = 60
_ALPHA = 0.6


def draw_pair(pair: ScoredPair, groups: Sequence[LevelGroup], threshold: float, path: Path) -> None:
    """Write a pair as one PNG: before, after, truth and prediction, the levels in their colours.

    Args:
        pair: What is drawn.
        groups: Levels that the model tells apart.
        threshold: From which a pixel is taken for building.
        path: The PNG.
    """
    tile, p = pair.tile, pair.at_size()
    post = np.moveaxis(tile.post[:3], 0, 2)
    pre = np.full_like(post, _UNSEEN) if tile.pre is None else np.moveaxis(tile.pre[:3], 0, 2)
    codes = np.array([group.code for group in groups], np.uint8)
    told = np.where(p[0] >= threshold, codes[p[1:].argmax(axis=0)], 0).astype(np.uint8)
    panels = [pre, post, _tint(pre, tile.damage), _tint(post, told)]
    height, width = tile.building.shape
    sheet = Image.new("RGB", (4 * (width + _GAP_PX) - _GAP_PX, height + _TITLE_PX), "white")
    for i, panel in enumerate(panels):
        sheet.paste(Image.fromarray(panel), (i * (width + _GAP_PX), _TITLE_PX))
    ImageDraw.Draw(sheet).text((4, 4), f"{tile.stem}: before | after | truth | prediction", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, compress_level=1)


def _tint(image: NDArray[np.uint8], codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    result = image.astype(np.float32)
    for level in LEVELS[1:]:
        colour = np.array([int(level.colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        there = codes == level.code
        result[there] += _ALPHA * (colour - result[there])
    return result.astype(np.uint8)


def report_damage(
    card: Card,
    data: str,
    summary: DamageSummary,
    pictures: Mapping[str, Path],
    curves: Path | None = None,
    findings: Sequence[str] = (),
) -> Report:
    """The report of a damage model on labelled pairs.

    Args:
        card: Of the model.
        data: On what it was judged, in words.
        summary: How well it did.
        pictures: Of pairs, by name.
        curves: PNG of the learning curves of a training that has just ended; it may be missing.
        findings: What that training said of its pairs.
    """
    scores = summary.by_building
    at = summary.buildings.scores(summary.threshold)
    sections = [
        Section("Findings", [Text(findings, is_list=True)] if findings else []),
        Section("Learning curves", _curve_blocks(curves)),
        Section("Buildings one by one", _building_blocks(scores)),
        Section("Pixels", [_pixel_table(summary.pixels)] if summary.pixels else []),
        Section(
            "Pairs",
            [
                Picture(
                    shrink_panels(path), f"{name}: before, after, truth, prediction", name, path.name, True
                )
                for name, path in pictures.items()
            ],
        ),
        Section("Training", [_rounds_table(card.training.get("rounds", ()))] if card.training else []),
    ]
    return Report(
        f"Building damage: {card.name}",
        {
            "model": card.name,
            "judged on": data,
            "levels": ", ".join(str(c["name"]) for c in card.classes),
            "licence": card.licence or "not stated",
            "pooling": str(card.calibration.get("pooling", {}).get("method", "mean")),
        },
        {
            "building IoU": at["iou"],
            "building F1": at["f1"],
            "macro F1 of the levels": scores["macro_f1"],
            "destroyed against the rest, F1": _interval(scores["positive_f1"]),
            "AUC": _interval(scores.get("auc")),
        },
        sections,
    )


def _curve_blocks(curves: Path | None) -> list[Picture]:
    if curves is None or not curves.exists():  # none where it was stopped before the first round
        return []
    alt = "Cross-entropy of the buildings, scores, loss, learning rate and share of buildings over the steps"
    return [Picture(curves.read_bytes(), alt, is_wide=True)]


def _building_blocks(scores: Mapping[str, Any]) -> list[Text | Table]:
    names = scores["confusion"]["names"]
    rows: list[Sequence[Cell]] = [
        (name, *counts) for name, counts in zip(names, scores["confusion"]["counts"], strict=True)
    ]
    ranked: list[Sequence[Cell]] = [
        (label, _interval(scores[key]))
        for key, label in _RANKED.items()
        if key in scores and scores[key] is not None
    ]
    blocks: list[Text | Table] = [
        Text(
            [
                f"{scores['buildings']} buildings of {scores['tiles']} tiles; of {scores['unknown']} too "
                "little was seen."
            ]
        ),
        Table(("true \\ told", *names), rows, "Confusion: rows true, columns told"),
        Table(("level", "F1"), [(name, value) for name, value in scores["f1"].items()]),
    ]
    if ranked:
        blocks.append(Table(("ranking", "value, 95 % interval by tile"), ranked))
    return blocks


_RANKED = {
    "auc": "area under the ROC curve",
    "auc_within_tiles": "the same, of pairs in one tile",
    "auc_within_area_quartiles": "the same, of pairs in one quarter by size",
    "auc_of_area": "baseline: the footprint's size alone",
    "recall_at_1pct_false_alarms": "recall at 1 % false alarms",
    "precision_at_1pct_prevalence": "precision that this gives where 1 % of the buildings are damaged",
}


def _pixel_table(pixels: Mapping[str, Mapping[str, float]]) -> Table:
    columns = list(next(iter(pixels.values())))
    rows: list[Sequence[Cell]] = [
        (name.replace("_", " "), *(values[c] for c in columns)) for name, values in pixels.items()
    ]
    return Table(("xView2", *columns), rows)


def _rounds_table(rounds: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("step", "score", "f1", "macro_f1", "loss")
    rows: list[Sequence[Cell]] = [tuple(r.get(c) for c in columns) for r in rounds]
    return Table(columns, rows, "Rounds on the validation pairs", is_folded=True)


def _interval(value: Any) -> Cell:
    if isinstance(value, Sequence) and not isinstance(value, str):
        middle, low, high = value
        return None if middle is None else (middle if low is None else Interval(middle, low, high))
    found: Cell = value
    return found
