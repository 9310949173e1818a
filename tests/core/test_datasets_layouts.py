import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aftermap.core.datasets.layouts import find_tiles, list_content
from aftermap.core.datasets.survey import survey_folder
from aftermap.core.errors import DatasetError, JobError

from .tile_files import write_tile


def write(folder: Path, *names: str, mode: str = "RGB") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (8, 8)).save(path)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of one's own, and nobody's rights: the administrator may read everything."""
    with tempfile.TemporaryDirectory() as place:
        is_root = os.name == "posix" and os.geteuid() == 0
        os.chmod(place, 0o777)  # noqa: PTH101  a temporary folder is its maker's alone
        if is_root:
            os.seteuid(65534)
        try:
            yield Path(place)
        finally:
            if is_root:
                os.seteuid(0)


@pytest.mark.parametrize(
    ("image", "mask", "layout"),
    [
        ("images/{}.tif", "masks/{}.png", "images/ + masks/"),
        ("sat/{}.png", "map/{}.tif", "sat/ + map/"),
        ("Images/{}.jpg", "GroundTruth/{}.png", "Images/ + GroundTruth/"),
        ("images/{}.png", "labels/{}.png", "images/ + labels/"),
        ("images/{}.png", "masks/{}_mask.png", "images/ + masks/"),
        ("images/{}_sat.png", "masks/{}_mask.png", "images/ + masks/"),
        ("{}_sat.jpg", "{}_mask.png", "*_sat + *_mask"),
        ("{}_image.png", "{}_label.png", "*_image + *_label"),
        ("{}.png", "{}_mask.png", "*.* + *_mask"),
        ("{}.jpg", "{}.png", "*.jpg + *.png"),
    ],
)
def test_pairs_are_found_and_what_stands_alone_is_named(tmp_path: Path, image: str, mask: str, layout: str):
    for stem in ("b", "a_1"):
        write(tmp_path, image.format(stem), mask.format(stem))
    write(tmp_path, image.format("image_only"))
    write(tmp_path, mask.format("mask_only"), mode="L")
    (tmp_path / "notes.txt").write_text("no image")
    content = list_content(tmp_path)
    expected = [(Path(image.format(s)), Path(mask.format(s))) for s in ("a_1", "b")]
    assert [(t.image.relative_to(tmp_path), t.mask.relative_to(tmp_path)) for t in content.tiles] == expected
    assert set(content.unmatched) == {image.format("image_only"), mask.format("mask_only")}
    assert content.layout == layout


def test_of_two_lossless_files_the_mask_has_fewer_bands(tmp_path: Path):
    write(tmp_path, "a.tif", "b.tif", mode="L")
    write(tmp_path, "a.png", "b.png")
    assert {t.mask.suffix for t in find_tiles(tmp_path)} == {".tif"}


def test_a_second_image_of_a_name_is_named(tmp_path: Path):
    write(tmp_path, "images/a.png", "images/a.jpg", "masks/a.png")
    content = list_content(tmp_path)
    assert len(content.tiles) == 1
    assert content.unmatched == (str(Path("images/a.png")),)


def test_building_and_occlusion_masks_come_along(tmp_path: Path):
    write(
        tmp_path,
        "images/a.png",
        "masks/a.png",
        "building_masks/a.png",
        "occlusion_masks/a.png",
        "images/b.png",
    )
    write(tmp_path, "masks/b.png")
    first, second = find_tiles(tmp_path)
    assert first.building_mask == tmp_path / "building_masks" / "a.png"
    assert first.occlusion_mask == tmp_path / "occlusion_masks" / "a.png"
    assert second.building_mask is None


@pytest.mark.parametrize("part", ["labels", "targets", "masks"])
def test_xbd_has_no_roads(tmp_path: Path, part: str):
    write(tmp_path, "images/fire_00000001_pre_disaster.png", f"{part}/fire_00000001_pre_disaster.png")
    with pytest.raises(
        DatasetError, match=r"laid out as xBD.*train for damage on it, or choose a folder with road masks"
    ):
        find_tiles(tmp_path)


def test_another_task_is_refused(tmp_path: Path):
    with pytest.raises(JobError, match="not for 'rivers'"):
        list_content(tmp_path, "rivers")


def test_folders_without_tiles_are_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(DatasetError, match="There is no folder"):
        find_tiles(tmp_path / "missing")
    with pytest.raises(DatasetError, match="holds no labelled tiles: it needs images/ and masks/"):
        find_tiles(tmp_path)
    write(tmp_path, "images/a.png", "masks/b.png")
    with pytest.raises(DatasetError, match=r"No image in .* has a mask: 2 files stand alone \(images"):
        find_tiles(tmp_path)


def test_a_folder_above_the_tiles_names_the_one_below(tmp_path: Path):
    write(tmp_path, "train/sat/a.png", "train/map/a.png")
    with pytest.raises(DatasetError, match="choose the folder train inside it"):
        find_tiles(tmp_path)


@pytest.mark.parametrize(
    "names", [("a_sat.jpg", "a_mask.png"), ("a.jpg", "a.png"), ("sat/a.png", "map/a.png")]
)
def test_a_folder_two_above_the_tiles_names_the_one_below(tmp_path: Path, names: tuple[str, str]):
    write(tmp_path / "valid", names[0])
    write(tmp_path / "zone", *names)
    with pytest.raises(DatasetError, match="choose the folder zone inside it"):
        find_tiles(tmp_path)


def test_masks_may_stand_in_a_folder_beside(tmp_path: Path):
    write(tmp_path, "train/a.tiff", "train_labels/a.tif", "train/b.tiff", "train_labels/c.tif")
    content = list_content(tmp_path / "train")
    assert [t.mask.name for t in content.tiles] == ["a.tif"]
    assert content.layout == "train/ + train_labels/"
    assert content.unmatched == (str(Path("../train_labels/c.tif")), "b.tiff")
    with pytest.raises(DatasetError, match="choose the folder train inside it"):
        find_tiles(tmp_path)


def test_a_file_that_may_not_be_read_is_named_until_it_may(unprivileged: Path):
    for stem in "ab":
        write_tile(unprivileged / "town", stem)
    mask = unprivileged / "town" / "masks" / "b.png"
    mask.chmod(0)
    for expected in (["b.png cannot be read (permission denied)"], []):
        *_, survey = survey_folder(unprivileged / "town", unprivileged / "cache")
        assert [text for text, p in zip(expected, survey.problems, strict=True) if text in p] == expected
        mask.chmod(0o600)


def test_a_folder_that_may_not_be_read_is_refused(unprivileged: Path):
    write(unprivileged, "images/a.png", "masks/a.png")
    (unprivileged / "masks").chmod(0)
    with pytest.raises(DatasetError, match=r"masks cannot be read \(permission denied\)"):
        find_tiles(unprivileged)
    (unprivileged / "masks").chmod(0o700)


def test_a_mask_value_goes_with_the_tiles(tmp_path: Path):
    write(tmp_path, "images/a.png", "masks/a.png")
    assert find_tiles(tmp_path, "3")[0].coding.code == 3
    assert find_tiles(tmp_path, "#ff8000")[0].coding.colour == (255, 128, 0)
    with pytest.raises(JobError, match="'green' is no value of a mask"):
        find_tiles(tmp_path, "green")


def test_names_in_capitals_pair_too(tmp_path: Path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "A_MASK.PNG")
    Image.new("RGB", (8, 8)).save(tmp_path / "A_SAT.PNG")
    assert [t.stem for t in find_tiles(tmp_path)] == ["A"]


def test_buildings_are_learned_from_their_own_masks(tmp_path: Path):
    for part in ("images", "masks", "building_masks"):
        write(tmp_path, f"{part}/a.png")
    (tile,) = list_content(tmp_path, "buildings").tiles
    assert (tile.mask, tile.building_mask) == (tmp_path / "building_masks" / "a.png", None)
    (tile,) = list_content(tmp_path, "roads").tiles
    assert (tile.mask, tile.building_mask) == (
        tmp_path / "masks" / "a.png",
        tmp_path / "building_masks" / "a.png",
    )


def test_buildings_are_learned_from_masks_of_any_class_where_there_are_no_others(tmp_path: Path):
    write(tmp_path, "images/a.png", "masks/a.png")
    (tile,) = list_content(tmp_path, "buildings").tiles
    assert tile.mask == tmp_path / "masks" / "a.png"
    write(tmp_path / "alone", "images/a.png", "building_masks/a.png")
    (tile,) = list_content(tmp_path / "alone", "buildings").tiles
    assert tile.mask == tmp_path / "alone" / "building_masks" / "a.png"


def test_there_is_no_task_of_another_name(tmp_path: Path):
    with pytest.raises(JobError, match="roads or buildings, not for 'rivers'"):
        list_content(tmp_path, "rivers")


def test_buildings_are_learned_from_xbd(tmp_path: Path):
    folder = tmp_path / "fire"
    for when, codes in (("pre", None), ("post", [0, 1, 4, 255])):
        write(folder, f"images/fire_00000007_{when}_disaster.png")
        if codes:
            (folder / "targets").mkdir()
            target = np.repeat(np.array(codes, np.uint8), 4).reshape(4, 4)
            Image.fromarray(target).save(folder / "targets" / f"fire_00000007_{when}_disaster_target.png")
    Image.new("RGB", (4, 4), (90, 80, 70)).save(folder / "images" / "fire_00000007_pre_disaster.png")
    *_, survey = survey_folder(folder, tmp_path / "cache", task="buildings")
    ((tile, record),) = survey.usable
    assert (tile.stem, tile.image.name) == ("00000007", "fire_00000007_pre_disaster.png")
    assert record.class_share == 0.75  # one that is not classified is a building all the same


def test_xbd_without_targets_teaches_no_buildings(tmp_path: Path):
    write(tmp_path, *(f"images/fire_00000001_{when}_disaster.png" for when in ("pre", "post")))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "fire_00000001_post_disaster.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"without targets/.*train for damage"):
        list_content(tmp_path, "buildings")
