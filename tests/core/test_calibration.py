"""Whether probabilities are true, and the scaling that makes them so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from aftermap.core.cards import read_package
from aftermap.core.evaluation.calibration import BINS, Scaling, fit_scaling, measure_reliability
from aftermap.core.evaluation.pixel_scores import LEVELS, LevelCounts
from aftermap.core.networks.segmenter import load_segmenter

from .bright_model import save_bright_model


def counts_of(logits: np.ndarray, truth_logits: np.ndarray) -> LevelCounts:
    """A million pixels said to have `logits`, of which as many are of the class as `truth_logits` say."""
    levels = np.rint(expit(logits) * (LEVELS - 1)).astype(np.uint8)
    is_class = np.random.default_rng(3).random(len(logits)) < expit(truth_logits)
    counts = LevelCounts()
    counts.add(levels, is_class.astype(np.uint8))
    return counts


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    return np.random.default_rng(2).normal(-1.0, 1.5, 1_000_000)


def test_true_probabilities_have_no_calibration_error(logits: np.ndarray):
    assert measure_reliability(counts_of(logits, logits)).ece < 0.002


def test_reliability_by_hand():
    # Level 254 (p = 1), 4 pixels, one of the class: |1 - 0.25| for 4 of 10 pixels; level 0, 6 pixels,
    # none: 0.
    counts = LevelCounts()
    counts.add(np.array([[254] * 4 + [0] * 6], np.uint8), np.array([[1] + [0] * 9], np.uint8))
    curve = measure_reliability(counts)
    assert curve.ece == pytest.approx(0.4 * 0.75)
    assert (curve.promised[-1], curve.observed[-1], curve.share[-1]) == (1.0, 0.25, 0.4)
    assert np.isnan(curve.promised[1:-1]).all()
    assert len(curve.share) == BINS


@pytest.mark.parametrize(("temperature", "bias"), [(2.0, 0.0), (0.6, 0.0), (1.5, -1.2), (1.0, 0.0)])
def test_the_scaling_is_found_again(logits: np.ndarray, temperature: float, bias: float):
    counts = counts_of(logits, logits / temperature + bias)
    scaling = fit_scaling(counts)
    assert scaling.temperature == pytest.approx(temperature, rel=0.03)
    assert scaling.bias == pytest.approx(bias, abs=0.03)
    assert measure_reliability(scaling.counts(counts)).ece < 0.003


def test_scaled_counts_give_the_same_masks_at_the_scaled_threshold(logits: np.ndarray):
    counts = counts_of(logits, logits * 0.5 - 1)
    scaling = fit_scaling(counts)
    scaled = scaling.counts(counts)
    assert scaled.positive.sum() == counts.positive.sum()
    for threshold in (0.2, 0.5, 0.7):
        moved = scaled.scores(scaling.threshold(threshold))
        assert moved["iou"] == pytest.approx(counts.scores(threshold)["iou"], abs=0.01)


def test_two_scalings_make_one():
    first, second = Scaling(2.0, 0.4), Scaling(0.5, -1.0)
    both = second.following(first)
    assert both.threshold(0.3) == pytest.approx(second.threshold(first.threshold(0.3)))
    assert Scaling().following(first) == first.following(Scaling()) == first


def test_one_class_alone_fits_no_scaling():
    counts = LevelCounts()
    counts.add(np.full((4, 4), 30, np.uint8), np.zeros((4, 4), np.uint8))
    assert fit_scaling(counts) == Scaling()
    assert np.isnan(measure_reliability(LevelCounts()).ece)


def test_labels_that_contradict_the_network_fit_no_absurd_scaling():
    counts = LevelCounts()
    counts.add(np.array([[250, 240, 5, 9]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8))
    assert 0.1 <= fit_scaling(counts).temperature <= 10.0


def test_a_run_scales_as_the_card_says(tmp_path):
    scaling = Scaling(2.0, -0.5)
    plain, scaled = (
        load_segmenter(read_package(save_bright_model(tmp_path / f"{i}.aftermap", calibration=c)), "cpu")
        for i, c in enumerate(({}, {"temperature": 2.0, "bias": -0.5}))
    )
    tiles = np.random.default_rng(1).random((1, 3, 32, 32), dtype=np.float32)
    p, q = plain(tiles).ravel(), scaled(tiles).ravel()
    inside = (p > 0.001) & (p < 0.999)
    expected = [scaling.threshold(float(x)) for x in p[inside]]
    np.testing.assert_allclose(q[inside], expected, rtol=2e-3)
    assert Scaling.of({"temperature": 2.0, "bias": -0.5, "method": "any"}) == scaling
