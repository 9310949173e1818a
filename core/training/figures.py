"""Pictures of a training: learning curves, shares, schedule, range test, and what the network will see."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from .diagnosis import HALF_EVERYWHERE
from .losses import constant_loss
from .range_test import RangePoint

_SCORES = {
    "iou": ("IoU", "#e6005a"),
    "f1": ("F1", "#7a3fb8"),
    "precision": ("precision", "#0f8f86"),
    "recall": ("recall", "#c77700"),
}
_INK, _SOFT, _ACCENT, _SECOND = "#333333", "#bbbbbb", "#e6005a", "#0f8f86"
_OUTLINE = (255, 200, 0)
_GAP_PX = 6
_DPI = 100


def draw_learning_curves(
    steps: Sequence[Mapping[str, float]], rounds: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Write the curves of a training as one PNG.

    Unweighted cross-entropy, which tells the same whatever the loss, is drawn against what a constant guess
    of the class's share in the batches would cost, and against that of saying 0.5 everywhere.

    Args:
        steps: One object for each step that was noted, with ``step``, ``loss``, ``bce``, ``learning_rate``,
            ``class_share``.
        rounds: One object for each round, with ``step``, ``loss`` (unweighted cross-entropy of the
            validation), ``iou``, ``f1``, ``precision``, ``recall``, and where there are several folders
            ``folders`` (``name`` and ``iou`` of each, in the same order); what is missing is not drawn.
        path: The PNG.
    """
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["bce", "scores", "scores"], ["loss", "rate", "share"]])
    at = [s["step"] for s in steps]
    _draw_smoothed(panels["bce"], at, [s["bce"] for s in steps], "training")
    _draw_rounds(panels["bce"], rounds, "loss", "validation", _ACCENT)
    guess = constant_loss(float(np.mean([s["class_share"] for s in steps])))
    panels["bce"].axhline(
        guess, color=_SECOND, ls="--", lw=1.2, label=f"constant guess of the share: {guess:.3f}"
    )
    panels["bce"].axhline(
        HALF_EVERYWHERE, color=_SECOND, ls=":", lw=1.2, label=f"0.5 everywhere: {HALF_EVERYWHERE:.3f}"
    )
    panels["bce"].set(title="Unweighted cross-entropy", ylim=(0, None))
    for name, (label, colour) in _SCORES.items():
        _draw_rounds(panels["scores"], rounds, name, label, colour)
    judged = [[{"step": r["step"], **one} for one in r["folders"]] for r in rounds if "folders" in r]
    for style, one in zip(itertools.cycle(("--", ":", "-.")), zip(*judged, strict=True), strict=False):
        _draw_rounds(panels["scores"], one, "iou", f"IoU of {one[0]['name']}", _INK, style)
    panels["scores"].set(title="Validation, at the threshold of each round", ylim=(0, 1))
    _draw_smoothed(panels["loss"], at, [s["loss"] for s in steps], "training")
    panels["loss"].set(title="Loss that is minimised")
    panels["rate"].plot(at, [s["learning_rate"] for s in steps], color=_INK)
    panels["rate"].set(title="Learning rate", ylim=(0, None))
    _draw_smoothed(panels["share"], at, [s["class_share"] for s in steps], "batch")
    panels["share"].set(title="Class share of the batches", ylim=(0, None))
    for axes in panels.values():
        axes.set(xlabel="step")
        _tidy(axes)
    _save(figure, path)


def draw_share_histogram(shares: Mapping[str, Sequence[float]], min_share: float, path: Path) -> None:
    """Write the histogram of the tiles' class shares as PNG, with the least share and what lies on each side.

    Args:
        shares: Share of each tile by class, 0 to 1.
        min_share: Tiles with less are dropped; 0: none are.
        path: The PNG.
    """
    figure = Figure(figsize=(7, 2.8 * len(shares)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shares), squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, shares.items(), strict=True):
        found = np.asarray(values, dtype=float)
        edges = np.linspace(0, max(0.1, float(found.max(initial=0)), min_share * 1.1), 41)
        axes.hist(found, edges, color=_SECOND)
        kept = found[found >= min_share]
        text = f"{name}: {len(found)} tiles, mean share {_mean(found):.1%}"
        if min_share:
            axes.axvline(min_share, color=_ACCENT, lw=1.5)
            text += f"; {len(kept)} with at least {min_share:.2f}, mean share {_mean(kept):.1%}"
        axes.set(title=text, xlabel="share of the class in a tile", ylabel="tiles", xlim=(0, edges[-1]))
        _tidy(axes)
    _save(figure, path)


