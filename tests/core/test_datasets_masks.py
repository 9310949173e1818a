from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from aftermap.core.datasets.masks import (
    IGNORE,
    MaskCoding,
    choose_coding,
    count_class,
    count_values,
    find_common_values,
    find_unknown_value,
    is_noisy,
    label_pixels,
    read_pixels,
)
from aftermap.core.errors import DatasetError, JobError

ROAD = np.random.default_rng(1).random((64, 64)) < 0.3


def read(path: Path, values: np.ndarray, **options):
    Image.fromarray(values.astype(np.uint8)).save(path, **options)
    return read_pixels(path)


def coded(pixels, mask_value: str = "", others=()):
    """The coding of a folder, and the labels of its first mask."""
    histograms = [count_values(p) for p in (pixels, *others)]
    coding = choose_coding(histograms, mask_value, "town/masks")
    labels = label_pixels(pixels, coding)
    assert count_class(histograms[0], coding) == (int((labels == 1).sum()), int((labels != IGNORE).sum()))
    return coding, labels


@pytest.mark.parametrize("value", [1, 2, 38, 128, 255])
@pytest.mark.parametrize("bands", [1, 3])
def test_one_value_beside_zero_is_the_class(tmp_path: Path, value: int, bands: int):
    values = ROAD * value if bands == 1 else np.repeat((ROAD * value)[..., None], 3, axis=2)
    _, labels = coded(read(tmp_path / "m.png", values))
    np.testing.assert_array_equal(labels == 1, ROAD)


def test_one_colour_on_black_is_the_class(tmp_path: Path):
    coding, labels = coded(read(tmp_path / "m.png", ROAD[..., None] * np.array([255, 200, 0])))
    np.testing.assert_array_equal(labels == 1, ROAD)
    assert str(coding) == "#ffc800 is the class"


def test_noise_and_soft_edges_count_from_half_on(tmp_path: Path):
    blocks = np.kron(np.random.default_rng(3).random((8, 8)) < 0.3, np.ones((19, 19))).astype(bool)
    noisy = read(tmp_path / "m.jpg", blocks * 255, quality=60)
    nothing = read(tmp_path / "n.png", np.random.default_rng(2).integers(0, 2, (64, 64)))  # noise on black
    assert is_noisy(count_values(noisy))
    coding, labels = coded(noisy, others=[nothing])
    assert (labels == blocks).mean() > 0.99
    assert not label_pixels(nothing, coding).any()  # by itself, it would be read as 0/1


def test_a_noisy_colour_mask_is_understood(tmp_path: Path):
    blocks = np.kron(np.random.default_rng(3).random((8, 8)) < 0.3, np.ones((16, 16))).astype(bool)
    pixels = read(tmp_path / "m.jpg", blocks[..., None] * np.array([255, 255, 0]), quality=90, subsampling=0)
    assert (coded(pixels)[1] == blocks).mean() > 0.99
    assert (coded(pixels, "#ffff00")[1] == blocks).mean() > 0.95


def test_255_beside_1_is_unlabelled(tmp_path: Path):
    values = ROAD.astype(np.uint8)
    values[:8] = 255
    _, labels = coded(read(tmp_path / "m.png", values))
    assert (labels[:8] == IGNORE).all()
    np.testing.assert_array_equal(labels[8:], ROAD[8:])


def test_masks_of_both_codings_are_read_each_by_itself(tmp_path: Path):
    low, high = read(tmp_path / "a.png", ROAD), read(tmp_path / "b.png", ROAD * 255)
    for first, second in ((low, high), (high, low)):
        np.testing.assert_array_equal(coded(first, others=[second])[1] == 1, ROAD)


def test_nodata_of_the_file_is_unlabelled_but_zero(tmp_path: Path):
    for nodata in (255, 0):
        profile = {"width": 64, "height": 64, "count": 1, "dtype": "uint8", "nodata": nodata}
        values = np.where(np.arange(64)[:, None] < 8, 255, ROAD).astype(np.uint8) if nodata else ROAD * 255
        with rasterio.open(tmp_path / f"{nodata}.tif", "w", **profile) as out:
            out.write(values.astype(np.uint8), 1)
        _, labels = coded(read_pixels(tmp_path / f"{nodata}.tif"))
        assert ((labels == IGNORE).sum() == 8 * 64) if nodata else (IGNORE not in labels)
        np.testing.assert_array_equal(labels[8:] == 1, ROAD[8:])


def test_several_classes_ask_for_a_value_and_list_them(tmp_path: Path):
    values = np.zeros((64, 64))
    values[:16], values[16:20] = 1, 2
    pixels = read(tmp_path / "m.png", values)
    with pytest.raises(DatasetError, match=r"several classes: 0 \(68\.8 %\), 1 \(25\.0 %\), 2 \(6\.2 %\)"):
        coded(pixels)
    _, labels = coded(pixels, "2")
    np.testing.assert_array_equal(labels == 1, values == 2)


