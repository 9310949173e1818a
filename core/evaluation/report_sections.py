"""The chapters of a model's report, each made of the numbers that it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .calibration import Scaling, measure_reliability
from .colour_probe import UNSEEN, show_perturbations
from .confusion import ConfusionMatrix
from .figures import draw_reliability, draw_sheet, draw_threshold_curves, shrink_panels
from .pixel_scores import LEVELS, LevelCounts, level_of
from .report import Block, Cell, Picture, Section, Table, Text, format_cell
from .tile_scores import ModelScores, TileScores

SCORE_NAMES = {
    "iou": "IoU",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "relaxed_f1": "relaxed F1 (3 px)",
    "cldice": "clDice",
    "apls": "APLS",
    "roof_fpr": "roofs taken for roads",
    "recall_under_cars": "recall under cars",
    "recall_under_trees": "recall under trees",
    "recall_under_shadows": "recall under shadows",
}
_MEANINGS = {
    "iou": "pixels in both masks, of those in either",
    "f1": "harmonic mean of precision and recall",
    "precision": "of the pixels called {}, those that are",
    "recall": "of the {}'s pixels, those that were found",
    "relaxed_f1": "F1 that forgives 3 pixels to each side",
    "cldice": "how much of the lines of one mask lies inside the other",
    "apls": "how well routes keep their length (points every 50 m, found within 4 m); mean of the tiles",
    "roof_fpr": "of the pixels of roofs, those called road",
    "recall_under_cars": "of the road's pixels that cars hide",
    "recall_under_trees": "of the road's pixels that trees hide",
    "recall_under_shadows": "of the road's pixels that lie in shadow",
}
_PROBE_NAMES = {
    "clean": "as they are",
    "grey": "grey",
    "hue_shift": "hue turned by 60°",
    "channel_swap": "bands in reverse order",
    "gamma_0.6": "brighter (gamma 0.6)",
    "gamma_1.6": "darker (gamma 1.6)",
    "lost_band": "first band lost",
    "cast": "warm cast",
    UNSEEN: "dusk in twelve tones (never trained on)",
}
_SHOWN_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def highlight_scores(scores: ModelScores) -> dict[str, Cell]:
    """The few numbers at the top of a report."""
    intervals = scores.intervals()
    shown = ("iou", "f1", "precision", "recall", "apls")
    return {SCORE_NAMES[name]: intervals[name] for name in shown if name in intervals}


def score_section(scores: ModelScores) -> Section:
    """All scores with their intervals, and what they mean."""
    intervals, values = scores.intervals(), scores.values()
    rows = [
        (SCORE_NAMES[name], intervals.get(name, values[name]), meaning.format(scores.task.class_name))
        for name, meaning in _MEANINGS.items()
        if name in values
    ]
    note = f"At a threshold of {scores.threshold:.3f}, on {len(scores.tiles)} tiles."
    if len(scores.tiles) > 1:
        note += " The small figures are 95 % intervals, over tiles drawn 2 000 times with repetition."
    return Section("Scores", (Text((note,)), Table(("score", "value", "what it is"), rows)))


def threshold_section(counts: LevelCounts, threshold: float) -> Section:
    """Scores over thresholds: how much hangs on the one in use."""
    curves = counts.curves()
    if not counts.positive.any():
        return Section("Threshold", ())
    best = int(np.nanargmax(curves["iou"][1:])) + 1
    levels = {level_of(t): f"{t:.2f}" for t in _SHOWN_THRESHOLDS}
    levels[best] = f"{best / (LEVELS - 1):.2f} (best IoU)"
    levels[level_of(threshold)] = f"{threshold:.2f} (in use)"
    names = ("precision", "recall", "f1", "iou")
    rows: list[tuple[Cell, ...]] = [
        (label, *(float(curves[n][level]) for n in names)) for level, label in sorted(levels.items())
    ]
    picture = Picture(
        draw_threshold_curves(counts, threshold),
        "Precision, recall, F1 and IoU over thresholds from 0 to 1",
        "A threshold where the IoU is flat is a safe one.",
    )
    return Section("Threshold", (picture, Table(("threshold", "precision", "recall", "F1", "IoU"), rows)))


def calibration_section(
    counts: LevelCounts,
    scaling: Scaling,
    class_name: str,
    names: tuple[str, str] = ("as it runs", "scaled to these tiles"),
) -> Section:
    """Whether probabilities are true, before and after a scaling.

    Args:
        counts: Pixels by level before.
        scaling: What makes them those after.
        class_name: What a pixel of the class is called.
        names: Of before and after, for the legend.
    """
    if not counts.positive.any():
        return Section("Calibration", ())
    curves = {names[0]: measure_reliability(counts), names[1]: measure_reliability(scaling.counts(counts))}
    sentences = (
        f"On the diagonal, of the pixels called 70 % {class_name} seven in ten are. The expected calibration "
        "error (ECE) is the mean distance from it over 15 bins of equal width, weighted by pixels.",
        f"It goes from {curves[names[0]].ece:.4f} to {curves[names[1]].ece:.4f} when logits are divided by "
        f"{scaling.temperature:.2f} (the temperature) and {scaling.bias:+.2f} (the bias) is added.",
    )
    alt = f"Share of pixels that are {class_name} over predicted probability"
    picture = Picture(draw_reliability(curves), alt)
    return Section("Calibration", (Text(sentences), picture))


def confusion_section(matrix: ConfusionMatrix) -> Section:
    """What was taken for what, and the scores of each class."""
    counted = Table(
        ("true class", *(f"called {name}" for name in matrix.names)),
        [(name, *(int(n) for n in row)) for name, row in zip(matrix.names, matrix.counts, strict=True)],
        "Pixels",
    )
    names = ("share", "precision", "recall", "f1", "iou")
    scores = Table(
        ("class", "share of pixels", "precision", "recall", "F1", "IoU"),
        [(name, *(scores[n] for n in names)) for name, scores in matrix.scores().items()],
        "Scores of each class",
    )
    return Section("Confusion", (counted, scores))


def confusion_of(scores: ModelScores, class_name: str) -> ConfusionMatrix:
    """The confusion matrix of a binary model at its threshold."""
    tp, fp, fn, tn = scores.counts.counts_at(scores.threshold)
    matrix = ConfusionMatrix(("background", class_name))
    matrix.counts += np.array([[tn, fp], [fn, tp]])
    return matrix


def probe_section(probe: Mapping[str, float], example: NDArray[np.uint8] | None = None) -> Section:
    """What colours do to the score, and what they look like.

    Args:
        probe: As of `colour_probe.summarise_probe`.
        example: A tile to show in all colours, uint8 (bands, h, w); none: none is shown.
    """
    clean = probe["clean"]
    rows = [
        (label, probe[name], _percent(1 - probe[name] / clean if clean else math.nan))
        for name, label in _PROBE_NAMES.items()
        if name in probe
    ]
    sentence = (
        "The same tiles in other colours, at the same threshold: at most "
        f"{_percent(probe['worst_drop'])} of the IoU is lost, {_percent(probe['mean_drop'])} in the mean "
        "(the last row counts in neither). What depends little on colour travels well to another place, "
        "season or sensor."
    )
    blocks: list[Block] = [Text((sentence,)), Table(("tiles", "IoU", "IoU lost"), rows)]
    if example is not None:
        shown = {_PROBE_NAMES[name]: image for name, image in show_perturbations(example).items()}
        alt = "A tile as it is and in each of the other colours"
        blocks.append(Picture(draw_sheet(shown), alt, is_wide=True))
    return Section("Colour dependence", blocks)


def tile_section(scores: ModelScores, pictures: Mapping[str, Path]) -> Section:
    """The worst tiles as image | truth | prediction, and a table of all.

    Args:
        scores: Of all tiles.
        pictures: PNG of some tiles, by the path of their image; they are to lie beside the report.
    """
    tiles = scores.worst_first()
    legend = (
        "From left to right: the image, the truth in yellow, the prediction in red; what is uncertain, just "
        "below the threshold, in turquoise. A click opens the picture in full."
    )
    blocks: list[Block] = [Text((legend,))] if pictures else []
    for tile in tiles:
        if tile.image in pictures:
            path = pictures[tile.image]
            blocks.append(
                Picture(
                    shrink_panels(path),
                    f"Image, truth and prediction of {tile.stem}",
                    f"{tile.stem}: {_in_words(tile, scores.task.class_name)}",
                    path.name,
                    is_wide=True,
                )
            )
    return Section("Worst tiles", (*blocks, _tile_table(scores)))


def _tile_table(scores: ModelScores) -> Table:
    tiles, names = scores.worst_first(), scores.names
    rows = []
    for tile in tiles:
        values = tile.values(scores.threshold)
        rows.append((tile.stem, *(values[n] for n in names), tile.wrong_px))
    columns = ("tile", *(SCORE_NAMES[n] for n in names), "wrong pixels")
    return Table(columns, rows, f"All {len(tiles)} tiles, the worst first", is_folded=True)


def _in_words(tile: TileScores, class_name: str) -> str:
    tp, fp, fn, _ = tile.pixels
    missed, invented = format_cell(fn), format_cell(fp)
    if tp + fn == 0:
        return f"no {class_name} here, and {invented} pixels called {class_name}"
    return f"IoU {tile.iou:.3f}; {missed} {class_name} pixels missed, {invented} wrongly called {class_name}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"