def draw_schedule(rates: Sequence[tuple[int, float]], steps_per_epoch: float, path: Path) -> None:
    """Write the learning rate over a run as PNG, over steps and epochs.

    Args:
        rates: Pairs of step and learning rate.
        steps_per_epoch: For the upper axis.
        path: The PNG.
    """
    figure, axes = _plot()
    axes.plot(*zip(*rates, strict=True), color=_ACCENT, lw=1.8)
    axes.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    upper = axes.secondary_xaxis(
        "top", (lambda s: np.divide(s, steps_per_epoch), lambda e: np.multiply(e, steps_per_epoch))
    )
    upper.set_xlabel("epoch")
    _tidy(axes)
    _save(figure, path)


def draw_range_test(points: Sequence[RangePoint], suggestion: float | None, path: Path) -> None:
    """Write the loss over the learning rate as PNG, and the suggestion.

    Args:
        points: Of the range test.
        suggestion: The rate that it suggests; none: it suggests nothing.
        path: The PNG.
    """
    figure, axes = _plot()
    rates = [p.learning_rate for p in points]
    axes.plot(rates, [p.loss for p in points], color=_SOFT, lw=0.8, label="batch")
    axes.plot(rates, [p.smoothed for p in points], color=_INK, lw=1.8, label="moving average")
    if suggestion is not None:
        axes.axvline(suggestion, color=_ACCENT, ls="--", label=f"suggested: {suggestion:.1e}")
    if points:
        smoothed = [p.smoothed for p in points]
        axes.set_ylim(0.9 * min(smoothed), min(2 * smoothed[0], 1.2 * max(smoothed)))
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    _tidy(axes)
    _save(figure, path)


def draw_augmentation_sheet(
    images: NDArray[np.float32], labels: NDArray[np.uint8], path: Path, columns: int = 4
) -> None:
    """Write crops as the network will see them as one PNG, with the outline of the class.

    Args:
        images: float32 (n, bands, h, w) in 0 to 1; the first three bands are shown.
        labels: uint8 (n, h, w), 1 is the class.
        path: The PNG.
        columns: Crops side by side.
    """
    count, (height, width) = len(images), labels.shape[1:]
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (columns * (width + _GAP_PX) - _GAP_PX, rows * (height + _GAP_PX) - _GAP_PX)
    sheet = Image.new("RGB", size, "white")
    for i, (image, mask) in enumerate(zip(images, labels == 1, strict=True)):
        shown = np.moveaxis(np.resize(image[:3], (3, height, width)), 0, 2)
        pixels = (shown * 255 + 0.5).astype(np.uint8)
        pixels[_outline(mask)] = _OUTLINE
        place = (i % columns * (width + _GAP_PX), i // columns * (height + _GAP_PX))
        sheet.paste(Image.fromarray(pixels), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels outside of a mask that touch it, so that the class itself stays to be seen."""
    touches = np.zeros_like(mask)
    touches[1:] |= mask[:-1]
    touches[:-1] |= mask[1:]
    touches[:, 1:] |= mask[:, :-1]
    touches[:, :-1] |= mask[:, 1:]
    return touches & ~mask


def _draw_smoothed(axes: Axes, steps: Sequence[float], values: Sequence[float], label: str) -> None:
    """Values of single batches in a light colour, and their running mean over a twentieth of them."""
    axes.plot(steps, values, color=_SOFT, lw=0.8)
    size = max(1, len(values) // 20)
    sums = np.cumsum(np.pad(values, (1, 0)))
    means = [(sums[i + 1] - sums[max(0, i + 1 - size)]) / min(i + 1, size) for i in range(len(values))]
    axes.plot(steps, means, color=_INK, lw=1.6, label=label)


def _draw_rounds(
    axes: Axes, rounds: Sequence[Mapping[str, Any]], name: str, label: str, colour: str, style: str = "-"
) -> None:
    known = [r for r in rounds if r.get(name) is not None]
    if known:
        at, values = [r["step"] for r in known], [r[name] for r in known]
        axes.plot(at, values, color=colour, ls=style, marker="o", ms=3.5, label=f"{label}: {values[-1]:.3f}")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _plot() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _tidy(axes: Axes) -> None:
    axes.grid(color="0.92", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, facecolor="white", edgecolor="none", framealpha=0.85)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
