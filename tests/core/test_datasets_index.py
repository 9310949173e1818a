import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from aftermap.core.datasets.folders import read_tile
from aftermap.core.datasets.index import IndexProgress, index_tiles
from aftermap.core.datasets.layouts import find_tiles
from aftermap.core.datasets.survey import survey_folder
from aftermap.core.errors import DatasetError, OutputError

from .tile_files import half_road, write_placed_tile, write_tile


@pytest.fixture
def town(tmp_path: Path) -> Path:
    for i in range(4):
        write_tile(tmp_path / "town", f"t{i}", half_road(share=0.25 * i))
    return tmp_path / "town"


def survey(folder: Path, **options):
    """The survey of a folder, and how many tiles were read for it."""
    *progress, found = survey_folder(folder, folder.parent / "cache", **options)
    return found, len(progress)


def shares(found) -> dict[str, float]:
    return {r.stem: r.class_share for r in found.records}


def test_a_tile_is_read_once(town: Path):
    first, read = survey(town)
    assert read == 4
    assert shares(first) == {"t0": 0.0, "t1": 0.25, "t2": 0.5, "t3": 0.75}
    assert survey(town) == (first, 0)


def test_changed_added_and_removed_tiles_are_noticed(town: Path):
    survey(town)
    # the same size and date as before: only the file system knows better
    before = (town / "masks" / "t1.png").stat()
    old = Image.open(town / "masks" / "t1.png").copy()
    Image.fromarray(255 - np.asarray(old)).save(town / "masks" / "t1.png")
    os.utime(town / "masks" / "t1.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    write_tile(town, "t9")
    (town / "images" / "t2.png").unlink()
    (town / "masks" / "t2.png").unlink()
    found, read = survey(town)
    assert read == 2
    assert shares(found) == {"t0": 0.0, "t1": 0.75, "t3": 0.75, "t9": 0.5}
    assert survey(town)[1] == 0


def test_a_changed_image_is_noticed(town: Path):
    survey(town)
    white = np.asarray(Image.open(town / "images" / "t3.png")).copy()
    white[:24] = 255
    Image.fromarray(white).save(town / "images" / "t3.png")
    found, read = survey(town)
    assert read == 1
    assert shares(found)["t3"] == 0.0  # all of the road lies on what is now a white collar


def test_another_class_needs_no_reading(tmp_path: Path):
    for i in range(3):
        mask = half_road(value=1)
        mask[:4] = 2
        write_tile(tmp_path / "town", f"t{i}", mask)
    with pytest.raises(DatasetError, match="several classes"):
        survey(tmp_path / "town")
    for value, share in (("1", 0.375), ("2", 0.125)):
        found, read = survey(tmp_path / "town", mask_value=value)
        assert (read, shares(found)["t0"]) == (0, share)
        tile, record = found.usable[0]
        assert (read_tile(tile, 1.0).labels[0] == 1).mean() == record.class_share


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_labels_over_a_white_wedge_do_not_count(tmp_path: Path, suffix: str):
    image = np.random.default_rng(0).integers(30, 200, (128, 128, 3)).astype(np.uint8)
    image[:, 64:] = 255
    mask = np.zeros((128, 128), np.uint8)
    mask[:, 48:] = 255
    write_tile(tmp_path / "town", "t", mask, image)
    (tmp_path / "town" / "images" / "t.png").unlink()
    Image.fromarray(image).save(tmp_path / "town" / "images" / f"t{suffix}")
    ((_, record),) = survey(tmp_path / "town")[0].usable
    assert (record.valid_px, record.class_share) == (64 * 128, 0.25)


def test_a_large_mask_is_estimated_from_some_of_its_pixels(tmp_path: Path):
    size = 2600
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((26, 26)) < 0.1, np.ones((100, 100))).astype(np.uint8) * 255
    write_tile(tmp_path / "town", "t", mask, np.full((size, size, 3), 90, np.uint8))
    ((_, record),) = survey(tmp_path / "town")[0].usable
    assert record.valid_px == pytest.approx(size * size, rel=1e-5)
    assert record.class_share == pytest.approx((mask > 0).mean(), abs=0.002)


def test_building_masks_and_their_share(tmp_path: Path):
    write_tile(tmp_path / "town", "t")
    (tmp_path / "town" / "building_masks").mkdir()
    Image.fromarray(half_road(share=0.25)).save(tmp_path / "town" / "building_masks" / "t.png")
    ((_, record),) = survey(tmp_path / "town")[0].usable
    assert record.building_share == 0.25


def test_georeferenced_tiles_have_a_place_and_a_true_resolution(tmp_path: Path):
    # 60 degrees north, where a metre of Web Mercator is half a metre on the ground
    write_placed_tile(tmp_path / "town", "t", 1_113_195, 8_399_738, gsd=2.0, crs="EPSG:3857")
    write_tile(tmp_path / "town", "u")
    placed, loose = survey(tmp_path / "town")[0].records
    west, south, east, north = placed.bounds
    assert placed.gsd_m == pytest.approx(1.0, rel=0.01)
    assert (west, north) == (pytest.approx(10.0, abs=1e-4), pytest.approx(60.0, abs=1e-4))
    assert east > west
    assert south < north
    assert (loose.gsd_m, loose.bounds) == (None, None)


