"""The colour-dependence probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aftermap.core.cards import read_package
from aftermap.core.evaluation.colour_probe import (
    UNSEEN,
    PerturbedNetwork,
    perturbations,
    show_perturbations,
    summarise_probe,
)
from aftermap.core.networks.segmenter import load_segmenter

from .bright_model import save_bright_model


@pytest.fixture
def tiles() -> np.ndarray:
    return np.random.default_rng(5).random((2, 3, 32, 48), dtype=np.float32)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_each_perturbation_changes_the_tiles_and_keeps_their_form(bands: int):
    tiles = np.random.default_rng(5).random((2, bands, 32, 48), dtype=np.float32)
    before = tiles.copy()
    for name, perturb in perturbations(bands).items():
        changed = perturb(tiles)
        assert changed.shape == tiles.shape, name
        assert np.abs(changed - tiles).mean() > 0.01, name
        np.testing.assert_array_equal(tiles, before, err_msg=name)


def test_one_band_has_no_colours():
    assert set(perturbations(1)) == {"gamma_0.6", "gamma_1.6", UNSEEN}


def test_grey_is_the_mean_and_a_turned_hue_keeps_it(tiles: np.ndarray):
    probes = perturbations(3)
    mean = tiles.mean(axis=1)
    for band in range(3):
        np.testing.assert_allclose(probes["grey"](tiles)[:, band], mean, rtol=1e-5)
    turned = probes["hue_shift"](tiles)
    np.testing.assert_allclose(turned.mean(axis=1), mean, atol=1e-5)
    grey = probes["grey"](tiles)
    np.testing.assert_allclose(probes["hue_shift"](grey), grey, atol=1e-5)
    # Six turns of 60 degrees are none.
    for _ in range(5):
        turned = probes["hue_shift"](turned)
    np.testing.assert_allclose(turned, tiles, atol=1e-4)


def test_a_lost_band_leaves_the_others(tiles: np.ndarray):
    without = perturbations(3)["lost_band"](tiles)
    np.testing.assert_array_equal(without[:, 1:], tiles[:, 1:])
    np.testing.assert_allclose(without[:, 0], tiles[:, 1:].mean(axis=1))


def test_the_network_sees_the_perturbed_tiles_and_invalid_pixels_as_they_were(
    tmp_path: Path, tiles: np.ndarray
):
    mean = [0.25, 0.5, 0.75]
    path = save_bright_model(
        tmp_path / "m.aftermap", radiometry={"scaling": "unit", "mean": mean, "std": [1.0] * 3}
    )
    segmenter = load_segmenter(read_package(path), "cpu")
    tiles[:, :, :8] = np.array(mean, np.float32)[:, None, None]
    seen: list[np.ndarray] = []

    class Recorder(PerturbedNetwork):
        def __call__(self, tiles: np.ndarray) -> np.ndarray:
            seen.append(tiles)
            return segmenter(tiles)

    recorder = Recorder(segmenter, lambda t: t)
    swapped = PerturbedNetwork(recorder, perturbations(3)["channel_swap"])
    found = swapped(tiles)
    np.testing.assert_array_equal(seen[0][:, :, 8:], tiles[:, ::-1, 8:])
    np.testing.assert_array_equal(seen[0][:, :, :8], tiles[:, :, :8])
    np.testing.assert_array_equal(found, segmenter(seen[0]))
    assert (swapped.tile_px, swapped.gsd_m, swapped.device) == (segmenter.tile_px, segmenter.gsd_m, "cpu")


def test_what_a_person_is_shown_is_what_the_network_sees(tiles: np.ndarray):
    image = np.rint(tiles[0] * 255).astype(np.uint8)
    shown = show_perturbations(image)
    assert list(shown) == ["clean", *perturbations(3)]
    np.testing.assert_array_equal(shown["clean"], image)
    np.testing.assert_array_equal(shown["channel_swap"], image[::-1])
    assert all(s.dtype == np.uint8 and s.shape == image.shape for s in shown.values())


def test_the_summary_by_hand():
    found = summarise_probe(0.5, {"grey": 0.4, "cast": 0.55, UNSEEN: 0.1})
    assert found["worst_drop"] == pytest.approx(0.2)
    assert found["mean_drop"] == pytest.approx((0.2 - 0.1) / 2)
    assert (found["clean"], found[UNSEEN]) == (0.5, 0.1)
    assert np.isnan(summarise_probe(0.0, {"grey": 0.0})["worst_drop"])
