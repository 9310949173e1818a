"""Score a model on a folder of labelled tiles."""

from __future__ import annotations

import dataclasses
import heapq
import math
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .cards import Card, Package, find_package
from .datasets.folders import LabelledTile, read_tile
from .errors import ModelError
from .evaluation.calibration import fit_scaling, measure_reliability
from .evaluation.colour_probe import perturbations, summarise_probe
from .evaluation.figures import draw_triptych
from .evaluation.report import Report, Section
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
from .jobs import EvaluateModel, Event, Figure, Progress, Result
from .progress import Span, plan_spans
from .reports import check_report_folder, publish_report
from .scoring import ScoredTile, find_scored_tiles, probe_tiles, score_tiles
from .tasks import TILE_TASKS, find_tile_task

if TYPE_CHECKING:
    from .networks.segmenter import Segmenter

_DRAWN_TILES = 24


def evaluate_model(job: EvaluateModel) -> Iterator[Event]:
    """Run the model over the tiles and compare; see `EvaluateModel` for what the result holds.

    Besides, the result's values have ``best_threshold`` and ``best_iou`` on these tiles; ``ece_scaled``, the
    calibration error after the ``scaling`` (``temperature`` and ``bias``) that fits them best;
    ``intervals``, low and high end of 95 % intervals by score; ``confusion``, pixels by true and predicted
    class; and ``tile_scores``, one object a tile, the worst first, with the paths of ``image`` and ``mask``.

    Raises:
        DatasetError: The folder holds no labelled tiles, or one of them is broken.
        ModelError: There is no such model, or it is damaged.
        OutputError: The report cannot be written.
    """
    package = find_package(job.model, [Path(folder) for folder in job.model_folders])
    if package.card.task == "damage":
        from .evaluate_damage import evaluate_damage

        yield from evaluate_damage(job, package)
        return
    if package.card.task not in TILE_TASKS:
        raise ModelError(
            f"{job.model} is a model for {package.card.task}, which cannot be scored: choose another."
        )
    if job.report:
        check_report_folder(Path(job.report))
    tiles = yield from find_scored_tiles(
        Path(job.folder), package.card.task, job.mask_value, job.splits, job.part
    )
    yield Progress(0.0, f"Loading {package.card.name}")
    from .networks.segmenter import load_segmenter

    segmenter = load_segmenter(package, job.device)
    probes = len(perturbations(len(package.card.bands))) if job.probe else 0
    spans = plan_spans({"score": 1.0, "probe": 0.8 * probes} if probes else {"score": 1.0})
    with tempfile.TemporaryDirectory(prefix="aftermap-report-") as name:
        gallery = WorstTiles(Path(name), _DRAWN_TILES if job.report else 0)
        scores = yield from _score(job, package, tiles, segmenter, spans["score"], gallery)
        probe: dict[str, float] = {}
        if job.probe:
            probe = yield from _probe(job, package, tiles, segmenter, scores, spans["probe"])
        values = _values(scores, probe, package, segmenter)
        if job.record:
            _record(package, job, {**scores.values(), **({"colour_probe": probe} if probe else {})})
        outputs = {}
        if job.report:
            sections = [*model_sections(scores, package.card), tile_section(scores, gallery.pictures)]
            if probe:
                sections.insert(-1, probe_section(probe, _richest_tile(job, package, scores, tiles)))
            report = _report(job, package, scores, segmenter.device, sections)
            outputs["report"] = str(publish_report(report, Path(name), Path(job.report)))
            for path in gallery.pictures.values():
                yield Figure(path.stem, str(Path(job.report) / path.name))
    yield Result(outputs, values)


class WorstTiles:
    """Triptychs of the worst tiles seen so far; no more are ever kept.

    Attributes:
        pictures: PNG of each, by the path of its image; the name is the tile's, numbered if it is taken.
    """

    def __init__(self, folder: Path, size: int) -> None:
        """Keep `size` pictures in `folder`."""
        self.pictures: dict[str, Path] = {}
        self._folder, self._size = folder, size
        self._worst: list[tuple[float, int, str]] = []

    def add(self, tile: ScoredTile, threshold: float, iou: float, wrong_px: int) -> None:
        """Draw a tile if it is among the worst; one without the class is the best."""
        image = str(tile.tile.image)
        rank = (-2.0 if math.isnan(iou) else -iou, wrong_px, image)
        if self._size == 0 or (len(self._worst) == self._size and rank < self._worst[0]):
            return
        self.pictures[image] = path = self._free_path(tile.stem)
        draw_triptych(tile.image, tile.labels[0], tile.probabilities, threshold, tile.stem, path)
        heapq.heappush(self._worst, rank)
        if len(self._worst) > self._size:
            _, _, image = heapq.heappop(self._worst)
            self.pictures.pop(image).unlink()

    def _free_path(self, stem: str) -> Path:
        path, number = self._folder / f"{stem}.png", 2
        while path.exists():
            path, number = self._folder / f"{stem}-{number}.png", number + 1
        return path


