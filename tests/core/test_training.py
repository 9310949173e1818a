"""Training and evaluation, from a folder of tiles to a package with its card."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aftermap.core.cards import read_package
from aftermap.core.datasets.synthetic import generate_scene
from aftermap.core.errors import DatasetError, JobError, ModelError, OutputError
from aftermap.core.evaluate_model import evaluate_model
from aftermap.core.flows import CANCELLED, run_flow
from aftermap.core.generate_scenes import generate_scenes
from aftermap.core.jobs import (
    EvaluateModel,
    Figure,
    FinishEarly,
    GenerateScenes,
    Metric,
    Progress,
    Result,
    TrainModel,
    Warning,
)
from aftermap.core.networks.package import load_network, save_package
from aftermap.core.train_model import train_model
from aftermap.core.training.losses import constant_loss
from aftermap.core.training.trainer import TrainingStep
from aftermap.core.training_steps import choose_recipe, crop_sources, find_sets, make_trainer, start_network


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six generated tiles in two areas; one of them has a broken mask."""
    folder = tmp_path_factory.mktemp("town")
    for part in ("images", "masks", "building_masks"):
        (folder / part).mkdir()
    for i in range(6):
        scene = generate_scene(40 + i, 160, 0.8, "grid")
        stem = f"{'north' if i < 4 else 'south'}_{i:03d}"
        Image.fromarray(scene.image).save(folder / "images" / f"{stem}.png")
        Image.fromarray(scene.road.astype(np.uint8) * 255).save(folder / "masks" / f"{stem}.png")
        Image.fromarray(scene.building.astype(np.uint8)).save(folder / "building_masks" / f"{stem}.png")
    Image.new("L", (10, 10)).save(folder / "masks" / "north_003.png")
    return folder


def job_for(tiles: Path, out: Path, **changes) -> TrainModel:
    settings = {
        "folders": (str(tiles),),
        "output": str(out / "town.aftermap"),
        "start_from": "scratch",
        "steps": 20,
        "batch_size": 2,
        "crop_px": 64,
        "device": "cpu",
        "cache": str(out / "cache"),
        "licences": ("CC0",),
    }
    return TrainModel(**{**settings, **changes})


