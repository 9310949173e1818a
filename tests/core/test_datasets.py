"""Reading labelled tiles, indexing them, splitting them, drawing crops from them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

from aftermap.core.datasets import index
from aftermap.core.datasets.augmentation import augment_colours
from aftermap.core.datasets.crops import CropSettings, CropSource, make_batch, weigh_tiles
from aftermap.core.datasets.folders import (
    IGNORE,
    LabelledTile,
    TileArrays,
    find_tiles,
    read_mask,
    read_splits,
    read_tile,
    select_tiles,
)
from aftermap.core.datasets.splits import split_tiles
from aftermap.core.errors import DatasetError, RasterError


def write_pair(
    folder: Path, stem: str, image=None, mask=None, parts=("images", "masks"), ends=("", "")
) -> None:
    image = np.full((40, 50, 3), 90, np.uint8) if image is None else image
    mask = np.zeros(image.shape[:2], np.uint8) if mask is None else mask
    for part, end, values in zip(parts, ends, (image, mask), strict=True):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / part / f"{stem}{end}.png")


@pytest.mark.parametrize(
    ("parts", "ends"),
    [
        (("images", "masks"), ("", "")),
        (("sat", "map"), ("", "")),
        (("images", "groundtruth"), ("", "")),
        ((".", "."), ("_sat", "_mask")),
    ],
)
def test_known_layouts_are_found(tmp_path: Path, parts, ends):
    for stem in ("b", "a"):
        write_pair(tmp_path, stem, parts=parts, ends=ends)
    Image.new("RGB", (9, 9)).save(tmp_path / parts[0] / f"alone{ends[0]}.png")
    assert [t.stem for t in find_tiles(tmp_path)] == ["a", "b"]


def test_folders_without_tiles_are_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(DatasetError, match="There is no folder"):
        find_tiles(tmp_path / "missing")
    with pytest.raises(DatasetError, match="holds no labelled tiles"):
        find_tiles(tmp_path)


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_masks_are_read_whatever_their_coding(tmp_path: Path, high: int, mode: str):
    truth = np.random.default_rng(1).random((30, 20)) > 0.7
    values = truth.astype(np.uint8) * high
    if mode != "L":
        values = np.dstack(
            [values, *([np.zeros_like(values)] * 2), *([np.full_like(values, 255)] * (mode == "RGBA"))]
        )
    Image.fromarray(values, mode).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), truth)


def test_soft_edges_count_from_half_on(tmp_path: Path):
    Image.fromarray(np.array([[0, 100, 127, 128, 255]], np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), [[False, False, False, True, True]])


def test_labels_on_a_white_collar_are_ignored(tmp_path: Path):
    image = np.random.default_rng(0).integers(30, 200, (120, 160, 3)).astype(np.uint8)
    image[:, 80:] = 255
    mask = np.zeros((120, 160), np.uint8)
    mask[50:60] = 255  # a road that goes on over the white
    write_pair(tmp_path, "t", image, mask)
    arrays = read_tile(find_tiles(tmp_path)[0], 1.0)
    road, building = arrays.labels
    assert (road[50:60, :80] == 1).all()
    assert (road[:, 80:] == IGNORE).all()
    assert (building == IGNORE).all()  # nobody said where the buildings are
    np.testing.assert_array_equal(arrays.image[:, :, :80], np.moveaxis(image, 2, 0)[:, :, :80])


def test_a_mask_of_another_size_is_refused_by_name(tmp_path: Path):
    write_pair(tmp_path, "t", mask=np.zeros((10, 10), np.uint8))
    with pytest.raises(DatasetError, match=r"t\.png has 10 x 10 pixels and its image 50 x 40"):
        read_tile(find_tiles(tmp_path)[0], 1.0)


def test_an_image_that_is_none_is_refused_by_name(tmp_path: Path):
    write_pair(tmp_path, "t")
    (tmp_path / "images" / "t.png").write_bytes(b"no image")
    with pytest.raises(RasterError, match=r"t\.png"):
        read_tile(find_tiles(tmp_path)[0], 1.0)


def test_splits_file_names_tiles(tmp_path: Path):
    for stem in "abc":
        write_pair(tmp_path / "town", stem)
    path = tmp_path / "splits.json"
    path.write_text('{"roads": {"town": {"train": ["c", "a"], "validation": ["x"]}}}')
    lists = read_splits(path, tmp_path / "town", "roads")
    tiles = find_tiles(tmp_path / "town")
    assert [t.stem for t in select_tiles(tiles, lists["train"], tmp_path)] == ["c", "a"]
    with pytest.raises(DatasetError, match="no labelled tile 'x'"):
        select_tiles(tiles, lists["validation"], tmp_path)
    with pytest.raises(DatasetError, match="does not name the folder 'images'"):
        read_splits(path, tmp_path / "town" / "images", "roads")


# -------------------------------------------------------------------------------------------- index


@pytest.fixture
def indexed(tmp_path: Path) -> tuple[list[LabelledTile], Path]:
    for i in range(4):
        mask = np.zeros((40, 50), np.uint8)
        mask[: 10 * i] = 255
        write_pair(tmp_path / "town", f"t{i}", mask=mask)
    return find_tiles(tmp_path / "town"), tmp_path / "cache"


def records_of(tiles, cache):
    *progress, records = index.index_tiles(tiles, cache)
    return records, len(progress)


def test_index_knows_class_shares_and_reads_a_tile_once(indexed):
    tiles, cache = indexed
    records, read = records_of(tiles, cache)
    assert [r.class_share for r in records] == [0.0, 0.25, 0.5, 0.75]
    assert read == 4
    again, read = records_of(tiles, cache)
    assert again == records
    assert read == 0


def test_only_a_changed_or_new_tile_is_read_again(indexed):
    tiles, cache = indexed
    records_of(tiles, cache)
    Image.fromarray(np.full((40, 50), 255, np.uint8)).save(tiles[1].mask)
    os.utime(tiles[1].mask, (1, 1))
    write_pair(tiles[0].image.parent.parent, "t9")
    records, read = records_of(find_tiles(tiles[0].image.parent.parent), cache)
    assert [r.class_share for r in records] == [0.0, 1.0, 0.5, 0.75, 0.0]
    assert read == 2


def test_a_broken_tile_is_a_record_with_its_problem(indexed):
    tiles, cache = indexed
    tiles[2].mask.write_bytes(b"broken")
    records, _ = records_of(tiles, cache)
    assert "t2.png" in records[2].problem
    assert [bool(r.problem) for r in records] == [False, False, True, False]


def test_an_index_of_another_version_is_made_anew(indexed):
    tiles, cache = indexed
    records_of(tiles, cache)
    (kept,) = cache.iterdir()
    kept.write_text("not JSON")
    assert records_of(tiles, cache)[1] == 4


# ------------------------------------------------------------------------------------------- splits


def fake_tiles(*stems: str) -> list[LabelledTile]:
    return [LabelledTile(s, Path(f"{s}.png"), Path(f"{s}.png")) for s in stems]


def test_areas_are_never_split():
    tiles = fake_tiles(*(f"t{area}_{i:03d}" for area in range(1, 6) for i in range(1, 5)))
    train, validation, how = split_tiles(tiles, [0.1] * 20, 0.2)
    area = lambda t: t.stem.split("_")[0]  # noqa: E731  named for the next line only
    assert {area(t) for t in train}.isdisjoint({area(t) for t in validation})
    assert len(train) + len(validation) == 20
    assert 2 <= len(validation) <= 6
    assert "areas of their own" in how


def test_georeferenced_tiles_that_overlap_stand_on_one_side(tmp_path: Path):
    for i in range(12):  # half overlapping along a strip
        path = tmp_path / "images" / f"{'abcdefghijkl'[i]}.tif"
        path.parent.mkdir(exist_ok=True)
        profile = {
            "driver": "GTiff",
            "width": 20,
            "height": 20,
            "count": 3,
            "dtype": "uint8",
            "crs": "EPSG:32637",
        }
        with rasterio.open(path, "w", transform=from_origin(500000 + i * 10, 4e6, 1, 1), **profile) as out:
            out.write(np.ones((3, 20, 20), np.uint8))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.new("L", (20, 20)).save(tmp_path / "masks" / f"{path.stem}.png")
    tiles = [LabelledTile(s, tmp_path / "images" / f"{s}.tif", tmp_path) for s in "abcdefghijkl"]
    # the names must not tell areas apart, so that geography decides
    tiles = [LabelledTile("tile", t.image, t.mask) for t in tiles]
    train, validation, how = split_tiles(tiles, [0.1] * 12, 0.25)
    assert len(validation) == 3
    right_of_train = max(500000 + "abcdefghijkl".index(t.image.stem) * 10 + 20 for t in train)
    left_of_validation = min(500000 + "abcdefghijkl".index(t.image.stem) * 10 for t in validation)
    assert right_of_train <= left_of_validation
    assert "left out" in how


def test_unplaced_crops_of_one_scene_are_split_by_a_run_of_names(tmp_path: Path):
    for i in range(10):
        write_pair(tmp_path, f"crop_{i:02d}")
    train, validation, _ = split_tiles(find_tiles(tmp_path), [0.1] * 10, 0.2)
    assert [t.stem for t in validation] == ["crop_08", "crop_09"]
    assert "crop_07" not in [t.stem for t in train]


def test_validation_tiles_hold_the_class_where_only_some_do(tmp_path: Path):
    for i in range(10):
        write_pair(tmp_path, f"crop_{i:02d}")
    shares = [0.0] * 10
    shares[3:5] = [0.2, 0.2]
    train, validation, _ = split_tiles(find_tiles(tmp_path), shares, 0.1)
    assert [t.stem for t in validation] in (["crop_03"], ["crop_04"])
    assert len(train) == 7  # both neighbours are left out
    singles = fake_tiles(*(f"{'abcde'[i]}_{i}" for i in range(5)))
    _, validation, _ = split_tiles(singles, [0.0, 0.0, 0.1, 0.0, 0.2], 0.2)
    assert validation[0].stem in ("c_2", "e_4")


def test_one_tile_cannot_be_split():
    with pytest.raises(DatasetError, match="cannot be split"):
        split_tiles(fake_tiles("a"), [0.1], 0.2)


# -------------------------------------------------------------------------------------------- crops


def tile_with_a_road(seed: int = 0, size: int = 200) -> TileArrays:
    image = np.random.default_rng(seed).integers(0, 255, (3, size, size)).astype(np.uint8)
    labels = np.zeros((2, size, size), np.uint8)
    labels[0, 90:110] = 1
    image[:, 90:110] = 255
    return TileArrays("t", image, labels, 0.8)


def test_a_batch_is_a_function_of_seed_and_step():
    source = CropSource([tile_with_a_road()], [1.0], CropSettings(crop_px=64))
    first, again, other = (make_batch([source], [3], 5, step) for step in (7, 7, 8))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (3, 3, 64, 64)
    assert first[1].shape == (3, 2, 64, 64)
    assert 0 <= first[0].min() <= first[0].max() <= 1


def test_image_and_labels_stay_together_whatever_the_turn_and_scale():
    tile = tile_with_a_road()
    tile.image[:] = tile.labels[:1] * 255  # the image shows nothing but the label
    settings = CropSettings(crop_px=64, fill=(0.0, 0.0, 0.0), augmentation="none")
    source = CropSource([tile], [1.0], settings)
    for seed in range(20):
        image, labels = source.crop(np.random.default_rng(seed))
        known = labels[0] != IGNORE
        is_edge = (image[0] > 0.02) & (image[0] < 0.98)
        np.testing.assert_array_equal((image[0] > 0.5)[known & ~is_edge], (labels[0] == 1)[known & ~is_edge])


def test_scale_follows_the_ground():
    widths = []
    for gsd_m in (0.4, 0.8):
        tile = tile_with_a_road(size=400)
        tile = TileArrays("t", tile.image, tile.labels, gsd_m)
        source = CropSource([tile], [1.0], CropSettings(crop_px=128, scale_jitter=1.0, augmentation="none"))
        labels = [source.crop(np.random.default_rng(s))[1][0] for s in range(40)]
        areas = [(x == 1).sum() / 128 for x in labels if (x == 1).any() and (x != IGNORE).all()]
        widths.append(np.median(areas))
    assert widths[1] / widths[0] == pytest.approx(2.0, rel=0.25)


def test_what_lies_outside_is_ignored_and_shown_as_the_mean():
    tile = tile_with_a_road(size=40)
    settings = CropSettings(crop_px=96, scale_jitter=1.0)
    image, labels = CropSource([tile], [1.0], settings).crop(np.random.default_rng(3))
    outside = (labels == IGNORE).all(axis=0)
    assert 0.3 < outside.mean() < 0.9
    corner = image[:, 0, 0]
    np.testing.assert_allclose(corner, settings.fill, atol=1e-6)


def test_tiles_without_the_class_keep_their_share():
    shares = np.array([0.0] + [0.3] * 99)
    p = weigh_tiles(shares, np.ones(100), "weighted")
    assert p.sum() == pytest.approx(1)
    assert p[0] == pytest.approx(0.15)
    np.testing.assert_allclose(weigh_tiles(shares, np.ones(100), "uniform"), 0.01)


def test_tiles_rich_in_the_class_are_drawn_more_often():
    p = weigh_tiles(np.array([0.01, 0.2]), np.ones(2), "weighted")
    assert p[1] / p[0] == pytest.approx(1.5 / 0.6)


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_augmented_colours_stay_colours(bands: int):
    for seed in range(60):
        image = np.random.default_rng(seed).random((bands, 24, 24), dtype=np.float32)
        changed = augment_colours(image.copy(), np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert changed.min() >= 0
        assert changed.max() <= 1
