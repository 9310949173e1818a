"""Score a model on a folder of labelled tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cards import Package, find_package
from .datasets.folders import LabelledTile, find_tiles, read_splits, select_tiles
from .evaluation.pixel_scores import LevelCounts, level_of, relaxed_f1, sum_relaxed
from .jobs import EvaluateModel, Event, Figure, Progress, Result

_TASK = "roads"


def evaluate_model(job: EvaluateModel) -> Iterator[Event]:
    """Run the model over the tiles and compare; see `EvaluateModel` for what the result holds.

    Raises:
        DatasetError: The folder holds no labelled tiles, or one of them is broken.
        ModelError: There is no such model, or it is damaged.
    """
    package = find_package(job.model, map(Path, job.model_folders), _TASK)
    tiles = _choose_tiles(job)
    yield Progress(0.0, f"Loading {package.card.name}")
    from .networks.segmenter import load_segmenter
    from .scoring import OCCLUSIONS, score_tiles

    segmenter = load_segmenter(package, job.device)
    threshold = package.card.threshold if job.threshold is None else job.threshold
    total, hidden, relaxed = LevelCounts(), {code: LevelCounts() for code in OCCLUSIONS}, []
    tile_iou: dict[str, float] = {}
    scored = score_tiles(tiles, segmenter, len(package.card.bands), job.gsd_m or package.card.gsd_m)
    for done, tile in enumerate(scored, start=1):
        total.merge(tile.counts)
        for code, counts in tile.hidden.items():
            hidden[code].merge(counts)
        relaxed.append(tile.relaxed(level_of(threshold)))
        tile_iou[tile.stem] = tile.counts.scores(threshold)["iou"]
        if job.report:
            yield _draw(tile, threshold, Path(job.report))
        yield Progress(done / len(tiles), f"Scoring: tile {done} of {len(tiles)}")
    scores: dict[str, Any] = {
        **total.scores(threshold),
        "relaxed_f1": relaxed_f1(sum_relaxed(relaxed)),
        **{
            f"recall_under_{OCCLUSIONS[code]}": counts.scores(threshold)["recall"]
            for code, counts in hidden.items()
            if counts.positive.any()
        },
        "threshold": threshold,
        "tiles": len(tiles),
    }
    if job.record:
        _record(package, job, scores)
    extra = {"best_threshold": total.best_threshold(), "best_iou": float(total.iou_curve().max())}
    facts = {"model": package.card.name, "device": segmenter.device, "tile_iou": tile_iou}
    yield Result({"report": job.report} if job.report else {}, {**scores, **extra, **facts})


def _record(package: Package, job: EvaluateModel, scores: dict[str, Any]) -> None:
    """Write the scores onto the card, in place of earlier ones of this data set and part.

    ``left_out`` says that the model was not trained on any tile of a set of this name.
    """
    from .networks.package import rewrite_card

    name = Path(job.folder).resolve().name
    is_left_out = name not in (data["name"] for data in package.card.training_data)
    part = job.part if job.splits else "all"
    entry = {"dataset": name, "part": part, "left_out": is_left_out, **scores}
    kept = [m for m in package.card.metrics if (m["dataset"], m["part"]) != (entry["dataset"], entry["part"])]
    rewrite_card(package, dataclasses.replace(package.card, metrics=(*kept, entry)))


def _choose_tiles(job: EvaluateModel) -> list[LabelledTile]:
    folder = Path(job.folder)
    tiles = find_tiles(folder)
    if not job.splits:
        return tiles
    return select_tiles(tiles, read_splits(Path(job.splits), folder, _TASK).get(job.part, []), folder)


def _draw(tile: Any, threshold: float, report: Path) -> Figure:
    from .training.figures import draw_triptych

    path = report / f"{tile.stem}.png"
    draw_triptych(tile.image, tile.labels[0], tile.probabilities, threshold, tile.stem, path)
    return Figure(tile.stem, str(path))
