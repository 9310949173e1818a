"""Models side by side on the same tiles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aftermap.core.compare_runs import compare_runs
from aftermap.core.errors import JobError, ModelError
from aftermap.core.evaluate_model import evaluate_model
from aftermap.core.flows import run_flow
from aftermap.core.jobs import CompareRuns, EvaluateModel, Event, Figure, Progress, Result

from .bright_model import draw_roads, save_bright_model
from .test_report import Page, is_self_contained

TILES = 6


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A model that sees the streets, and one whose threshold is so low that it sees more than them."""
    folder = tmp_path_factory.mktemp("models")
    rounds = [{"step": 10 * i, "iou": 0.1 * i, "loss": 0.5 / (i + 1)} for i in range(4)]
    good = save_bright_model(
        folder / "good.aftermap", name="good", training={"loss": "bce", "rounds": rounds}
    )
    # sigmoid(20 * (0.35 - 0.5)) = 0.047: the brightest third of the dark ground, too.
    eager = save_bright_model(
        folder / "eager.aftermap", name="eager", threshold=0.02, training={"loss": "dice"}
    )
    return str(good), str(eager)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data") / "town"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(TILES):
        image = draw_roads(120 + 10 * i, 140, seed=i)
        Image.fromarray(np.moveaxis(image, 0, 2)).save(folder / "images" / f"tile_{i}.png")
        Image.fromarray((image[0] == 220).astype(np.uint8)).save(folder / "masks" / f"tile_{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
        yield folder


def job_for(models: tuple[str, ...], town: Path, report: Path, **changes) -> CompareRuns:
    return CompareRuns(models, str(town), str(report), device="cpu", **changes)


@pytest.fixture(scope="module")
def compared(models, town: Path) -> list[Event]:
    return list(compare_runs(job_for(models, town, town.parent / "report")))


def test_the_better_model_is_seen_to_be_better(compared: list[Event]):
    *events, result = compared
    assert isinstance(result, Result)
    good, eager = result.values["models"]
    assert result.values["tiles"] == TILES
    assert (good["name"], eager["name"]) == ("good", "eager")
    assert good["iou_low"] <= good["iou"] <= good["iou_high"]
    assert eager["iou_high"] < good["iou_low"]
    assert eager["iou_difference"] == pytest.approx(eager["iou"] - good["iou"])
    assert eager["iou_difference_high"] < 0
    assert good["iou_difference"] == 0
    assert (good["threshold"], eager["threshold"]) == (0.5, 0.02)
    json.dumps(result.values)
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_each_model_scores_as_it_does_alone(models, town: Path, compared: list[Event]):
    together = compared[-1]
    for model, found in zip(models, together.values["models"], strict=True):
        *_, alone = evaluate_model(EvaluateModel(model, str(town), device="cpu"))
        for name in ("iou", "f1", "precision", "recall", "relaxed_f1", "cldice", "apls", "threshold"):
            assert found[name] == alone.values[name], name


def test_the_report_stands_by_itself_and_shows_where_they_differ(compared: list[Event]):
    *events, result = compared
    page, table = Path(result.outputs["report"]), Path(result.outputs["table"])
    parsed = Page(page.read_text(encoding="utf-8"))
    assert is_self_contained(parsed, page.parent)
    for words in ("good", "eager", "Learning curves", "Where they differ most", "dice"):
        assert words in parsed.words
    pictures = [Path(e.path) for e in events if isinstance(e, Figure)]
    assert len(pictures) == TILES
    with Image.open(pictures[0]) as picture:
        height = int(pictures[0].stem[-1]) * 10 + 120
        assert picture.size[1] == height + 20
        assert picture.size[0] == 4 * 140 + 3 * 8
    lines = table.read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ") and "--" not in line] == [
        "model",
        "good",
        "eager",
        "model",
        "eager",
    ]


def test_equal_models_get_names_of_their_own_and_no_pictures(models, town: Path, tmp_path: Path):
    *events, result = compare_runs(job_for((models[0], models[0]), town, tmp_path))
    assert [m["name"] for m in result.values["models"]] == ["good (1)", "good (2)"]
    assert result.values["models"][1]["iou_difference_low"] == 0
    assert not [e for e in events if isinstance(e, Figure)]
    assert "Where they differ" not in Path(result.outputs["report"]).read_text(encoding="utf-8")


def test_only_the_tiles_of_a_part_are_compared(models, town: Path, tmp_path: Path):
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"town": {"held out": ["tile_1", "tile_4"]}}), encoding="utf-8")
    *_, result = run_flow(job_for(models, town, tmp_path / "report", splits=str(splits), part="held out"))
    assert result.values["tiles"] == 2


@pytest.mark.parametrize(
    ("names", "error", "sentence"),
    [(("good",), JobError, "two models or more"), (("good", "nowhere"), ModelError, "no model 'nowhere'")],
)
def test_what_makes_no_sense_is_refused(models, town: Path, tmp_path: Path, names, error, sentence: str):
    chosen = tuple(models[0] if name == "good" else name for name in names)
    with pytest.raises(error, match=sentence):
        list(compare_runs(job_for(chosen, town, tmp_path)))


def test_a_cancelled_comparison_leaves_nothing(models, town: Path, tmp_path: Path):
    run = compare_runs(job_for(models, town, tmp_path / "report"))
    for event in run:
        if isinstance(event, Progress) and event.fraction > 0.6:
            run.close()
            break
    assert not list(tmp_path.iterdir())