def test_one_corrupt_image_of_many_is_named_skipped_and_counted(tmp_path: Path):
    folder = tmp_path / "town"
    write_tile(folder, "t000", half_road(16), np.full((16, 16, 3), 90, np.uint8))
    for i in range(1, 1000):
        for part in ("images", "masks"):
            os.link(folder / part / "t000.png", folder / part / f"t{i:03d}.png")
    (folder / "images" / "t500.png").unlink()
    (folder / "images" / "t500.png").write_bytes(b"\x89PNG broken")
    found, _ = survey(folder)
    assert len(found.usable) == 999
    (problem,) = found.problems
    assert "t500.png" in problem
    assert survey(folder)[1] == 0  # and that is kept too


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda f: (f / "masks" / "t1.png").write_bytes(b"broken"), r"The mask .*t1\.png cannot be read"),
        (lambda f: half_of(f / "images" / "t1.png"), r"t1\.png cannot be read to its end"),
        (
            lambda f: Image.new("L", (9, 9)).save(f / "masks" / "t1.png"),
            r"The mask .*t1\.png has 9 x 9 pixels and its image 32 x 32: make them equal",
        ),
        (
            lambda f: Image.fromarray(half_road(value=7)).save(f / "masks" / "t1.png"),
            r"The mask .*t1\.png holds 0 \(50\.0 %\), 7 \(50\.0 %\), unlike the others",
        ),
    ],
    ids=["broken mask", "half an image", "another size", "an unknown value"],
)
def test_what_is_wrong_with_a_tile_is_a_sentence(town: Path, harm, sentence: str):
    for i in range(4, 8):
        write_tile(town, f"t{i}")
    harm(town)
    found, _ = survey(town)
    assert [r.stem for r in found.records if r.problem] == ["t1"]
    assert re.search(sentence, found.problems[0])


def half_of(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_what_stands_alone_is_a_problem_too(town: Path):
    (town / "masks" / "t2.png").unlink()
    found, _ = survey(town)
    assert len(found.usable) == 3
    assert found.problems == [
        f"{town / 'images' / 't2.png'} has no partner of the same name (an image needs a mask, a mask an "
        "image): add it, or remove the file."
    ]


def test_all_background_and_a_single_tile_are_concerns(tmp_path: Path):
    write_tile(tmp_path / "one", "t")
    assert "a single usable tile, which cannot be split" in survey(tmp_path / "one")[0].concerns[0]
    for i in range(3):
        write_tile(tmp_path / "none", f"t{i}", half_road(share=0))
    assert "are background (3 tiles" in survey(tmp_path / "none")[0].concerns[0]
    write_tile(tmp_path / "none", "t3")
    assert survey(tmp_path / "none")[0].concerns == []


def test_masks_that_seem_inverted_are_a_concern(tmp_path: Path):
    for i in range(3):
        write_tile(tmp_path / "town", f"t{i}", half_road(share=0.9))
    assert "if the masks show it in black, name 0" in survey(tmp_path / "town")[0].concerns[0]
    found, read = survey(tmp_path / "town", mask_value="0")
    assert (found.concerns, read) == ([], 0)


def test_a_folder_without_a_usable_tile_says_why(tmp_path: Path):
    for i in range(2):
        write_tile(tmp_path / "town", f"t{i}")
        (tmp_path / "town" / "masks" / f"t{i}.png").write_bytes(b"broken")
    with pytest.raises(
        DatasetError, match=r"holds no usable tile \(2 tiles, none can be used\)\. The mask .*t0"
    ):
        survey(tmp_path / "town")


def test_a_cancel_keeps_what_was_read(town: Path):
    news = survey_folder(town, town.parent / "cache")
    assert isinstance(next(news), IndexProgress)
    news.close()
    assert survey(town)[1] < 4


def test_a_folder_that_disappears_is_a_sentence_and_loses_nothing(town: Path):
    tiles = find_tiles(town)
    list(index_tiles(tiles[:2], town.parent / "cache"))
    shutil.move(town, town.parent / "elsewhere")
    with pytest.raises(DatasetError, match="disappeared while it was being read: connect its drive"):
        list(index_tiles(tiles, town.parent / "cache"))
    shutil.move(town.parent / "elsewhere", town)
    found, read = survey(town)
    assert (len(found.usable), read) == (4, 2)


def test_a_file_that_disappears_is_a_problem_of_the_moment(town: Path):
    tiles = find_tiles(town)
    shutil.move(tiles[1].mask, town / "aside")
    *_, records = index_tiles(tiles, town.parent / "cache")
    assert "t1.png disappeared while its folder was being read" in records[1].problem
    shutil.move(town / "aside", tiles[1].mask)
    assert shares(survey(town)[0])["t1"] == 0.25


def test_an_index_that_is_damaged_is_made_anew(town: Path):
    survey(town)
    (kept,) = (town.parent / "cache").iterdir()
    for text in ("not JSON", '{"format": 1, "records": []}', '{"format": 2, "readings": [["t0"]]}'):
        kept.write_text(text)
        assert survey(town)[1] == 4


def test_a_cache_that_cannot_be_written_is_refused_before_anything_is_read(town: Path):
    (town.parent / "cache").write_text("a file")
    with pytest.raises(OutputError, match="The index of the tiles cannot be kept in"):
        survey(town)


def test_tiles_in_degrees_keep_image_and_mask_together(tmp_path: Path):
    # a pixel of a ten-thousandth of a degree is half as wide as high at 60 degrees north
    folder = tmp_path / "town"
    write_placed_tile(folder, "t", 10.0, 60.0, gsd=1e-5, crs="EPSG:4326")
    with rasterio.open(folder / "images" / "t.tif", "r+") as image:
        image.write(np.where(half_road(), 200, 50).astype(np.uint8)[None].repeat(3, axis=0))
    arrays = read_tile(find_tiles(folder)[0], 1.0)
    np.testing.assert_array_equal(arrays.image[0] == 200, arrays.labels[0] == 1)
