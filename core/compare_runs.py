"""Put models side by side on the same labelled tiles."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from .cards import Card, Package, find_package
from .datasets.folders import LabelledTile, read_tile
from .errors import JobError
from .evaluation.figures import draw_iou_curves, draw_panels, draw_run_curves, shrink_panels
from .evaluation.report import Block, Cell, Picture, Report, Section, Table, Text, render_markdown
from .evaluation.report_sections import SCORE_NAMES
from .evaluation.tile_scores import ModelScores
from .jobs import CompareRuns, Event, Figure, Progress, Result
from .progress import Span, plan_spans
from .raster.probability import decode_probabilities
from .reports import check_report_folder, publish_report
from .scoring import find_scored_tiles, score_tiles
from .tasks import find_tile_task

TABLE_NAME = "comparison.md"
_DRAWN_TILES = 12
_CURVES = {"iou": "validation IoU", "loss": "validation cross-entropy"}


@dataclass(frozen=True)
class _Run:
    """A model with its scores.

    Attributes:
        name: What it is called here, unlike any other.
        card: Its card.
        scores: Its scores at its own threshold.
        levels: Folder with the probability levels of each tile.
    """

    name: str
    card: Card
    scores: ModelScores
    levels: Path


def compare_runs(job: CompareRuns) -> Iterator[Event]:
    """Score each model at its own threshold on the same tiles, and compare; see `CompareRuns`.

    Each of ``models`` also has ``path``, and for IoU and F1 the difference to the first model with its
    paired interval (``iou_difference``, ``iou_difference_low``, ``iou_difference_high``).

    Raises:
        JobError: There are fewer than two models.
        DatasetError: The folder holds no labelled tiles, or one of them is broken.
        ModelError: There is no such model, or it is damaged.
        OutputError: The report cannot be written.
    """
    if len(job.models) < 2:
        raise JobError("A comparison needs two models or more: name another one.")
    folder = Path(job.report)
    check_report_folder(folder)
    folders = [Path(name) for name in job.model_folders]
    task = find_tile_task(find_package(job.models[0], folders).card.task)
    packages = [find_package(name, folders, task.name) for name in job.models]
    tiles = yield from find_scored_tiles(Path(job.folder), task.name, job.mask_value, job.splits, job.part)
    spans = plan_spans({str(i): 1.0 for i in range(len(packages))})
    with tempfile.TemporaryDirectory(prefix="aftermap-comparison-") as scratch:
        runs = []
        for i, (package, name) in enumerate(zip(packages, _unlike_names(packages), strict=True)):
            levels = Path(scratch) / f"levels-{i}"
            levels.mkdir()
            scores = yield from _score(job, package, name, tiles, levels, spans[str(i)])
            runs.append(_Run(name, package.card, scores, levels))
        made = Path(scratch) / "report"
        made.mkdir()
        pictures = _draw_differences(job, runs, tiles, made)
        table = _score_table(runs)
        (made / TABLE_NAME).write_text(
            f"{render_markdown(table)}\n{render_markdown(_difference_table(runs))}", encoding="utf-8"
        )
        page = publish_report(_report(job, runs, pictures), made, folder)
    for stem, path in pictures.items():
        yield Figure(stem, str(folder / path.name))
    models = [_values(run, package, runs[0]) for run, package in zip(runs, packages, strict=True)]
    yield Result(
        {"report": str(page), "table": str(folder / TABLE_NAME)}, {"models": models, "tiles": len(tiles)}
    )


def _unlike_names(packages: Sequence[Package]) -> list[str]:
    """The names of models, numbered where several have the same."""
    names = [p.card.name for p in packages]
    return [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _score(
    job: CompareRuns, package: Package, name: str, tiles: Sequence[LabelledTile], levels: Path, span: Span
) -> Generator[Progress, None, ModelScores]:
    """Score a model; the levels of each tile are kept in a folder, for pictures."""
    yield span.at(0.0, f"Loading {name}")
    from .networks.segmenter import load_segmenter

    card = package.card
    segmenter = load_segmenter(package, job.device)
    task = find_tile_task(card.task)
    scores = ModelScores(card.threshold, task)
    scored = score_tiles(tiles, segmenter, len(card.bands), job.gsd_m or card.gsd_m)
    for done, tile in enumerate(scored, start=1):
        scores.add(tile.scores(card.threshold, task.is_linear))
        np.save(levels / f"{done - 1}.npy", tile.levels)
        yield span.at(done / len(tiles), f"Scoring {name}: tile {done} of {len(tiles)}")
    return scores


def _draw_differences(
    job: CompareRuns, runs: Sequence[_Run], tiles: Sequence[LabelledTile], folder: Path
) -> dict[str, Path]:
    """Panels of the tiles on which the models' wrong pixels differ most, by stem; the greatest first."""
    wrong = np.array([[tile.wrong_px for tile in run.scores.tiles] for run in runs])
    spread = np.ptp(wrong, axis=0)
    pictures = {}
    for i in np.argsort(-spread, kind="stable")[:_DRAWN_TILES]:
        if spread[i] == 0:
            break
        card = runs[0].card
        arrays = read_tile(tiles[i], job.gsd_m or card.gsd_m, len(card.bands))
        predictions = [
            (decode_probabilities(np.load(run.levels / f"{i}.npy"))[0], run.card.threshold) for run in runs
        ]
        names = " | ".join(run.name for run in runs)
        path = folder / f"{tiles[i].stem}.png"
        draw_panels(
            arrays.image, arrays.labels[0], predictions, f"{tiles[i].stem}: image | truth | {names}", path
        )
        pictures[tiles[i].stem] = path
    return pictures