def _score(
    job: EvaluateModel,
    package: Package,
    tiles: list[LabelledTile],
    segmenter: Segmenter,
    span: Span,
    gallery: WorstTiles,
) -> Generator[Event, None, ModelScores]:
    card = package.card
    task = find_tile_task(card.task)
    scores = ModelScores(card.threshold if job.threshold is None else job.threshold, task)
    scored = score_tiles(tiles, segmenter, len(card.bands), job.gsd_m or card.gsd_m)
    for done, tile in enumerate(scored, start=1):
        found = tile.scores(scores.threshold, task.is_linear)
        scores.add(found)
        gallery.add(tile, scores.threshold, found.iou, found.wrong_px)
        yield span.at(done / len(tiles), f"Scoring: tile {done} of {len(tiles)}")
    return scores


def _probe(
    job: EvaluateModel,
    package: Package,
    tiles: list[LabelledTile],
    segmenter: Segmenter,
    scores: ModelScores,
    span: Span,
) -> Generator[Event, None, dict[str, float]]:
    card = package.card
    gsd_m, bands = job.gsd_m or card.gsd_m, len(card.bands)
    iou: dict[str, float] = {}
    total, done = len(tiles) * len(perturbations(bands)), 0
    for name, score in probe_tiles(tiles, segmenter, bands, gsd_m, scores.threshold):
        if score is not None:
            iou[name] = score
            continue
        done += 1
        yield span.at(done / total, f"Changing colours ({name.replace('_', ' ')}): {done} of {total} runs")
    return summarise_probe(scores.counts.scores(scores.threshold)["iou"], iou)


def _values(
    scores: ModelScores, probe: Mapping[str, float], package: Package, segmenter: Segmenter
) -> dict[str, Any]:
    counts, worst_first = scores.counts, scores.worst_first()
    scaling = fit_scaling(counts)
    class_name = str(package.card.classes[0]["name"])
    return {
        **scores.values(),
        "best_threshold": counts.best_threshold(),
        "best_iou": float(counts.iou_curve().max()),
        "ece_scaled": measure_reliability(scaling.counts(counts)).ece,
        "scaling": {"temperature": scaling.temperature, "bias": scaling.bias},
        **({"colour_probe": dict(probe)} if probe else {}),
        "model": package.card.name,
        "device": segmenter.device,
        "intervals": {name: [i.low, i.high] for name, i in scores.intervals().items()},
        "confusion": confusion_of(scores, class_name).counts.tolist(),
        "tile_iou": {tile.stem: tile.iou for tile in worst_first},
        "tile_scores": [tile.values(scores.threshold) for tile in worst_first],
    }


def model_sections(scores: ModelScores, card: Card) -> list[Section]:
    """The chapters on what a model scores: scores, threshold, calibration, confusion."""
    return [
        score_section(scores),
        threshold_section(scores.counts, scores.threshold),
        calibration_section(scores.counts, fit_scaling(scores.counts), scores.task.class_name),
        confusion_section(confusion_of(scores, str(card.classes[0]["name"]))),
    ]


def _richest_tile(
    job: EvaluateModel, package: Package, scores: ModelScores, tiles: Sequence[LabelledTile]
) -> NDArray[np.uint8]:
    """The image of the tile with most of the class."""
    card = package.card
    class_px = [tile.pixels[0] + tile.pixels[2] for tile in scores.tiles]
    richest = tiles[class_px.index(max(class_px))]
    return read_tile(richest, job.gsd_m or card.gsd_m, len(card.bands)).image


def _report(
    job: EvaluateModel, package: Package, scores: ModelScores, device: str, sections: Sequence[Section]
) -> Report:
    card = package.card
    part = f", {job.part} tiles" if job.splits else ""
    return Report(
        title=f"{card.name} on {Path(job.folder).resolve().name}",
        facts={
            "Model": f"{card.name}: {card.title}",
            "Data": f"{Path(job.folder).resolve().name}{part}",
            "Tiles": len(scores.tiles),
            "Threshold": scores.threshold,
            "Ground resolution of the network": f"{card.gsd_m:g} m",
            "Device": device,
            "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        },
        highlights=highlight_scores(scores),
        sections=sections,
    )


def _record(package: Package, job: EvaluateModel, scores: Mapping[str, Any]) -> None:
    """Write the scores onto the card, in place of earlier ones of this data set and part.

    ``left_out`` says that the model was not trained on any tile of a set of this name.
    """
    from .networks.package import rewrite_card

    name = Path(job.folder).resolve().name
    is_left_out = name not in (data["name"] for data in package.card.training_data)
    part = job.part if job.splits else "all"
    known = {k: v for k, v in scores.items() if v == v}  # NaN is what it is not
    entry = {"dataset": name, "part": part, "left_out": is_left_out, **known}
    kept = [m for m in package.card.metrics if (m["dataset"], m["part"]) != (entry["dataset"], entry["part"])]
    rewrite_card(package, dataclasses.replace(package.card, metrics=(*kept, entry)))
