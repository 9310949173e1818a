"""Training a damage model, scoring it, and assessing a scene with it, on generated towns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine

from aftermap.core.assess_damage import assess_damage
from aftermap.core.cards import read_package
from aftermap.core.damage_fields import FIELDS
from aftermap.core.damage_steps import describe_problems, read_pairs
from aftermap.core.errors import DatasetError, JobError, ModelError, RasterError, VectorError
from aftermap.core.evaluate_model import evaluate_model
from aftermap.core.flows import run_flow
from aftermap.core.generate_scenes import generate_scenes
from aftermap.core.jobs import (
    AssessDamage,
    EvaluateModel,
    Event,
    Failure,
    FinishEarly,
    GenerateScenes,
    Metric,
    Progress,
    Result,
    TrainModel,
    Warning,
)
from aftermap.core.train_model import train_model

STEPS = 16


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four damaged towns in the layout of xBD, with a georeferenced copy of each."""
    folder = tmp_path_factory.mktemp("towns")
    list(generate_scenes(GenerateScenes(str(folder), 4, 5, 256, 0.5, damage=True, damage_share=0.5)))
    return folder


def training(towns: Path, folder: Path, **changes: object) -> TrainModel:
    fields = {
        "folders": (str(towns),),
        "output": str(folder / "towns.aftermap"),
        "task": "damage",
        "steps": STEPS,
        "batch_size": 2,
        "crop_px": 128,
        "validation_share": 0.25,
        "device": "cpu",
        "cache": str(folder / "cache"),
    }
    return TrainModel(**{**fields, **changes})