def _report(job: CompareRuns, runs: Sequence[_Run], pictures: Mapping[str, Path]) -> Report:
    data = Path(job.folder).resolve().name
    note = Text(
        (
            "The small figures are 95 % intervals, over tiles drawn 2 000 times with repetition. The "
            "differences are paired: both models are scored on the same draws, so that what makes a tile "
            "hard for both cancels out.",
        )
    )
    thresholds = Picture(
        draw_iou_curves({r.name: r.scores.counts for r in runs}, {r.name: r.card.threshold for r in runs}),
        "IoU over thresholds, one curve a model",
    )
    return Report(
        title=f"{len(runs)} models on {data}",
        facts={
            "Models": ", ".join(run.name for run in runs),
            "Data": f"{data}, {job.part} tiles" if job.splits else data,
            "Tiles": len(runs[0].scores.tiles),
            "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        },
        highlights={f"IoU, {run.name}": run.scores.intervals()["iou"] for run in runs},
        sections=(
            Section("Scores", (note, _score_table(runs), _difference_table(runs))),
            Section("Threshold", (thresholds,)),
            Section("Learning curves", _learning_curves(runs)),
            Section("How they were trained", _settings_that_differ(runs)),
            Section("Where they differ most", _difference_pictures(runs, pictures)),
        ),
    )


def _score_table(runs: Sequence[_Run]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (run.name, run.card.threshold, *run.scores.intervals().values()) for run in runs
    ]
    return Table(
        ("model", "threshold", *(SCORE_NAMES[name] for name in runs[0].scores.names)),
        rows,
        "At each model's own threshold",
    )


def _difference_table(runs: Sequence[_Run]) -> Table:
    first, *others = runs
    rows: list[tuple[Cell, ...]] = []
    for run in others:
        differences = first.scores.differences(run.scores)
        rows.append((run.name, *differences.values()))
    caption = f"Differences to {first.name}; a star marks those whose interval lies on one side of 0"
    return Table(("model", *(SCORE_NAMES[name] for name in first.scores.names)), rows, caption)


def _learning_curves(runs: Sequence[_Run]) -> tuple[Block, ...]:
    """What the cards tell of the rounds of their trainings."""
    blocks: list[Block] = []
    for key, label in _CURVES.items():
        curves = {}
        for run in runs:
            rounds = run.card.training.get("rounds", ())
            points = [(float(r["step"]), float(r[key])) for r in rounds if key in r]
            if points:
                curves[run.name] = points
        if curves:
            blocks.append(Picture(draw_run_curves(curves, label), f"{label} over steps, one curve a model"))
    return tuple(blocks)


def _settings_that_differ(runs: Sequence[_Run]) -> tuple[Block, ...]:
    """The entries of the cards' training that are not the same for all, as a table."""
    names = dict.fromkeys(name for run in runs for name in run.card.training)
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        values = [run.card.training.get(name) for run in runs]
        if any(isinstance(value, (list, dict)) for value in values) or all(v == values[0] for v in values):
            continue
        rows.append((name.replace("_", " "), *("–" if v is None else str(v) for v in values)))
    return (Table(("setting", *(run.name for run in runs)), rows),) if rows else ()


def _difference_pictures(runs: Sequence[_Run], pictures: Mapping[str, Path]) -> tuple[Block, ...]:
    scored = {tile.stem: i for i, tile in enumerate(runs[0].scores.tiles)}
    order = ", ".join(run.name for run in runs)
    blocks: list[Block] = [Text((f"From left to right: image, truth, {order}. A click opens it in full.",))]
    for stem, path in pictures.items():
        iou = ", ".join(f"{run.name} {run.scores.tiles[scored[stem]].iou:.3f}" for run in runs)
        data = shrink_panels(path, 1600)
        alt = f"Image, truth and predictions of {stem}"
        blocks.append(Picture(data, alt, f"{stem}: IoU of {iou}", path.name, is_wide=True))
    return tuple(blocks) if pictures else ()


def _values(run: _Run, package: Package, first: _Run) -> dict[str, Any]:
    intervals, differences = run.scores.intervals(), first.scores.differences(run.scores)
    found: dict[str, Any] = {"name": run.name, "path": str(package.path), "threshold": run.card.threshold}
    for name in run.scores.names:
        found |= {
            name: intervals[name].value,
            f"{name}_low": intervals[name].low,
            f"{name}_high": intervals[name].high,
        }
    for name in ("iou", "f1"):
        found |= {
            f"{name}_difference": differences[name].value,
            f"{name}_difference_low": differences[name].low,
            f"{name}_difference_high": differences[name].high,
        }
    return found