def test_a_palette_mask_goes_by_index_and_by_colour(tmp_path: Path):
    values = np.zeros((64, 64), np.uint8)
    values[:16], values[16:20] = 1, 2
    image = Image.fromarray(values, "P")
    image.putpalette([0, 0, 0, 0, 255, 0, 255, 255, 0])
    image.save(tmp_path / "m.png")
    for value in ("2", "#ffff00", "FFFF00"):
        np.testing.assert_array_equal(coded(read_pixels(tmp_path / "m.png"), value)[1] == 1, values == 2)


def test_colours_that_are_close_are_told_apart(tmp_path: Path):
    values = np.zeros((64, 64, 3))
    values[:16], values[16:20] = (226, 169, 41), (226, 169, 50)
    pixels = read(tmp_path / "m.png", values)
    with pytest.raises(DatasetError, match="several classes"):
        coded(pixels)
    assert (coded(pixels, "#e2a932")[1] == 1).sum() == 4 * 64


def test_255_is_unlabelled_beside_a_small_code(tmp_path: Path):
    values = np.zeros((64, 64))
    values[:16], values[16:20], values[20] = 1, 3, 255
    pixels = read(tmp_path / "m.png", values)
    coding, labels = coded(pixels, "3")
    assert str(coding) == "3 is the class, 255 is unlabelled"
    assert (labels == IGNORE).sum() == 64


@pytest.mark.parametrize("value", ["7", "#123456"])
def test_a_value_that_no_mask_holds_is_refused(tmp_path: Path, value: str):
    with pytest.raises(DatasetError, match=rf"No mask of town/masks holds the value {value}; they hold 0 \("):
        coded(read(tmp_path / "m.png", ROAD), value)


@pytest.mark.parametrize("value", ["road", "#12345", "-1", "70000", "²"])
def test_what_is_no_value_is_refused(tmp_path: Path, value: str):
    with pytest.raises(JobError, match="is no value of a mask"):
        coded(read(tmp_path / "m.png", ROAD), value)


def test_a_rare_value_is_a_problem_of_its_tile(tmp_path: Path):
    usual, odd = count_values(read(tmp_path / "a.png", ROAD * 255)), {"0": 4000, "7": 96}
    coding = choose_coding([usual] * 9 + [odd], "", "masks")
    assert coding == MaskCoding(over=127)
    common = find_common_values([usual] * 9 + [odd])
    assert find_unknown_value(odd, coding, common, is_noisy=False) == "7"
    assert find_unknown_value(usual | {"7": 20}, coding, common, is_noisy=False) == "7"
    assert find_unknown_value(usual, coding, common, is_noisy=False) == ""
    assert find_unknown_value({"0": 4096}, coding, common, is_noisy=False) == ""
    soft = usual | {str(v): 10 for v in range(30, 250, 40)}
    assert find_unknown_value(soft, coding, common, is_noisy=False) == ""


def test_a_third_value_is_not_guessed_at(tmp_path: Path):
    values = ROAD * 255
    values[0] = 128
    with pytest.raises(DatasetError, match="several classes"):
        coded(read(tmp_path / "m.png", values))


def test_black_may_be_the_class(tmp_path: Path):
    _, labels = coded(read(tmp_path / "m.png", ~ROAD * 255), "0")
    np.testing.assert_array_equal(labels == 1, ROAD)
    assert IGNORE not in labels


def test_a_class_that_is_in_one_tile_only_is_found(tmp_path: Path):
    usual = count_values(read(tmp_path / "a.png", ROAD * 255))
    assert choose_coding([{"0": 4096}] * 99 + [usual], "", "masks") == MaskCoding(over=127)


def test_fractions_and_what_is_no_image_are_refused(tmp_path: Path):
    profile = {"width": 4, "height": 4, "count": 1, "dtype": "float32"}
    with rasterio.open(tmp_path / "f.tif", "w", **profile) as out:
        out.write(np.full((1, 4, 4), 0.5, np.float32))
    with pytest.raises(DatasetError, match=r"f\.tif holds fractions"):
        read_pixels(tmp_path / "f.tif")
    (tmp_path / "g.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"g\.png cannot be read"):
        read_pixels(tmp_path / "g.png")


def test_many_colours_are_counted_to_the_last_pixel(tmp_path: Path):
    values = np.random.default_rng(4).integers(0, 256, (64, 64, 3))
    assert sum(count_values(read(tmp_path / "m.png", values)).values()) == 64 * 64
