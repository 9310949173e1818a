"""Pictures of an evaluation: image | truth | prediction, threshold curves, reliability."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .calibration import Reliability
from .pixel_scores import LEVELS, LevelCounts

TURQUOISE = (64, 224, 208)
STRONG = (230, 0, 90)
_TRUTH = (255, 200, 0)
_UNKNOWN = (128, 128, 128)
_GAP_PX = 8
_TITLE_PX = 20
_DPI = 110
_CURVE_COLOURS = {"iou": "#e6005a", "f1": "#7a3fb8", "precision": "#0f8f86", "recall": "#c77700"}
_CURVE_NAMES = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall"}
_MODEL_COLOURS = ("#e6005a", "#0f8f86", "#c77700", "#7a3fb8", "#2f6fde", "#5a5a5a", "#8f5b1e", "#3a9d3a")


def uncertain_from(threshold: float) -> float:
    """Where the uncertain band begins that ends at `threshold`."""
    return min(0.2, threshold / 2)


def draw_triptych(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    threshold: float,
    title: str,
    path: Path,
) -> None:
    """Write image | truth | prediction as one PNG; the uncertain band is turquoise.

    Args:
        image: uint8 (bands, h, w); its first three bands are shown.
        labels: uint8 (h, w), 1 is the class; other than 0 and 1 is shown grey.
        probabilities: float32 (h, w), 0 to 1.
        threshold: From which the class is shown in a strong colour.
        title: Written above.
        path: The PNG.
    """
    heading = f"{title}: image | truth | prediction (threshold {threshold:.2f})"
    draw_panels(image, labels, [(probabilities, threshold)], heading, path)


def draw_panels(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    predictions: Sequence[tuple[NDArray[np.float32], float]],
    heading: str,
    path: Path,
) -> None:
    """Write an image, its truth and any number of predictions side by side as one PNG.

    Args:
        image: As in `draw_triptych`.
        labels: As in `draw_triptych`.
        predictions: Probabilities and threshold of each.
        heading: Written above.
        path: The PNG.
    """
    shown = np.moveaxis(np.resize(image[:3], (3, *image.shape[1:])), 0, 2)
    truth = _tint(_tint(shown, labels == 1, _TRUTH), labels > 1, _UNKNOWN)
    panels = [shown, truth]
    for probabilities, threshold in predictions:
        is_uncertain = (probabilities >= uncertain_from(threshold)) & (probabilities < threshold)
        panels.append(_tint(_tint(shown, is_uncertain, TURQUOISE), probabilities >= threshold, STRONG))
    height, width = labels.shape
    sheet = Image.new("RGB", (len(panels) * (width + _GAP_PX) - _GAP_PX, height + _TITLE_PX), "white")
    for i, panel in enumerate(panels):
        sheet.paste(Image.fromarray(panel), (i * (width + _GAP_PX), _TITLE_PX))
    ImageDraw.Draw(sheet).text((4, 4), heading, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, compress_level=1)  # a sixth of the time for a tenth more bytes


def shrink_panels(path: Path, width_px: int = 1200) -> bytes:
    """Panels as JPEG of at most a width, without their heading, small enough to stand inside a page."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").crop((0, _TITLE_PX, picture.width, picture.height))
        small.thumbnail((width_px, 8 * width_px), Image.Resampling.LANCZOS)
        target = io.BytesIO()
        small.save(target, "JPEG", quality=85, optimize=True)
    return target.getvalue()


def draw_sheet(pictures: Mapping[str, NDArray[np.uint8]], columns: int = 3, side_px: int = 330) -> bytes:
    """Pictures with their names, in rows, as one JPEG.

    Args:
        pictures: uint8 (bands, h, w) by name, all of one size; the first three bands are shown.
        columns: Pictures in a row.
        side_px: Longer side of each.
    """
    shown = []
    for picture in pictures.values():
        one = Image.fromarray(np.moveaxis(np.resize(picture[:3], (3, *picture.shape[1:])), 0, 2))
        one.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        shown.append(one)
    width, height = shown[0].width + _GAP_PX, shown[0].height + _TITLE_PX + _GAP_PX
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * width - _GAP_PX, rows * height - _GAP_PX), "white")
    for i, (name, one) in enumerate(zip(pictures, shown, strict=True)):
        left, top = i % columns * width, i // columns * height
        ImageDraw.Draw(sheet).text((left + 2, top + 3), name, fill="black", font_size=13)
        sheet.paste(one, (left, top + _TITLE_PX))
    target = io.BytesIO()
    sheet.save(target, "JPEG", quality=85, optimize=True)
    return target.getvalue()