@pytest.fixture(scope="module")
def trained(towns: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("trained")
    events = list(train_model(training(towns, folder)))
    return folder / "towns.aftermap", events


def test_a_training_tells_its_rounds_and_writes_a_model_with_its_card(trained):
    path, events = trained
    result = events[-1]
    assert isinstance(result, Result)
    card = read_package(path).card
    assert card.task == "damage"
    assert len(card.bands) == 6
    assert card.classes[0]["code"] == 1
    assert sum(c["training_buildings"] for c in card.classes) > 20
    assert card.calibration["pooling"]["method"] in ("mean", "softmax")
    assert card.metrics[0]["buildings"] > 0
    rounds = [e for e in events if isinstance(e, Metric) and e.name == "validation"]
    assert [r.step for r in rounds][-1] == STEPS
    assert all(0 <= r.values["macro_f1"] <= 1 for r in rounds)
    assert any("Training buildings" in e.message for e in events if isinstance(e, Warning))
    assert Path(result.outputs["report"]).is_file()


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(towns: Path, trained, tmp_path: Path):
    run = train_model(training(towns, tmp_path))
    for event in run:
        if isinstance(event, Metric) and event.name == "validation" and event.step >= STEPS // 2:
            break
    run.close()
    *_, last = train_model(training(towns, tmp_path))
    assert isinstance(last, Result)
    assert (
        read_package(tmp_path / "towns.aftermap").card.weights_sha256
        == read_package(trained[0]).card.weights_sha256
    )


def test_finished_early_it_keeps_what_it_has(towns: Path, tmp_path: Path):
    run = train_model(training(towns, tmp_path))
    for event in run:
        if isinstance(event, Metric) and event.name == "validation":
            break
    *_, last = [run.throw(FinishEarly()), *run]
    assert isinstance(last, Result)
    assert (tmp_path / "towns.aftermap").exists()


def test_scores_of_a_folder(towns: Path, trained, tmp_path: Path):
    *_, result = evaluate_model(EvaluateModel(str(trained[0]), str(towns), report=str(tmp_path / "report")))
    values = result.values
    assert values["pairs"] == 4
    assert values["buildings"] == sum(values["counts"].values())
    assert 0 <= values["xview2_by_pixel"]["score"] <= 1
    assert values["auc"][0] is not None
    assert (tmp_path / "report" / "report.html").is_file()
    json.dumps(values)


def scene_of(towns: Path) -> Path:
    return next(iter(sorted((towns / "scenes").iterdir())))


def assess(towns: Path, trained: tuple[Path, list[Event]], folder: Path, **changes: object) -> list[Event]:
    scene = scene_of(towns)
    fields = {
        "post": str(scene / "post.tif"),
        "pre": str(scene / "pre.tif"),
        "footprints": str(next(scene.glob("footprints.*"))),
        "model": str(trained[0]),
        "output_buildings": str(folder / "t_building_damage.gpkg"),
        "output_damage": str(folder / "t_damage_probability.tif"),
        "output_summary": str(folder / "t_damage_summary.csv"),
        "device": "cpu",
        "cache": str(folder / "cache"),
    }
    return list(assess_damage(AssessDamage(**{**fields, **changes})))


def test_every_footprint_comes_back_once_with_its_levels(towns: Path, trained, tmp_path: Path):
    *_, result = assess(towns, trained, tmp_path)
    given = pyogrio.read_dataframe(next(scene_of(towns).glob("footprints.*")))
    found = pyogrio.read_dataframe(tmp_path / "t_building_damage.gpkg")
    assert len(found) == len(given)
    assert [name for name, _, _ in FIELDS] == list(found.columns)[: len(FIELDS)]
    assert found.source_id.is_unique
    known = found[found.damage > 0]
    assert len(known) > 0
    probabilities = known[["p_none", "p_minor", "p_major", "p_destr"]].fillna(0).sum(axis=1)
    np.testing.assert_allclose(probabilities, 1, atol=1e-6)
    assert result.values["counts"]["unknown"] == (found.damage == 0).sum()
    assert sum(result.values["counts"].values()) == len(found)
    table = (tmp_path / "t_damage_summary.csv").read_text().splitlines()
    assert table[-1].split(",")[2] == str(len(found))
    with rasterio.open(tmp_path / "t_damage_probability.tif") as raster:
        assert raster.descriptions[0] == "footprint"
        assert raster.count == 1 + len(read_package(trained[0]).card.classes)


def test_the_layer_and_the_manifest_say_how_far_footprints_were_moved(towns: Path, trained, tmp_path: Path):
    *_, result = assess(towns, trained, tmp_path, align=False, nudge_m=(3.0, -4.0))
    assert pyogrio.read_dataframe(tmp_path / "t_building_damage.gpkg").moved_m.to_numpy() == pytest.approx(
        5.0
    )
    assert json.loads(Path(result.outputs["manifest"]).read_text())["footprint_fit"]["windows"] == []
    *_, result = assess(towns, trained, tmp_path)
    manifest = json.loads(Path(result.outputs["manifest"]).read_text())
    with rasterio.open(scene_of(towns) / "post.tif") as raster:
        left, bottom, right, top = raster.bounds
    for windows in (manifest["fit"]["windows"], manifest["footprint_fit"]["windows"]):
        assert windows
        assert all(left < w["x"] < right and bottom < w["y"] < top for w in windows)
    length_m = np.hypot(*manifest["footprint_fit"]["moved_m"])
    assert pyogrio.read_dataframe(tmp_path / "t_building_damage.gpkg").moved_m.to_numpy() == pytest.approx(
        length_m
    )


def test_footprints_beyond_the_image_are_unknown_not_undamaged(towns: Path, trained, tmp_path: Path):
    with rasterio.open(scene_of(towns) / "post.tif") as raster:
        crs, bounds = raster.crs, raster.bounds
    inside = shapely.box(bounds.left + 40, bounds.top - 60, bounds.left + 60, bounds.top - 40)
    outside = shapely.box(bounds.right + 40, bounds.top - 60, bounds.right + 60, bounds.top - 40)
    path = tmp_path / "given.gpkg"
    pyogrio.raw.write(
        path,
        shapely.to_wkb([inside, outside, shapely.Polygon()]),
        [np.array(["a", "b", "c"], object)],
        ["name"],
        geometry_type="Polygon",
        crs=crs.to_wkt(),
    )
    *others, _ = assess(towns, trained, tmp_path, footprints=str(path))
    found = pyogrio.read_dataframe(tmp_path / "t_building_damage.gpkg").set_index("name")
    assert found.damage["a"] > 0
    assert list(found.damage[["b", "c"]]) == [0, 0]
    assert found.seen["b"] == 0
    assert found.p_none.isna()[["b", "c"]].all()
    assert any("unknown, not none" in e.message for e in others if isinstance(e, Warning))


def test_without_image_before_and_footprints_it_finds_its_own(towns: Path, trained, tmp_path: Path):
    *_, result = assess(towns, trained, tmp_path, pre="", footprints="", output_damage="")
    assert (tmp_path / "t_building_damage.gpkg").exists()
    assert "damage" not in result.outputs
    assert result.values["buildings"] >= 0


def test_an_image_before_that_is_shifted_darker_coarser_and_elsewhere_projected(
    towns: Path, trained, tmp_path: Path
):
    """Nearly the same layer as from the one that fits."""
    scene = scene_of(towns)
    changed = tmp_path / "changed.tif"
    with rasterio.open(scene / "pre.tif") as raster:
        pixels, transform, crs = raster.read(), raster.transform, raster.crs
    darker = (pixels * 0.7).astype(np.uint8)
    with rasterio.open(
        changed,
        "w",
        driver="GTiff",
        width=pixels.shape[2],
        height=pixels.shape[1],
        count=3,
        dtype="uint8",
        crs=crs,
        transform=transform * Affine.translation(6, -4),
    ) as raster:
        raster.write(darker)
    *_, plain = assess(towns, trained, tmp_path)
    before = pyogrio.read_dataframe(tmp_path / "t_building_damage.gpkg")
    *_, moved = assess(towns, trained, tmp_path, pre=str(changed))
    after = pyogrio.read_dataframe(tmp_path / "t_building_damage.gpkg")
    assert (before.damage == after.damage).mean() >= 0.9
    dx, dy = np.subtract(moved.values["shift_m"], plain.values["shift_m"])
    assert abs(dx + 3.0) < 1.0
    assert abs(dy + 2.0) < 1.0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"min_area_m2": -1.0}, JobError, "makes no sense"),
        ({"nudge_m": (500.0, 0.0)}, JobError, "100 m is the most"),
        ({"post_date": "07.02.2023"}, JobError, "'07.02.2023' is no date of the image after"),
        ({"model": "roads-mobilenetv2"}, ModelError, "."),
        ({"footprints": "/nowhere/there.gpkg"}, VectorError, "no file"),
        ({"pre": "/nowhere/pre.tif"}, RasterError, "."),
        ({"output_buildings": "", "output_damage": "", "output_summary": ""}, JobError, "write nothing"),
    ],
)
def test_what_does_not_make_sense_is_a_sentence(
    towns: Path, trained, tmp_path: Path, changes, error, message
):
    with pytest.raises(error, match=message):
        assess(towns, trained, tmp_path, **changes)
    assert not list(tmp_path.glob("t_*"))


