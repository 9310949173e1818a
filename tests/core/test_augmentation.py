"""Colours of training crops, and the crops that they are laid over."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from aftermap.core.datasets.augmentation import AUGMENTATIONS, choose_augmentation
from aftermap.core.datasets.crops import (
    COLOURED_SHARE,
    MIN_NEGATIVE_SHARE,
    CropSettings,
    CropSource,
    make_batch,
    weigh_tiles,
)
from aftermap.core.datasets.folders import IGNORE, TileArrays
from aftermap.core.errors import JobError


def coloured_image(side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(3)
    base = rng.random((1, side, side)) * 0.4 + 0.2
    return (base * np.array([1.2, 0.9, 0.6])[:, None, None]).astype(np.float32)


@pytest.fixture(scope="module")
def tile() -> TileArrays:
    image = (coloured_image(96) * 255).astype(np.uint8)
    labels = np.zeros((2, 96, 96), dtype=np.uint8)
    labels[0, 40:52] = 1
    return TileArrays("one", image, labels, 0.8)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_any_augmentation_stays_in_range_and_is_a_function_of_chance(name: str, bands: int):
    augment = choose_augmentation(name)
    image = np.random.default_rng(0).random((bands, 40, 40), dtype=np.float32)
    for seed in range(30):
        first, second = (augment(image.copy(), np.random.default_rng(seed)) for _ in range(2))
        assert first.dtype == np.float32
        assert first.shape == image.shape
        assert 0 <= first.min() <= first.max() <= 1
        assert np.array_equal(first, second)


def test_none_changes_nothing():
    image = coloured_image()
    assert np.array_equal(choose_augmentation("none")(image.copy(), np.random.default_rng(0)), image)


def test_mild_leaves_the_order_of_colours_and_structure_does_not():
    def share_kept(name: str) -> float:
        augment, kept = choose_augmentation(name), 0
        for seed in range(100):
            red, green, blue = augment(coloured_image(), np.random.default_rng(seed)).mean(axis=(1, 2))
            kept += bool(red > green > blue)
        return kept / 100

    assert share_kept("mild") == 1.0
    assert share_kept("structure") < 0.7


def test_structure_shows_grey_images_and_lost_bands():
    augment = choose_augmentation("structure")
    spread = []
    for seed in range(300):
        image = augment(coloured_image(), np.random.default_rng(seed))
        structure = image - image.mean(axis=(1, 2), keepdims=True)
        spread.append(np.corrcoef(structure.reshape(3, -1)).min())
    assert np.mean(np.array(spread) > 0.2) > 0.9  # what is drawn over it, the ground can still be seen


def test_a_share_of_the_crops_gets_other_colours_and_the_rest_is_mild():
    augment, mild = choose_augmentation("structure", 0.3), choose_augmentation("mild")
    image, kept = coloured_image(), 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        rng.random()  # the draw between the two
        kept += np.array_equal(augment(image.copy(), np.random.default_rng(seed)), mild(image.copy(), rng))
    assert kept / 400 == pytest.approx(0.7, abs=0.07)


def test_every_second_crop_of_a_source_keeps_its_colours(tile: TileArrays):
    source, kept = CropSource([tile], [1.0], CropSettings(64)), 0
    for seed in range(300):
        (red, green, blue), labels = source.crop(np.random.default_rng(seed))
        known = labels[0] != IGNORE
        # Bands are 1.2, 0.9 and 0.6 of one image: green is half way between, unless they are changed apart.
        kept += bool(np.median(np.abs(red - 2 * green + blue)[known]) < 0.01 < np.median(red - blue))
    assert kept / 300 == pytest.approx(COLOURED_SHARE, abs=0.1)


def test_mild_moves_brightness_by_what_it_says():
    augment, image = choose_augmentation("mild"), coloured_image()
    moved = [augment(image.copy(), np.random.default_rng(s)).mean() - image.mean() for s in range(200)]
    assert 0.08 < max(moved) < 0.12
    assert -0.12 < min(moved) < -0.08


def test_unknown_names_are_refused_when_the_source_is_made(tile: TileArrays):
    with pytest.raises(JobError, match="no augmentation 'wild'"):
        CropSource([tile], [1.0], CropSettings(64, augmentation="wild"))
    with pytest.raises(JobError, match="no sampler 'best'"):
        CropSource([tile], [1.0], CropSettings(64, sampler="best"))


def test_augmentation_changes_colours_and_not_labels(tile: TileArrays):
    settings = CropSettings(64, augmentation="none")
    plain, structure = (
        CropSource([tile], [1.0], dataclasses.replace(settings, augmentation=name))
        for name in ("none", "structure")
    )
    # The window is drawn before the colours, so the first crop of a stream is the same one.
    for seed in range(5):
        (image, labels), (other_image, other_labels) = (
            source.crop(np.random.default_rng(seed)) for source in (plain, structure)
        )
        assert np.array_equal(labels, other_labels)
        assert not np.array_equal(image, other_image)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_one_batch(tile: TileArrays, processes: int):
    sources = [CropSource([tile], [1.0], CropSettings(32)), CropSource([tile], [1.0], CropSettings(32))]
    images, labels = make_batch(sources, [3, 2], seed=7, step=4)
    for rank in range(processes):
        own_images, own_labels = make_batch(sources, [3, 2], 7, 4, rank, processes)
        assert torch.equal(own_images, images[rank::processes])
        assert torch.equal(own_labels, labels[rank::processes])


def test_the_weighted_sampler_favours_the_class_and_keeps_tiles_without_it():
    shares = np.array([0.0] * 2 + [0.02] * 49 + [0.2] * 49)
    p = weigh_tiles(shares, np.ones(100), "weighted")
    assert p.sum() == pytest.approx(1)
    assert p[:2].sum() == pytest.approx(MIN_NEGATIVE_SHARE)
    assert p[-1] > 1.5 * p[2]
    assert weigh_tiles(shares, np.ones(100), "uniform") == pytest.approx(np.full(100, 0.01))
