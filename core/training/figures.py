"""Pictures of a training: learning curves, threshold curves, image | truth | prediction triptychs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

TURQUOISE = (64, 224, 208)
STRONG = (230, 0, 90)
_TRUTH = (255, 200, 0)
_GAP_PX = 8


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
    shown = np.moveaxis(np.resize(image[:3], (3, *image.shape[1:])), 0, 2)
    truth = _tint(shown, labels == 1, _TRUTH)
    truth = _tint(truth, labels > 1, (128, 128, 128))
    is_uncertain = (probabilities >= uncertain_from(threshold)) & (probabilities < threshold)
    prediction = _tint(_tint(shown, is_uncertain, TURQUOISE), probabilities >= threshold, STRONG)
    height, width = labels.shape
    sheet = Image.new("RGB", (3 * width + 2 * _GAP_PX, height + 20), "white")
    for i, panel in enumerate((shown, truth, prediction)):
        sheet.paste(Image.fromarray(panel), (i * (width + _GAP_PX), 20))
    ImageDraw.Draw(sheet).text(
        (4, 4), f"{title}: image | truth | prediction (threshold {threshold:.2f})", fill="black"
    )
    _write(sheet, path)


def draw_learning_curves(
    losses: Sequence[tuple[int, float]],
    scores: Sequence[Mapping[str, float]],
    rates: Sequence[tuple[int, float]],
    path: Path,
) -> None:
    """Write the curves of a training as one PNG: loss, validation scores, learning rate.

    Args:
        losses: (step, loss).
        scores: One object per round, with ``step``, ``iou``, ``f1``.
        rates: (step, learning rate).
        path: The PNG.
    """
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    left.plot(*zip(*losses, strict=True), color="0.3")
    left.set(title="Training loss", xlabel="step")
    if scores:
        for name in ("iou", "f1"):
            middle.plot(
                [s["step"] for s in scores],
                [s[name] for s in scores],
                marker="o",
                label=name.upper().replace("IOU", "IoU"),
            )
        middle.legend()
    middle.set(title="Validation", xlabel="step", ylim=(0, 1))
    right.plot(*zip(*rates, strict=True))
    right.set(title="Learning rate", xlabel="step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _tint(
    image: NDArray[np.uint8], where: NDArray[np.bool_], colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    tinted = image.copy()
    tinted[where] = (0.4 * image[where] + 0.6 * np.array(colour)).astype(np.uint8)
    return tinted


def _write(sheet: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