@pytest.fixture(scope="module")
def trained(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    out = tmp_path_factory.mktemp("trained")
    return out, list(train_model(job_for(tiles, out)))


def test_training_writes_a_package_whose_card_tells_how(trained):
    result = trained[1][-1]
    assert isinstance(result, Result)
    card = read_package(Path(result.outputs["model"])).card
    assert (card.name, card.task, card.bands) == ("town", "roads", ("red", "green", "blue"))
    assert card.training["steps"] == 20
    assert card.training_data[0]["licence"] == "CC0"
    assert card.training_data[0]["train_tiles"] == 3
    assert 0 < card.threshold < 1
    assert card.metrics[0]["tiles"] == 2
    assert {"iou", "f1", "precision", "recall", "relaxed_f1", "roof_fpr"} <= set(card.metrics[0])


def test_training_shows_what_happens(tiles: Path, trained):
    events = trained[1]
    assert [e.step for e in events if isinstance(e, Metric) and e.name == "validation"] == list(
        range(2, 21, 2)
    )
    figures = {Path(e.path) for e in events if isinstance(e, Figure)}
    assert all(f.exists() for f in figures)
    stems = [f"{tiles.name}-south_{i:03d}.png" for i in (4, 5)]
    assert {f.name for f in figures} == {"learning-curves.png", *stems}
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def result_of(generator: Generator) -> Any:
    while True:
        try:
            next(generator)
        except StopIteration as ended:
            return ended.value


def first_step(job: TrainModel, folder: Path) -> TrainingStep:
    sets = result_of(find_sets(job))
    network, card = start_network(job)
    recipe = choose_recipe(job, sets, card.gsd_m)
    sources, counts = result_of(crop_sources(sets, job, card, recipe))
    return next(make_trainer(network, sources, counts, card, job, recipe, folder).run())


def test_a_new_network_begins_with_the_share_of_the_class(tiles: Path, tmp_path: Path):
    job = job_for(tiles, tmp_path, batch_size=8, architecture={"heads": ["road"]})
    informed, blank = (
        first_step(dataclasses.replace(job, prior_bias=on), tmp_path / str(on)) for on in (True, False)
    )
    guess = constant_loss(informed.class_share)
    assert informed.class_share == blank.class_share
    assert informed.bce == pytest.approx(guess, rel=0.15)
    assert blank.bce == pytest.approx(constant_loss(0.5), rel=0.15)
    assert informed.bce < blank.bce - 0.1


def test_a_broken_tile_is_named_and_left_out(trained):
    warnings = [e.message for e in trained[1] if isinstance(e, Warning)]
    assert any("north_003.png has 10 x 10 pixels and its image 160 x 160" in w for w in warnings)


def test_a_finished_training_leaves_no_unfinished_work(trained):
    assert not list((trained[0] / "cache" / "runs").iterdir())


def test_a_stopped_training_goes_on_bit_for_bit(tiles: Path, trained, tmp_path: Path):
    out = trained[0]
    job = job_for(tiles, out, output=str(tmp_path / "town.aftermap"), cache=str(tmp_path / "cache"))
    for event in (run := train_model(job)):
        if isinstance(event, Metric) and event.name == "validation" and event.step == 6:
            run.close()
            break
    assert not (tmp_path / "town.aftermap").exists()
    steps = [e.step for e in train_model(job) if isinstance(e, Metric) and e.name == "validation"]
    assert steps == list(range(8, 21, 2))
    whole, resumed = (load_network(read_package(p / "town.aftermap")).state_dict() for p in (out, tmp_path))
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_fine_tuning_on_little_stays_half_way_to_its_start(tiles: Path, trained, tmp_path: Path):
    start = trained[0] / "town.aftermap"
    job = job_for(tiles, tmp_path, start_from=str(start), learning_rate=1e-3, steps=10)
    events = list(train_model(job))
    rounds = [e for e in events if isinstance(e, Metric) and e.name == "validation"]
    assert rounds[0].step == 0, "the start model is scored before the first step"
    assert events[-1].values["mixture"] == 0.5, "two validation tiles cannot say more"
    card = read_package(tmp_path / "town.aftermap").card
    assert card.training["mixture"] == 0.5
    assert card.gsd_m == read_package(start).card.gsd_m


def test_finish_keeps_the_best_network_so_far(tiles: Path, tmp_path: Path):
    run = train_model(job_for(tiles, tmp_path, steps=200))
    for event in run:
        if isinstance(event, Progress) and event.message.startswith("Training: step 3 "):
            break
    rest = [run.throw(FinishEarly()), *run]
    assert isinstance(rest[-1], Result)
    assert rest[-1].values["steps"] == 3
    assert read_package(tmp_path / "town.aftermap").card.training["best_step"] == 3


def test_patience_ends_a_training_that_gets_no_better(tiles: Path, tmp_path: Path):
    job = job_for(tiles, tmp_path, steps=30, learning_rate=1e-12, patience=2)
    *events, result = train_model(job)
    assert result.values["steps"] < 30
    assert any("No better score in 2 rounds" in e.message for e in events if isinstance(e, Warning))


def test_evaluation_scores_the_chosen_tiles(tiles: Path, trained, tmp_path: Path):
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"roads": {tiles.name: {"train": [], "validation": ["south_004"]}}}))
    model = str(trained[0] / "town.aftermap")
    job = EvaluateModel(model, str(tiles), splits=str(splits), report=str(tmp_path / "report"), device="cpu")
    *_, result = evaluate_model(job)
    values = result.values
    assert values["tiles"] == 1
    assert values["threshold"] == read_package(Path(model)).card.threshold
    assert 0 <= values["iou"] <= values["best_iou"] <= 1
    assert (tmp_path / "report" / "south_004.png").exists()
    json.dumps(values)


