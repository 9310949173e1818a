"""Pictures of a training: what is in them, and that equal numbers give equal bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aftermap.core.training.figures import (
    draw_augmentation_sheet,
    draw_learning_curves,
    draw_range_test,
    draw_schedule,
    draw_share_histogram,
)
from aftermap.core.training.range_test import RangePoint
from aftermap.core.training.schedules import build_schedule, curve

Draw = Callable[[Path], None]


def steps(count: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(0)
    return [
        {
            "step": 10 * (i + 1),
            "loss": 1.5 / (i + 1) + rng.random() / 10,
            "bce": 0.6 / (i + 1),
            "learning_rate": 1e-3,
            "class_share": 0.1,
        }
        for i in range(count)
    ]


def learning_curves(count: int, rounds: list) -> Draw:
    return lambda path: draw_learning_curves(steps(count), rounds, path)


ROUNDS = [
    {"step": s, "iou": 0.4, "f1": 0.5, "precision": 0.5, "recall": 0.5, "loss": 0.3} for s in (0, 50, 100)
]
BY_FOLDER = [{**r, "folders": [{"name": n, "iou": v} for n, v in (("a", 0.3), ("b", None))]} for r in ROUNDS]
RATES = curve(build_schedule("step", 100, 20, 1), 100)
POINTS = [RangePoint(10 ** (i / 5 - 6), 1.0 - i / 40, 1.0 - i / 40) for i in range(30)]
DRAWINGS: dict[str, Draw] = {
    "curves": learning_curves(30, ROUNDS),
    "curves by folder": learning_curves(30, [ROUNDS[0], *BY_FOLDER[1:]]),
    "curves of the start": learning_curves(1, []),
    "curves without all scores": learning_curves(3, [{"step": 10, "iou": 0.3}]),
    "shares": lambda path: draw_share_histogram({"road": [0.0, 0.1, 0.3], "roof": [0.2] * 3}, 0.2, path),
    "shares of nothing": lambda path: draw_share_histogram({"road": []}, 0.0, path),
    "schedule": lambda path: draw_schedule(RATES, 20, path),
    "range test": lambda path: draw_range_test(POINTS, 1e-3, path),
    "range test of nothing": lambda path: draw_range_test([], None, path),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_equal_numbers_give_equal_pictures(name: str, tmp_path: Path):
    first, second = tmp_path / "new" / "first.png", tmp_path / "second.png"
    DRAWINGS[name](first)
    DRAWINGS[name](second)
    assert first.read_bytes() == second.read_bytes()
    assert np.asarray(Image.open(first)).std() > 5  # something is drawn


def test_the_least_share_is_seen_in_the_histogram(tmp_path: Path):
    for share in (0.1, 0.2):
        draw_share_histogram({"road": [0.05, 0.15, 0.3]}, share, tmp_path / f"{share}.png")
    assert (tmp_path / "0.1.png").read_bytes() != (tmp_path / "0.2.png").read_bytes()


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_the_sheet_shows_each_crop_with_an_outline_that_leaves_the_class_to_be_seen(
    bands: int, tmp_path: Path
):
    images = np.full((5, bands, 20, 30), 0.5, dtype=np.float32)
    labels = np.zeros((5, 20, 30), dtype=np.uint8)
    labels[:, 5:10, 5:10] = 1
    draw_augmentation_sheet(images, labels, tmp_path / "sheet.png", columns=3)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 20 + 6, 3 * 30 + 2 * 6, 3)
    crop = sheet[26:46, 36:66]  # the fifth: second row, second column
    assert (crop[5:10, 5:10] == 128).all()
    assert (crop[4, 5:10] == (255, 200, 0)).all()
    assert (crop[5:10, 10] == (255, 200, 0)).all()
    assert (crop[15:, 15:] == 128).all()
    assert (sheet[26:46, 72:] == 255).all()  # there is no sixth