def test_swapped_dates_are_said(towns: Path, trained, tmp_path: Path):
    events = assess(towns, trained, tmp_path, pre_date="2023-02-07", post_date="2021-05-01")
    assert any("have they been swapped" in e.message for e in events if isinstance(e, Warning))
    layer = pyogrio.read_dataframe(tmp_path / "t_building_damage.gpkg")
    assert set(layer.post_date) == {"2021-05-01"}


def test_a_cancelled_run_leaves_nothing_and_goes_on(towns: Path, trained, tmp_path: Path):
    scene = scene_of(towns)
    job = AssessDamage(
        post=str(scene / "post.tif"),
        pre=str(scene / "pre.tif"),
        model=str(trained[0]),
        output_buildings=str(tmp_path / "b.gpkg"),
        device="cpu",
        cache=str(tmp_path / "cache"),
    )
    run: Iterator[Event] = run_flow(job)
    for event in run:
        if isinstance(event, Progress) and event.message.startswith("Segmenting"):
            break
    run.close()
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
    *_, last = run_flow(job)
    assert isinstance(last, Result), last
    assert not isinstance(last, Failure)


def test_bad_folders_are_a_sentence(tmp_path: Path, towns: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="not laid out as xBD"):
        list(train_model(training(tmp_path / "empty", tmp_path)))
    with pytest.raises(JobError, match="multiple of 32"):
        list(train_model(training(towns, tmp_path, crop_px=100)))
    with pytest.raises(JobError, match="between 0 and 1"):
        list(train_model(training(towns, tmp_path, validation_share=0.0)))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match=r"broken\.safetensors cannot be read"):
        list(train_model(training(towns, tmp_path, start_from="scratch", encoder_weights=str(broken))))


def test_few_pairs_leave_one_to_judge_by_and_a_single_one_is_refused(towns: Path, tmp_path: Path):
    pairs = read_pairs(training(towns, tmp_path, validation_share=0.1), towns, "")
    assert [len(pairs.train), len(pairs.validation)] == [3, 1]
    one = tmp_path / "one"
    shutil.copytree(towns, one)
    kept = pairs.validation[0].stem
    for path in [*(one / "images").iterdir(), *(one / "labels").iterdir()]:
        if not path.name.startswith(kept):
            path.unlink()
    with pytest.raises(DatasetError, match="0 pairs to train on and 1 to judge by"):
        read_pairs(training(one, tmp_path), one, "")


def test_a_damaged_pair_is_left_out_of_a_training_and_stops_an_evaluation(
    towns: Path, trained, tmp_path: Path
):
    """Its blank rest looked like ground that the image does not cover."""
    folder = tmp_path / "towns"
    shutil.copytree(towns, folder)
    broken = sorted((folder / "images").glob("*_post_disaster.png"))[0]
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    pairs = read_pairs(training(folder, tmp_path), folder, "")
    assert len(pairs.train) + len(pairs.validation) == 3
    first, total = describe_problems(pairs)
    assert broken.name in first
    assert "left out" in total
    assert total.endswith(": 1.")
    assert describe_problems(read_pairs(training(towns, tmp_path), towns, "")) == []
    with pytest.raises(DatasetError, match=rf"The image .*{broken.name} cannot be read"):
        list(evaluate_model(EvaluateModel(str(trained[0]), str(folder), device="cpu")))


def test_an_image_that_is_all_cloud_shows_no_building(towns: Path, trained, tmp_path: Path):
    """Known ones are unknown; none are made out."""
    cloud = tmp_path / "cloud.tif"
    with rasterio.open(scene_of(towns) / "post.tif") as raster:
        profile = {**raster.profile, "width": 512, "height": 512}  # a town of 256 px is smaller than a cloud
    with rasterio.open(cloud, "w", **profile) as raster:
        raster.write(np.full((3, 512, 512), 250, np.uint8))
    assess(towns, trained, tmp_path, post=str(cloud), pre="")
    assert (pyogrio.read_dataframe(tmp_path / "t_building_damage.gpkg").damage == 0).all()
    with pytest.raises(RasterError, match="only cloud"):
        assess(towns, trained, tmp_path, post=str(cloud), pre="", footprints="")
