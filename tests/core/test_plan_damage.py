"""Looking at folders of labelled pairs, and what a training on them would do: generated towns, and chips."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aftermap.core.damage_steps import Ground, choose_recipe, describe_ignored, read_pairs, split_evenly
from aftermap.core.datasets.damage_survey import PairSurvey, survey_pairs
from aftermap.core.datasets.damage_tiles import (
    LevelGroup,
    arrange_chips,
    arranged_sizes,
    group_levels,
    read_damage_folder,
)
from aftermap.core.datasets.folders import IGNORE
from aftermap.core.errors import DatasetError, JobError
from aftermap.core.evaluate_damage import describe_ignored as describe_ignored_options
from aftermap.core.generate_scenes import generate_scenes
from aftermap.core.jobs import (
    EvaluateModel,
    GenerateScenes,
    PlanTraining,
    Progress,
    Result,
    ScanTiles,
    TrainModel,
    Warning,
)
from aftermap.core.plan_damage import constant_level_loss, describe_level_groups
from aftermap.core.plan_training import plan_training
from aftermap.core.scan_tiles import scan_tiles


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "towns"
    list(generate_scenes(GenerateScenes(str(folder), 5, 5, 192, 0.5, damage=True, damage_share=0.5)))
    return folder


@pytest.fixture
def towns(generated: Path, tmp_path: Path) -> Path:
    """Five damaged towns in the layout of xBD, each an event of its own."""
    return Path(shutil.copytree(generated, tmp_path / "towns", ignore=shutil.ignore_patterns("scenes")))


def write_chips(folder: Path, count: int) -> Path:
    """As many damaged chips, and three times as many intact ones."""
    rng = np.random.default_rng(3)
    for i in range(4 * count):
        stem = f"{'damaged' if i % 4 == 0 else 'intact'}_{i:03d}"
        mask = np.zeros((60, 70), np.uint8)
        mask[15:45, 20:50] = 255
        for part, pixels in (("images", rng.integers(1, 255, (60, 70, 3), np.uint8)), ("masks", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"{stem}.png")
    return folder


def scan(*folders: Path) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Values, tiles and warnings of a scan."""
    job = ScanTiles(tuple(map(str, folders)), "damage", cache=str(folders[0].parent / "cache"))
    *events, result = scan_tiles(job)
    assert isinstance(result, Result)
    tiles = json.loads(Path(result.outputs["tiles"]).read_text(encoding="utf-8"))
    json.dumps(result.values)
    return dict(result.values), tiles, [e.message for e in events if isinstance(e, Warning)]


def settings_for(folder: Path, **changes: Any) -> dict[str, Any]:
    settings = {
        "folders": (str(folder),),
        "output": str(folder.parent / "m.aftermap"),
        "task": "damage",
        "device": "cpu",
        "cache": str(folder.parent / "cache"),
    }
    return {**settings, **changes}


def plan(folder: Path, **changes: Any) -> Result:
    *_, result = plan_training(PlanTraining(**settings_for(folder, **changes)))
    assert isinstance(result, Result)
    json.dumps(result.values)
    return result


def parts_of(result: Result) -> dict[str, str]:
    """Part of each pair by its name."""
    tiles = json.loads(Path(result.outputs["tiles"]).read_text(encoding="utf-8"))
    return {tile["stem"]: tile["part"] for tile in tiles}


def look(folder: Path, cache: Path) -> tuple[int, PairSurvey]:
    """How many pairs had to be read, and the survey."""
    *news, survey = survey_pairs(folder, cache)
    assert isinstance(survey, PairSurvey)
    return len(news), survey


def test_a_scan_counts_pairs_and_buildings_by_level(towns: Path):
    values, tiles, warnings = scan(towns)
    truth = read_damage_folder(towns)
    counts = Counter(b.damage for tile in truth for b in tile.buildings)
    assert {one["code"]: one["buildings"] for one in values["levels"]} == {c: counts[c] for c in (1, 2, 3, 4)}
    assert (values["tiles"], values["usable"], values["problem_count"]) == (5, 5, 0)
    assert values["size_px"] == [192, 192]
    assert values["gsd_m"] == pytest.approx([0.5, 0.5], rel=0.02)
    assert len(values["events"]) == 5
    assert values["folders"][0]["layout"] == "xBD, images/ + labels/"
    (building,) = values["classes"]
    labels = np.stack([tile.building for tile in truth])
    share = (labels == 1).sum() / (labels != IGNORE).sum()
    assert (building["name"], building["share"]) == ("building", pytest.approx(share))
    assert sum(count for tile in tiles for count in tile["levels"].values()) == sum(counts.values())
    assert all(Path(tile["image"]).name.endswith("_post_disaster.png") for tile in tiles)
    west, south, east, north = tiles[0]["bounds"]
    assert west < east
    assert south < north
    assert not warnings