def test_at_threshold_zero_everything_is_road(tiles: Path, trained):
    job = EvaluateModel(str(trained[0] / "town.aftermap"), str(tiles), threshold=0.0, device="cpu")
    with pytest.raises(DatasetError, match="north_003"):
        list(evaluate_model(job))
    (tiles / "masks" / "north_003.png").rename(tiles / "north_003.off")
    try:
        *_, result = evaluate_model(job)
    finally:
        (tiles / "north_003.off").rename(tiles / "masks" / "north_003.png")
    assert result.values["recall"] == 1.0
    assert result.values["roof_fpr"] == 1.0
    assert result.values["precision"] == pytest.approx(result.values["iou"])


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"folders": ()}, JobError, "No folder"),
        ({"folders": ("/nowhere",)}, DatasetError, "There is no folder /nowhere"),
        ({"crop_px": 100}, JobError, "multiple of 32"),
        ({"loss": "hinge"}, JobError, "no loss 'hinge'"),
        ({"min_share": 0.99}, DatasetError, "leaves 0 training"),
        ({"task": "trees"}, JobError, "not for 'trees'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(tiles: Path, tmp_path: Path, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        list(train_model(job_for(tiles, tmp_path, **changes)))


def test_recorded_scores_stand_on_the_card_once(tiles: Path, trained, tmp_path: Path):
    model = tmp_path / "copy.aftermap"
    shutil.copy(trained[0] / "town.aftermap", model)
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({tiles.name: {"validation": ["south_004"], "other": ["south_005"]}}))
    weights = read_package(model).card.weights_sha256
    for part in ("validation", "other", "other"):
        job = EvaluateModel(str(model), str(tiles), splits=str(splits), part=part, record=True, device="cpu")
        *_, result = evaluate_model(job)
    card = read_package(model).card
    assert [(m["part"], m["tiles"], m["left_out"]) for m in card.metrics] == [
        ("validation", 1, False),
        ("other", 1, False),
    ]
    assert card.metrics[-1]["iou"] == result.values["iou"]
    assert card.weights_sha256 == weights
    load_network(read_package(model))


def test_generated_scenes_can_be_scored_under_their_covers(trained, tmp_path: Path):
    job = GenerateScenes(str(tmp_path / "scenes"), count=2, seed=4, size_px=256, gsd_m=0.5, style="suburb")
    *_, made = generate_scenes(job)
    assert made.values["scenes"] == 2
    model = str(trained[0] / "town.aftermap")
    *_, result = evaluate_model(EvaluateModel(model, made.outputs["folder"], threshold=0.0, device="cpu"))
    assert result.values["tiles"] == 2
    assert result.values["recall_under_cars"] == result.values["recall_under_trees"] == 1.0


@pytest.mark.parametrize("changes", [{"count": 0}, {"size_px": 8}, {"gsd_m": 50.0}, {"style": "baroque"}])
def test_scenes_that_make_no_sense_are_refused(tmp_path: Path, changes):
    with pytest.raises(JobError):
        list(generate_scenes(GenerateScenes(str(tmp_path / "scenes"), **changes)))
    assert not (tmp_path / "scenes").exists()


def test_a_caller_who_stops_at_the_result_leaves_no_unfinished_work(tiles: Path, tmp_path: Path):
    *_, last = run_flow(job_for(tiles, tmp_path, steps=2))
    assert isinstance(last, Result)
    assert not list((tmp_path / "cache" / "runs").iterdir())


def test_finish_before_the_first_step_keeps_nothing(tiles: Path, trained, tmp_path: Path):
    run = run_flow(job_for(tiles, tmp_path, start_from=str(trained[0] / "town.aftermap")))
    for event in run:
        if isinstance(event, Progress) and event.message.startswith("Validating after step 0"):
            break
    assert run.throw(FinishEarly()) == CANCELLED
    assert not (tmp_path / "town.aftermap").exists()


def test_finish_asked_again_does_not_spoil_the_end(tiles: Path, tmp_path: Path):
    run = train_model(job_for(tiles, tmp_path, steps=2))
    for event in run:
        if isinstance(event, Progress) and event.message.startswith("Scoring"):
            break
    *_, last = [run.throw(FinishEarly()), *run]
    assert isinstance(last, Result)
    assert (tmp_path / "town.aftermap").exists()


