import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from aftermap.core.datasets.masks import IGNORE
from aftermap.core.datasets.xbd import (
    Damage,
    find_scenes,
    fit_georeference,
    read_buildings,
    read_labels,
    read_target,
)
from aftermap.core.errors import DatasetError

PLACE = Affine(5e-6, 1e-8, -94.5, 2e-8, -4e-6, 37.06)  # a little turned
PIXELS = Affine.identity()
SQUARES = {"one": (4, 4, "no-damage"), "two": (20, 8, "major-damage"), "three": (40, 30, "un-classified")}


def wkt(column: float, row: float, transform: Affine = PIXELS) -> str:
    corners = [(column, row), (column + 10, row), (column + 10, row + 6), (column, row + 6), (column, row)]
    return "POLYGON ((" + ", ".join("{!r} {!r}".format(*(transform * c)) for c in corners) + "))"


def write_scene(folder: Path, stem: str, squares=SQUARES) -> None:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for when in ("pre", "post"):
        features = {"xy": [], "lng_lat": []}
        for uid, (column, row, level) in squares.items():
            facts = {"feature_type": "building", "uid": uid} | ({"subtype": level} if when == "post" else {})
            features["xy"].append({"properties": facts, "wkt": wkt(column, row)})
            features["lng_lat"].append({"properties": facts, "wkt": wkt(column, row, PLACE)})
        name = f"{stem}_{when}_disaster"
        (folder / "labels" / f"{name}.json").write_text(json.dumps({"features": features}))
        Image.new("RGB", (64, 48)).save(folder / "images" / f"{name}.png")


def test_scenes_are_pairs_and_know_their_event(tmp_path: Path):
    write_scene(tmp_path, "santa-rosa-wildfire_00000012")
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "santa-rosa-wildfire_00000013_pre_disaster.png")
    (scene,), alone = find_scenes(tmp_path)
    assert (scene.stem, scene.event) == ("santa-rosa-wildfire_00000012", "santa-rosa-wildfire")
    assert scene.pre.name.endswith("_pre_disaster.png")
    assert alone == ["santa-rosa-wildfire_00000013_pre_disaster.png"]


def test_no_damage_is_not_background_and_unclassified_is_not_guessed(tmp_path: Path):
    write_scene(tmp_path, "fire_00000001")
    labels = read_labels(find_scenes(tmp_path)[0][0], 48, 64)
    building, damage = np.zeros((48, 64), np.uint8), np.zeros((48, 64), np.uint8)
    for (column, row, _), code in zip(SQUARES.values(), (1, 3, IGNORE), strict=True):
        building[row : row + 6, column : column + 10] = 1
        damage[row : row + 6, column : column + 10] = code
    np.testing.assert_array_equal(labels.building, building)
    np.testing.assert_array_equal(labels.damage, damage)


def test_targets_say_the_same_as_polygons(tmp_path: Path):
    write_scene(tmp_path, "fire_00000001")
    truth = read_labels(find_scenes(tmp_path)[0][0], 48, 64)
    (tmp_path / "targets").mkdir()
    Image.fromarray(truth.damage).save(tmp_path / "targets" / "fire_00000001_post_disaster_target.png")
    for path in (tmp_path / "labels").iterdir():
        path.unlink()
    labels = read_labels(find_scenes(tmp_path)[0][0], 48, 64)
    np.testing.assert_array_equal(labels.damage, truth.damage)
    np.testing.assert_array_equal(labels.building, truth.building)


def test_buildings_keep_their_names_and_levels(tmp_path: Path):
    write_scene(tmp_path, "fire_00000001")
    before, after = (
        read_buildings(tmp_path / "labels" / f"fire_00000001_{w}_disaster.json") for w in ("pre", "post")
    )
    assert [b.uid for b in before] == [b.uid for b in after] == list(SQUARES)
    assert [b.damage for b in before] == [None] * 3
    assert [b.damage for b in after] == [Damage.NO_DAMAGE, Damage.MAJOR, IGNORE]


def test_the_place_of_an_image_is_found_from_its_buildings(tmp_path: Path):
    write_scene(tmp_path, "fire_00000001")
    buildings = read_buildings(tmp_path / "labels" / "fire_00000001_post_disaster.json")
    transform, residual_px = fit_georeference(buildings)
    assert residual_px < 1e-3
    for corner in ((0, 0), (64, 48)):
        np.testing.assert_allclose(transform * corner, PLACE * corner, atol=1e-9)
    with pytest.raises(DatasetError, match="No building of the image has coordinates"):
        fit_georeference([])


def test_an_image_without_buildings_is_background(tmp_path: Path):
    write_scene(tmp_path, "fire_00000001", squares={})
    labels = read_labels(find_scenes(tmp_path)[0][0], 48, 64)
    assert not labels.building.any()
    assert not labels.damage.any()


def test_broken_files_are_sentences(tmp_path: Path):
    write_scene(tmp_path, "fire_00000001")
    path = tmp_path / "labels" / "fire_00000001_post_disaster.json"
    for text in ("{", "{}", path.read_text().replace("major-damage", "shaky"), '{"features": {"xy": [1]}}'):
        path.write_text(text)
        with pytest.raises(DatasetError, match=r"post_disaster\.json is no label file of xBD"):
            read_buildings(path)
    write_scene(tmp_path, "fire_00000001")
    path.write_text(path.read_text().replace("major-damage", "shaky"))
    with pytest.raises(DatasetError, match="no level of damage 'shaky', only no-damage"):
        read_buildings(path)
    Image.fromarray(np.full((48, 64), 9, np.uint8)).save(tmp_path / "t.png")
    with pytest.raises(DatasetError, match="holds the code 9"):
        read_target(tmp_path / "t.png", 48, 64)
    with pytest.raises(DatasetError, match="64 x 48 pixels and its image 10 x 10"):
        read_target(tmp_path / "t.png", 10, 10)
    with pytest.raises(DatasetError, match="not laid out as xBD"):
        find_scenes(tmp_path / "labels")
    for image in (tmp_path / "images").glob("*_pre_*"):
        image.unlink()
    with pytest.raises(DatasetError, match="no complete xBD scene"):
        find_scenes(tmp_path)


def test_targets_and_images_of_the_same_event_before_the_disaster(tmp_path: Path):
    write_scene(tmp_path, "fire_00000001")
    (tmp_path / "targets").mkdir()
    before, after = np.zeros((48, 64), np.uint8), np.zeros((48, 64), np.uint8)
    before[:10], after[:12] = 1, 4
    for when, values in (("pre", before), ("post", after)):
        Image.fromarray(values).save(tmp_path / "targets" / f"fire_00000001_{when}_disaster_target.png")
    for path in (tmp_path / "labels").iterdir():
        path.unlink()
    labels = read_labels(find_scenes(tmp_path)[0][0], 48, 64)
    assert (labels.building.sum(), (labels.damage == Damage.DESTROYED).sum()) == (640, 768)