def test_what_is_broken_or_alone_is_named(towns: Path):
    posts = sorted((towns / "images").glob("*_post_disaster.png"))
    posts[0].write_bytes(b"no image at all")
    posts[1].unlink()
    values, tiles, _ = scan(towns)
    assert (values["tiles"], values["usable"]) == (4, 3)
    assert values["problem_count"] == 2
    assert posts[0].name in values["problems"][0]
    assert posts[1].name.replace("post", "pre") in values["problems"][1]
    assert [tile["problem"] != "" for tile in tiles] == [True, False, False, False]
    for path in posts[2:]:
        path.write_bytes(b"none either")
    with pytest.raises(DatasetError, match="holds no pair that can be used"):
        scan(towns)


def test_pairs_are_read_once_and_again_only_where_they_changed(towns: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    first, survey = look(towns, cache)
    again, same = look(towns, cache)
    assert (first, again) == (5, 0)
    assert same == survey
    changed = sorted((towns / "labels").glob("*_post_disaster.json"))[2]
    body = json.loads(changed.read_text(encoding="utf-8"))
    dropped = len(body["features"]["xy"]) // 2
    body["features"]["xy"] = body["features"]["xy"][dropped:]
    changed.write_text(json.dumps(body), encoding="utf-8")
    read, other = look(towns, cache)
    assert read == 1
    assert sum(other.records[2].buildings.values()) == sum(survey.records[2].buildings.values()) - dropped
    run = survey_pairs(towns, tmp_path / "other")
    next(run)
    next(run)
    run.close()
    assert look(towns, tmp_path / "other")[0] < 5, "what was read before the end is kept"


def test_buildings_of_one_level_teach_no_damage(towns: Path):
    for path in (towns / "labels").glob("*_post_disaster.json"):
        text = path.read_text(encoding="utf-8")
        for level in ("minor-damage", "major-damage", "destroyed"):
            text = text.replace(level, "no-damage")
        path.write_text(text, encoding="utf-8")
    values, _, warnings = scan(towns)
    assert "are of one level (no visible damage)" in warnings[0]
    assert values["problems"] == warnings
    with pytest.raises(DatasetError, match="all undamaged"):
        plan(towns)


def test_labels_without_coordinates_are_said_to_be_a_guess(towns: Path):
    shutil.rmtree(towns / "labels")
    values, tiles, warnings = scan(towns)
    assert values["folders"][0]["layout"] == "xBD, images/ + targets/"
    assert "taken for 0.5 m" in warnings[0]
    assert tiles[0]["bounds"] is None


def test_chips_are_scanned_and_planned_as_they_are_trained_on(tmp_path: Path):
    folder = write_chips(tmp_path / "chips", 20)
    (folder / "masks" / "intact_079.png").unlink()
    values, _, warnings = scan(folder)
    assert (values["usable"], values["folders"][0]["unmatched"]) == (79, 1)
    assert {one["code"]: one["buildings"] for one in values["levels"]}[4] == 20
    assert "has an image from before" in warnings[0]
    result = plan(folder, preview=str(tmp_path / "preview"))
    assert (result.values["train_tiles"], result.values["validation_tiles"]) == (64, 15)
    assert Path(result.outputs["augmentation"]).is_file()


@pytest.mark.parametrize("count", [1, 7, 64, 65, 150])
def test_sizes_of_arranged_chips_are_known_before_they_are_read(count: int, tmp_path: Path):
    (chip,) = read_damage_folder(write_chips(tmp_path, 1), ["intact_001"])
    assert arranged_sizes(count) == [tile.building.shape for tile in arrange_chips([chip] * count)]


@pytest.mark.parametrize(
    "changes",
    [{}, {"validation_share": 0.4}, {"epochs": 3}, {"steps": 50, "batch_size": 2, "crop_px": 96}],
)
def test_a_plan_is_what_the_training_does(towns: Path, changes: dict[str, Any]):
    values = plan(towns, **changes).values
    job = TrainModel(**settings_for(towns, **changes))
    pairs = read_pairs(job, towns, "")
    assert pairs.counts == (values["train_tiles"], values["validation_tiles"])
    assert parts_of(plan(towns, **changes)) == {
        tile.stem.rpartition("_")[2]: part
        for part, tiles in (("train", pairs.train), ("validation", pairs.validation))
        for tile in tiles
    }
    assert values["split"] == f"towns: {pairs.split}"
    groups = group_levels(pairs.train)
    assert [(one["codes"], one["train"]) for one in values["levels"]] == [
        (list(g.codes), g.count) for g in groups
    ]
    ground = [Ground(*tile.building.shape, tile.gsd_m) for tile in pairs.train]
    recipe = choose_recipe(job, ground, 0.5)
    assert values["steps"] == recipe.steps
    assert values["steps_per_epoch"] == pytest.approx(recipe.steps_per_epoch)
    assert (values["batch_size"], values["crop_px"]) == (recipe.batch_size, recipe.crop_px)
    assert values["learning_rates"][-1][0] == recipe.steps - 1


def test_splits_by_lists_and_by_folder(towns: Path, tmp_path: Path):
    names = sorted({path.name.split("_")[1] for path in (towns / "images").iterdir()})
    lists = tmp_path / "lists.json"
    lists.write_text(json.dumps({"towns": {"train": names[:3], "validation": names[3:4]}}))
    result = plan(towns, splits=str(lists))
    assert parts_of(result) == {
        **dict.fromkeys(names[:3], "train"),
        names[3]: "validation",
        names[4]: "left_out",
    }
    assert "No event is on both sides" in result.values["split"]
    same = plan(towns, validation=str(towns)).values
    assert (same["train_tiles"], same["validation_tiles"]) == (5, 5)
    assert "are on both sides" in same["split"]
    lists.write_text(json.dumps({"towns": {"train": names}}))
    with pytest.raises(DatasetError, match="5 pairs to train on and 0 to judge by"):
        plan(towns, splits=str(lists))
    lists.write_text(json.dumps({"towns": {"train": ["nowhere"], "validation": names}}))
    with pytest.raises(DatasetError, match="has no pair nowhere"):
        plan(towns, splits=str(lists))
    with pytest.raises(JobError, match="One folder of validation pairs"):
        plan(towns, folders=(str(towns), str(towns)), validation=str(towns))


def test_findings_of_a_plan_say_what_the_buildings_cannot_tell(towns: Path):
    findings = plan(towns, schedule="step", step_every=30, epochs=5).values["findings"]
    text = " ".join(findings)
    assert "never acts" in text
    assert "Pairs that judge: 1" in text
    assert "are merged" in text
    assert "road" not in text


def test_weights_and_the_cost_of_guessing_come_from_the_counts():
    groups = [LevelGroup(1, (1,), 900), LevelGroup(3, (2, 3), 100), LevelGroup(4, (4,), 9)]
    levels = describe_level_groups(groups, {1: 10, 2: 3, 3: 2, 4: 5, IGNORE: 7})
    assert [one["weight"] for one in levels] == pytest.approx([1, 3, 5])
    assert levels[1]["formula"] == "√(900 / 100) = 3.00"
    assert levels[2]["formula"] == "√(900 / 9) = 10.00, at most 5"
    assert [one["validation"] for one in levels] == [10, 5, 5]
    assert levels[1]["merged"] == ["minor damage", "major damage"]
    assert levels[0]["merged"] == []
    even = [LevelGroup(1, (1,), 50), LevelGroup(4, (2, 3, 4), 50)]
    assert constant_level_loss(even, {1: 3, 4: 1}) == pytest.approx(math.log(2))


def test_an_equal_folder_is_split_alike_and_both_sides_have_one():
    for count in range(2, 40):
        train, validation = split_evenly(list(range(count)), 0.2)
        assert sorted(train + validation) == list(range(count))
        assert train
        assert validation


def test_options_without_effect_are_named_and_others_are_not():
    job = TrainModel(("/a",), "/m", "damage", min_share=0.2, gsd_m=0.3, seed=5)
    (sentence,) = describe_ignored(job)
    assert sentence.endswith(": gsd, min share.")
    assert describe_ignored(TrainModel(("/a",), "/m", "damage")) == []
    (sentence,) = describe_ignored_options(EvaluateModel("m", "/a", probe=True, mask_value="3"))
    assert "the colour probe, the mask value" in sentence
    assert describe_ignored_options(EvaluateModel("m", "/a", threshold=0.3)) == []


def test_a_scan_says_how_far_it_is(towns: Path):
    job = ScanTiles((str(towns), str(towns)), "damage", cache=str(towns.parent / "new"))
    fractions = [event.fraction for event in scan_tiles(job) if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] >= 0.5


def test_a_scan_needs_a_folder(tmp_path: Path):
    with pytest.raises(JobError, match="No folder of labelled pairs"):
        list(scan_tiles(ScanTiles((), "damage")))
    with pytest.raises(DatasetError, match="There is no folder"):
        scan(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="not laid out as xBD"):
        scan(tmp_path / "empty")