def test_another_start_model_of_the_same_name_is_another_training(tiles: Path, trained, tmp_path: Path):
    start = tmp_path / "start.aftermap"
    shutil.copy(trained[0] / "town.aftermap", start)
    job = job_for(tiles, tmp_path, start_from=str(start), steps=10)
    for name in ("first", "second"):
        for event in (run := train_model(job)):
            if isinstance(event, Metric) and event.name == "validation":
                assert event.step == 0, name
                break
        run.close()
        package = read_package(start)
        network = load_network(package)
        torch.nn.init.zeros_(next(network.parameters()))
        save_package(start, network, package.card)
    assert len(list((tmp_path / "cache" / "runs").iterdir())) == 2


def test_background_alone_teaches_nothing(tiles: Path, tmp_path: Path):
    folder = tmp_path / "empty land"
    shutil.copytree(tiles, folder)
    for mask in (folder / "masks").iterdir():
        Image.new("L", (160, 160)).save(mask)
    with pytest.raises(DatasetError, match=r"No training tile of .*empty land shows the class"):
        list(train_model(job_for(folder, tmp_path)))


def test_an_output_that_cannot_be_written_is_known_before(tiles: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="is a file"):
        next(train_model(job_for(tiles, tmp_path, output=str(tmp_path / "file" / "town.aftermap"))))


def test_each_folder_is_judged_by_itself_in_every_round(tiles: Path, tmp_path: Path):
    other = shutil.copytree(tiles, tmp_path / "other")
    *_, result = train_model(job_for(tiles, tmp_path, folders=(str(tiles), str(other)), steps=3))
    rounds = read_package(Path(result.outputs["model"])).card.training["rounds"]
    for scores in rounds:
        first, second = scores["folders"]
        assert (first["name"], second["name"]) == (tiles.name, "other")
        assert first["iou"] == second["iou"] == pytest.approx(scores["iou"])
        assert first["loss"] == pytest.approx(scores["loss"])


def test_folders_of_one_name_are_scored_apart(tiles: Path, tmp_path: Path):
    twin = tmp_path / "elsewhere" / tiles.name
    shutil.copytree(tiles, twin)
    *_, result = train_model(job_for(tiles, tmp_path, folders=(str(tiles), str(twin)), steps=2))
    assert [s["tiles"] for s in result.values["sets"]] == [2, 2]


def test_buildings_are_learned_from_what_a_road_model_knows_of_them(tiles: Path, trained, tmp_path: Path):
    roads = trained[0] / "town.aftermap"
    job = job_for(tiles, tmp_path, task="buildings", start_from=str(roads), steps=10)
    (result,) = (e for e in train_model(job) if isinstance(e, Result))
    card = read_package(Path(result.outputs["model"])).card
    assert (card.task, card.architecture["heads"]) == ("buildings", ["building"])
    assert [c["name"] for c in card.classes] == ["building"]
    assert card.title == "Buildings, fine-tuned from town"
    old, new = load_network(read_package(roads)), load_network(read_package(Path(result.outputs["model"])))
    assert new.head.weight.shape[0] == 1 < old.head.weight.shape[0]
    (scores,) = card.metrics
    assert scores["tiles"] == 2
    assert {"apls", "cldice", "roof_fpr"}.isdisjoint(scores)
    page = Path(result.outputs["report"]).read_text(encoding="utf-8")
    assert "building pixels missed" in page
    assert "APLS" not in page
    folder = str(tiles)
    (found,) = (
        e
        for e in evaluate_model(EvaluateModel(result.outputs["model"], folder, report=str(tmp_path / "page")))
        if isinstance(e, Result)
    )
    truth = [np.asarray(Image.open(p)) for p in sorted((tiles / "building_masks").iterdir())]
    assert np.sum(found.values["confusion"][1]) == np.sum([t > 0 for t in truth])


def test_a_model_without_the_class_is_no_start(tiles: Path, trained, tmp_path: Path):
    road_only = tmp_path / "road.aftermap"
    list(
        train_model(
            job_for(
                tiles,
                tmp_path,
                output=str(road_only),
                architecture={"heads": ["road"]},
                steps=2,
                batch_size=2,
            )
        )
    )
    with pytest.raises(ModelError, match="without the class building: choose another"):
        list(train_model(job_for(tiles, tmp_path, task="buildings", start_from=str(road_only))))