def draw_threshold_curves(counts: LevelCounts, threshold: float) -> bytes:
    """Precision, recall, F1 and IoU over thresholds, as PNG; the threshold in use is marked.

    Args:
        counts: Of all tiles.
        threshold: In use.
    """
    figure, axes = _plot(6.4, 4.0)
    at = np.arange(LEVELS) / (LEVELS - 1)
    for name, curve in counts.curves().items():
        axes.plot(
            at, curve, label=_CURVE_NAMES[name], color=_CURVE_COLOURS[name], lw=2 if name == "iou" else 1.3
        )
    axes.axvline(threshold, color="0.3", ls="--", lw=1, label=f"in use: {threshold:.2f}")
    axes.set(xlabel="threshold", ylabel="score", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(
        loc="lower center",
        ncols=5,
        fontsize=8.5,
        columnspacing=1.2,
        handlelength=1.5,
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
    )
    return _png(figure)


def draw_iou_curves(counts: Mapping[str, LevelCounts], thresholds: Mapping[str, float]) -> bytes:
    """IoU over thresholds of several models in one PNG; a dot marks each one's own threshold.

    Args:
        counts: Of all tiles, by model.
        thresholds: Of the models.
    """
    figure, axes = _plot(6.4, 4.0)
    at = np.arange(LEVELS) / (LEVELS - 1)
    for (name, one), colour in zip(counts.items(), _colours(len(counts)), strict=True):
        axes.plot(at, one.curves()["iou"], label=name, color=colour)
        axes.plot(thresholds[name], one.scores(thresholds[name])["iou"], "o", color=colour)
    axes.set(xlabel="threshold (dots: in use)", ylabel="IoU", xlim=(0, 1), ylim=(0, None))
    axes.legend(fontsize=8)
    return _png(figure)


def draw_reliability(curves: Mapping[str, Reliability]) -> bytes:
    """Reliability curves over the share of pixels in each bin, as PNG.

    Args:
        curves: By what is written in the legend (``before``, ``after``).
    """
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot((0, 1), (0, 1), color="0.6", ls=":", lw=1)
    for i, ((name, curve), colour) in enumerate(zip(curves.items(), _colours(len(curves)), strict=True)):
        is_known = ~np.isnan(curve.promised)
        upper.plot(
            curve.promised[is_known],
            curve.observed[is_known],
            marker="o",
            ms=4,
            color=colour,
            label=f"{name}: ECE {curve.ece:.4f}",
        )
        bins = len(curve.share)
        width = 1 / (bins * len(curves))
        left = np.arange(bins) / bins + i * width
        lower.bar(left, curve.share, width, align="edge", color=colour)
    upper.set(ylabel="share that is of the class", xlim=(0, 1), ylim=(0, 1))
    upper.legend(fontsize=8, loc="upper left")
    lower.set(xlabel="probability", ylabel="share of pixels", yscale="log")
    _grid(upper)
    return _png(figure)


def draw_run_curves(rounds: Mapping[str, Sequence[tuple[float, float]]], label: str) -> bytes:
    """A validation score over the steps of several trainings in one PNG.

    Args:
        rounds: (step, score) of each round, by model.
        label: Of the score.
    """
    figure, axes = _plot(6.4, 4.0)
    for (name, points), colour in zip(rounds.items(), _colours(len(rounds)), strict=True):
        axes.plot(*zip(*points, strict=True), marker="o", ms=3, color=colour, label=name)
    axes.set(xlabel="step", ylabel=label, ylim=(0, None))
    axes.legend(fontsize=8)
    return _png(figure)


def _colours(count: int) -> list[str]:
    return [_MODEL_COLOURS[i % len(_MODEL_COLOURS)] for i in range(count)]


def _plot(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _grid(axes)
    return figure, axes


def _grid(axes: Axes) -> None:
    axes.grid(color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, dpi=_DPI, format="png")
    return target.getvalue()


def _tint(
    image: NDArray[np.uint8], where: NDArray[np.bool_], colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    tinted = image.copy()
    tinted[where] = (0.4 * image[where] + 0.6 * np.array(colour)).astype(np.uint8)
    return tinted
