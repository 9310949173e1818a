"""Labelled pairs: reading scenes and chips, which levels can be taught, crops for training."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapely import box

from aftermap.core.damage_summary import level_name
from aftermap.core.datasets.damage_crops import PairCrops, PairSettings
from aftermap.core.datasets.damage_tiles import (
    Building,
    DamageTile,
    LevelGroup,
    arrange_chips,
    dilate_damage,
    group_levels,
    ranks_of,
    read_damage_folder,
    read_whole_tiles,
)
from aftermap.core.datasets.folders import IGNORE, read_splits
from aftermap.core.errors import DatasetError


def make_tile(
    levels: dict[tuple[int, int, int, int], int], size: int = 200, gsd_m: float = 0.5
) -> DamageTile:
    """A tile with boxes (left, top, right, bottom) of levels; each date has its own brightness."""
    damage = np.zeros((size, size), np.uint8)
    for (left, top, right, bottom), level in levels.items():
        damage[top:bottom, left:right] = level
    building = (damage > 0).astype(np.uint8)
    pre, post = (np.full((3, size, size), value, np.uint8) for value in (80, 160))
    post[:, damage == 4] = 250
    buildings = tuple(Building(box(*place), level) for place, level in levels.items())
    return DamageTile("a", "event", pre, post, building, damage, gsd_m, buildings)


def boxes(counts: dict[int, int]) -> DamageTile:
    places = [(x, y, x + 8, y + 8) for y in range(0, 190, 12) for x in range(0, 190, 12)]
    levels = [level for level, count in counts.items() for _ in range(count)]
    return make_tile(dict(zip(places, levels, strict=False)))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({1: 60, 2: 60, 3: 60, 4: 60}, [(1, (1,)), (2, (2,)), (3, (3,)), (4, (4,))]),
        ({1: 90, 2: 40, 3: 20, 4: 60}, [(1, (1,)), (3, (2, 3)), (4, (4,))]),
        ({1: 90, 2: 27, 3: 2, 4: 60}, [(1, (1,)), (4, (2, 3, 4))]),
        ({1: 10, 4: 10}, [(1, (1,)), (4, (2, 3, 4))]),
    ],
)
def test_rare_levels_are_merged_with_their_neighbour_but_never_with_undamaged(counts, expected):
    groups = group_levels([boxes(counts)])
    assert [(g.code, g.codes) for g in groups] == expected
    assert sum(g.count for g in groups) == sum(counts.values())
    table = ranks_of(groups)
    assert table[1] == 0
    assert table[4] == len(groups) - 1
    assert table[0] == table[IGNORE] == IGNORE


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        ((1,), "no visible damage"),
        ((2, 3), "damaged"),
        ((4,), "destroyed"),
        ((2, 3, 4), "destroyed or damaged"),
    ],
)
def test_merged_levels_have_a_name_of_their_own(codes: tuple[int, ...], name: str):
    assert level_name(LevelGroup(max(codes), codes, 60)) == name


@pytest.mark.parametrize("level", [1, 4])
def test_one_kind_of_building_teaches_nothing(level: int):
    with pytest.raises(DatasetError, match="add tiles that show both"):
        group_levels([boxes({level: 60})])


def test_rubble_beside_a_building_counts_within_two_and_a_half_metres():
    tile = make_tile({(50, 50, 70, 70): 4, (100, 50, 120, 70): 1})
    spread = dilate_damage(tile)
    assert (spread[60, 45:75] == 4).all()
    assert spread[60, 44] == 0
    assert spread[60, 97] == 1
    assert (dilate_damage(make_tile({}))).max() == 0


def test_crops_agree_with_their_labels_whatever_the_turn():
    tile = make_tile({(60, 60, 120, 110): 4, (20, 130, 60, 170): 1})
    groups = group_levels([boxes({1: 60, 4: 60})])
    settings = PairSettings(crop_px=64, augmentation="none", shift_px=0.0, drop_pre=0.0)
    source = PairCrops([tile], groups, settings)
    shares, wrong, total = [], 0, 0
    for i in range(30):
        image, labels = source.crop(np.random.default_rng(i))
        assert image.shape == (6, 64, 64)
        is_destroyed = image[3] > 0.9
        sure = labels[0] == 1
        wrong += (((labels[1] == 1) != is_destroyed) & sure).sum()
        total += sure.sum()
        assert set(np.unique(labels[0])) <= {0, 1, IGNORE}
        assert set(np.unique(labels[1])) <= {0, 1, IGNORE}
        shares.append((labels[0] == 1).any())
    assert wrong < 0.03 * total  # where a bilinear edge lies half way
    assert np.mean(shares) > 0.6


def test_without_the_image_before_its_bands_are_the_fill():
    tile = replace(make_tile({(60, 60, 120, 110): 4, (20, 130, 60, 170): 1}), pre=None)
    groups = group_levels([boxes({1: 60, 4: 60})])
    source = PairCrops([tile], groups, PairSettings(crop_px=64, fill=(0.25, 0.5, 0.75)))
    image, _ = source.crop(np.random.default_rng(1))
    assert [set(np.unique(band)) for band in image[:3]] == [{0.25}, {0.5}, {0.75}]
    assert len(np.unique(image[3:])) > 1


def test_only_the_image_after_moves_and_equal_chances_give_equal_crops():
    tile = make_tile({(60, 60, 120, 110): 4, (20, 130, 60, 170): 1})
    groups = group_levels([boxes({1: 60, 4: 60})])
    still, moved = (
        PairCrops([tile], groups, PairSettings(crop_px=96, augmentation="none", drop_pre=0, shift_px=px))
        for px in (0.0, 6.0)
    )
    a, labels = still.crop(np.random.default_rng(3))
    b, same_labels = moved.crop(np.random.default_rng(3))
    np.testing.assert_array_equal(labels, same_labels)
    np.testing.assert_array_equal(a[:3], b[:3])
    assert not np.array_equal(a[3:], b[3:])
    np.testing.assert_array_equal(b, moved.crop(np.random.default_rng(3))[0])


def write_chip(folder: Path, stem: str, size: int, value: int) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size + 4), (value,) * 3).save(folder / "images" / f"{stem}.png")
    mask = np.zeros((size + 4, size), np.uint8)
    mask[10:-10, 10:-10] = 255
    Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")


def test_chips_lie_side_by_side_cut_to_one_size(tmp_path: Path):
    for i in range(6):
        write_chip(tmp_path, f"{'damaged' if i % 2 else 'intact'}_{i}", 70 + 8 * i, 40 * (i + 1))
    chips = read_damage_folder(tmp_path)
    assert all(chip.is_chip and chip.pre is None for chip in chips)
    (tile,) = arrange_chips(chips)
    assert [b.damage for b in tile.buildings] == [b.damage for chip in chips for b in chip.buildings]
    sizes = set()
    for building, chip in zip(tile.buildings, chips, strict=True):
        middle = building.outline.centroid
        value = chip.post[0, 0, 0]
        assert tile.post[0, int(middle.y), int(middle.x)] == value
        sizes.add(int((tile.post[0] == value).sum()))
    assert sizes == {60 * 60}  # 18 m at 0.3 m
    assert (tile.building[~tile.is_seen] == IGNORE).all()


def test_chips_of_other_size_than_their_mask_are_named(tmp_path: Path):
    write_chip(tmp_path, "damaged_1", 70, 90)
    Image.new("L", (9, 9)).save(tmp_path / "masks" / "damaged_1.png")
    with pytest.raises(DatasetError, match=r"damaged_1\.png and .* different sizes"):
        read_damage_folder(tmp_path)


def test_a_scene_that_the_list_names_but_is_not_there(tmp_path: Path):
    write_chip(tmp_path, "damaged_1", 70, 90)
    with pytest.raises(DatasetError, match="has no scene intact_9"):
        read_damage_folder(tmp_path, ["damaged_1", "intact_9"])


def test_a_split_names_a_folder_by_the_end_of_its_path(tmp_path: Path):
    folder = tmp_path / "xbd" / "fire"
    folder.mkdir(parents=True)
    lists = {"damage": {"xbd/fire": {"train": ["1"], "validation": []}, "fire": {"train": ["2"]}}}
    (tmp_path / "splits.json").write_text(json.dumps(lists))
    assert read_splits(tmp_path / "splits.json", folder, "damage")["train"] == ["1"]
    with pytest.raises(DatasetError, match="does not name the folder"):
        read_splits(tmp_path / "splits.json", tmp_path / "wildfire", "damage")


def test_images_of_sixteen_bits_are_refused_not_wrapped(tmp_path: Path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.full((40, 40), 300, np.uint16)).save(tmp_path / "images" / "intact_1.png")
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(tmp_path / "masks" / "intact_1.png")
    with pytest.raises(DatasetError, match=r"intact_1\.png has 1 bands with values up to 300"):
        read_damage_folder(tmp_path)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_file_that_was_cut_short_is_named_not_taken_for_unseen(tmp_path: Path, part: str, suffix: str):
    for stem in ("damaged_1", "intact_2"):
        write_chip(tmp_path, stem, 70, 90)
    noise = np.random.default_rng(0).integers(1, 255, (74, 70, 3), dtype=np.uint8)
    (tmp_path / part / "damaged_1.png").unlink()
    Image.fromarray(noise).save(tmp_path / part / f"damaged_1{suffix}")
    cut_short(tmp_path / part / f"damaged_1{suffix}")
    sentence = rf"The {part[:-1]} .*damaged_1\{suffix} cannot be read .*: replace or remove it"
    with pytest.raises(DatasetError, match=sentence):
        read_damage_folder(tmp_path)
    tiles, (problem,) = read_whole_tiles(tmp_path)
    assert [tile.stem for tile in tiles] == ["intact_2"]
    assert re.search(sentence, problem)
    cut_short(tmp_path / "images" / "intact_2.png")
    with pytest.raises(DatasetError, match=r"None of the 2 pairs of .* can be used\. The"):
        read_whole_tiles(tmp_path)
