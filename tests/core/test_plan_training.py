"""What a training would do, and the learning-rate range test, on a folder of tiles."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aftermap.core.datasets.folders import LabelledTile
from aftermap.core.datasets.index import TileRecord
from aftermap.core.datasets.synthetic import generate_scene
from aftermap.core.errors import DatasetError
from aftermap.core.find_learning_rate import find_learning_rate
from aftermap.core.jobs import FindLearningRate, Metric, PlanTraining, Result, TrainModel
from aftermap.core.plan_training import plan_training
from aftermap.core.training_steps import TileSet, at_working_resolution, start_network


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two areas of four tiles; in each, the last shows no road."""
    folder = tmp_path_factory.mktemp("town")
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for i in range(8):
        scene = generate_scene(40 + i, 128, 0.8, "grid")
        stem = f"{'north' if i < 4 else 'south'}_{i:03d}"
        road = scene.road if i % 4 < 3 else np.zeros_like(scene.road)
        Image.fromarray(scene.image).save(folder / "images" / f"{stem}.png")
        Image.fromarray(road.astype(np.uint8) * 255).save(folder / "masks" / f"{stem}.png")
    return folder


def settings_for(tiles: Path, folder: Path, **changes) -> dict:
    settings = {
        "folders": (str(tiles),),
        "output": str(folder / "town.aftermap"),
        "start_from": "scratch",
        "batch_size": 2,
        "crop_px": 64,
        "device": "cpu",
        "cache": str(folder / "cache"),
    }
    return {**settings, **changes}


def plan(tiles: Path, folder: Path, **changes) -> Result:
    *_, result = plan_training(PlanTraining(**settings_for(tiles, folder, **changes)))
    assert isinstance(result, Result)
    json.dumps(result.values)
    return result


def test_a_plan_counts_both_sides_and_writes_nothing(tiles: Path, tmp_path: Path):
    result = plan(tiles, tmp_path, epochs=10)
    values = result.values
    assert (values["train_tiles"], values["validation_tiles"], values["below_min_share"]) == (4, 4, 0)
    # Four tiles of 128 px are sixteen crops of 64, eight batches of two.
    assert values["steps_per_epoch"] == 8
    assert values["steps"] == 80
    assert values["share_all"] == values["share_kept"] > 0
    assert values["learning_rates"][0][0] == 0
    assert values["learning_rates"][-1][0] == 79
    assert max(rate for _, rate in values["learning_rates"]) == pytest.approx(values["learning_rate"])
    assert not (tmp_path / "town.aftermap").exists()
    parts = [t["part"] for t in json.loads(Path(result.outputs["tiles"]).read_text())]
    assert sorted(parts) == ["train"] * 4 + ["validation"] * 4


def test_a_least_share_drops_tiles_and_says_what_that_means(tiles: Path, tmp_path: Path):
    every, some = (plan(tiles, tmp_path, min_share=share).values for share in (0.0, 0.01))
    assert (some["train_tiles"], some["below_min_share"]) == (3, 1)
    assert some["share_kept"] > every["share_kept"] == every["share_all"] == some["share_all"]
    assert any("drops every training tile without the class (1)" in f for f in some["findings"])


def test_a_schedule_that_never_acts_is_called_out(tiles: Path, tmp_path: Path):
    findings = plan(tiles, tmp_path, epochs=5, schedule="step", step_every=30).values["findings"]
    assert any("never acts" in f for f in findings)
    assert not any("never acts" in f for f in plan(tiles, tmp_path, epochs=5).values["findings"])


def test_a_preview_shows_crops_as_the_network_sees_them(tiles: Path, tmp_path: Path):
    result = plan(tiles, tmp_path, preview=str(tmp_path / "preview"))
    with Image.open(result.outputs["augmentation"]) as sheet:
        assert sheet.width > 4 * 64
        assert np.asarray(sheet).std() > 10


def test_without_any_tile_left_it_is_refused(tiles: Path, tmp_path: Path):
    with pytest.raises(DatasetError, match="lower the least class share"):
        plan(tiles, tmp_path, min_share=0.99)


def test_the_range_test_suggests_a_rate_within_its_curve(tiles: Path, tmp_path: Path):
    job = FindLearningRate(**settings_for(tiles, tmp_path), figure=str(tmp_path / "curve.png"))
    *events, result = find_learning_rate(job)
    curve = result.values["curve"]
    assert curve[0][0] == pytest.approx(1e-6)
    assert curve[0][0] <= result.values["learning_rate"] < curve[-1][0]
    assert len([e for e in events if isinstance(e, Metric)]) == len(curve)
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width > 100
    assert not (tmp_path / "town.aftermap").exists()


@pytest.mark.parametrize(("shown", "expected"), [(2.0, 0.4), (1.25, 0.64), (None, 0.64)])
def test_finer_tiles_are_learned_as_far_as_the_start_model_was_shown_such(
    tmp_path: Path, shown: float | None, expected: float
):
    tiles = [LabelledTile(str(i), Path(f"{i}.png"), Path(f"{i}-mask.png")) for i in range(40)]
    records = {t.image: TileRecord(t.stem, 1024, 1024, gsd_m=0.3) for t in tiles}
    one = TileSet(Path("town"), "", tiles, [], [], [], records, "")
    job = TrainModel(("town",), str(tmp_path / "town.aftermap"), start_from="scratch")
    card = dataclasses.replace(start_network(job)[1], training={"scale_jitter": shown})
    tuned = at_working_resolution(dataclasses.replace(job, start_from="starter"), [one], card)
    assert tuned.gsd_m == expected
    assert at_working_resolution(job, [one], card).gsd_m == 0.8
