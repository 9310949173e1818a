"""Losses: values by hand, what they leave out, and what they reward."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aftermap.core.datasets.folders import IGNORE
from aftermap.core.errors import JobError
from aftermap.core.training.losses import (
    LOSSES,
    bce,
    build_loss,
    constant_loss,
    cross_entropy,
    dice,
    focal,
    positive_weight_formula,
    skeleton_recall,
    suggest_class_weights,
    suggest_positive_weight,
    tubed_skeleton,
    tversky,
)


def random_case(seed: int = 0, shape: tuple[int, ...] = (2, 24, 24)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(shape, generator=generator) < 0.2).to(torch.uint8)
    return torch.randn(shape, generator=generator), labels


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("skeleton_weight", [0.0, 0.5])
def test_what_is_not_labelled_changes_neither_loss_nor_gradient(name: str, skeleton_weight: float):
    loss = build_loss(name, 0.1, skeleton_weight=skeleton_weight)
    logits, labels = random_case()
    labels[:, :8] = IGNORE
    logits.requires_grad_()
    value = loss(logits, labels)
    value.backward()
    assert logits.grad is not None
    assert not logits.grad[:, :8].any()
    assert logits.grad[:, 8:].abs().sum() > 0
    changed = logits.detach().clone()
    changed[:, :8] = -9
    assert loss(changed, labels) == value


@pytest.mark.parametrize("name", LOSSES)
def test_the_truth_costs_next_to_nothing_and_its_opposite_most(name: str):
    loss = build_loss(name, 0.1, skeleton_weight=1.0)
    _, labels = random_case(1)
    truth = labels.float() * 40 - 20
    guess = torch.zeros_like(truth)
    assert loss(truth, labels).item() == pytest.approx(0, abs=1e-3)
    assert loss(truth, labels) < loss(guess, labels) < loss(-truth, labels)


def test_values_by_hand():
    logits, labels = torch.zeros(1, 1, 4), torch.tensor([[[1, 0, 0, 0]]], dtype=torch.uint8)
    assert bce(logits, labels).item() == pytest.approx(math.log(2))
    assert bce(logits, labels, 3.0).item() == pytest.approx(math.log(2) * (3 + 3) / 4)
    assert dice(logits, labels).item() == pytest.approx(1 - (2 * 0.5 + 1) / (2 + 1 + 1))
    assert focal(logits, labels).item() == pytest.approx(math.log(2) / 4)
    # 0.5 hit, 1.5 false positives, 0.5 missed
    expected = 1 - (0.5 + 1) / (0.5 + 0.3 * 1.5 + 0.7 * 0.5 + 1)
    assert tversky(logits, labels).item() == pytest.approx(expected)
    assert bce(logits, torch.full_like(labels, IGNORE)) == 0


def test_tversky_with_equal_prices_is_dice():
    logits, labels = random_case(2)
    assert tversky(logits, labels, 0.5, 0.5, smooth=0.5).item() == pytest.approx(dice(logits, labels).item())


def test_tversky_asks_for_recall():
    labels = torch.zeros(1, 1, 10, dtype=torch.uint8)
    labels[..., :4] = 1
    missed, invented = torch.full((1, 1, 10), -20.0), torch.full((1, 1, 10), -20.0)
    missed[..., :2] = 20
    invented[..., :6] = 20
    assert tversky(invented, labels) < tversky(missed, labels)


def test_a_missed_lane_costs_the_skeleton_as_much_as_a_missed_avenue():
    labels = torch.zeros(1, 64, 96, dtype=torch.uint8)
    labels[:, 10:13] = 1  # a lane 3 px wide
    labels[:, 30:54] = 1  # an avenue 24 px wide
    full = labels.float() * 40 - 20
    no_lane, no_avenue = full.clone(), full.clone()
    no_lane[:, 10:13] = -20
    no_avenue[:, 30:54] = -20
    lane, avenue = skeleton_recall(no_lane, labels).item(), skeleton_recall(no_avenue, labels).item()
    assert skeleton_recall(full, labels).item() == pytest.approx(0, abs=1e-6)
    assert lane / avenue > 0.5  # by their pixels it would be an eighth
    assert dice(no_lane, labels) / dice(no_avenue, labels) < 0.2


def test_the_tube_lies_inside_the_mask_and_runs_to_the_border():
    mask = np.zeros((48, 64), dtype=bool)
    mask[16:30] = True
    tube = tubed_skeleton(mask)
    assert not (tube & ~mask).any()
    assert tube.any(axis=0).all()  # from the left border to the right one
    assert set(tube.sum(axis=0)) == {5}  # and straight on: a skeleton and two pixels on each side
    assert not tubed_skeleton(np.zeros((5, 5), dtype=bool)).any()


def test_cross_entropy_of_two_equal_classes_is_bce():
    logits, labels = random_case(3)
    labels[:, :5] = IGNORE
    pair = torch.stack((torch.zeros_like(logits), logits), dim=1)
    assert cross_entropy(pair, labels, (1, 1)).item() == pytest.approx(bce(logits, labels).item(), rel=1e-5)


def test_cross_entropy_weighs_classes_and_leaves_out_what_is_not_labelled():
    logits = torch.zeros(1, 3, 1, 4)
    labels = torch.tensor([[[0, 1, 2, IGNORE]]], dtype=torch.uint8)
    logits[0, 2, 0, 2] = 5.0
    logits[0, 1, 0, 3] = 50.0
    right = math.log(2 + math.exp(5)) - 5
    expected = (1 * math.log(3) + 2 * math.log(3) + 5 * right) / 8
    assert cross_entropy(logits, labels, (1.0, 2.0, 5.0)).item() == pytest.approx(expected)
    assert cross_entropy(logits, torch.full_like(labels, IGNORE), (1.0, 1.0, 1.0)) == 0


def test_suggested_weights():
    assert suggest_positive_weight(0.1) == pytest.approx(3.0)
    assert suggest_positive_weight(0.0001) == 5.0
    assert suggest_positive_weight(0.9) == 1.0
    assert positive_weight_formula(0.08) == "√((1 − 0.08) / 0.08) = 3.4, at most 5"
    assert positive_weight_formula(0.9).endswith("= 0.3, at least 1")
    assert suggest_class_weights((0.9, 0.1, 0.001)) == pytest.approx((1.0, 3.0, 5.0))


def test_a_constant_guess_costs_the_entropy_and_no_other_constant_less():
    assert constant_loss(0.1) == pytest.approx(0.325, abs=5e-4)
    assert constant_loss(0.5) == pytest.approx(math.log(2))
    assert constant_loss(0.0) == constant_loss(1.0) == 0
    labels = torch.zeros(1, 10, 10, dtype=torch.uint8)
    labels[0, 0] = 1
    costs = {p: bce(torch.full((1, 10, 10), math.log(p / (1 - p))), labels).item() for p in (0.05, 0.1, 0.2)}
    assert costs[0.1] == pytest.approx(constant_loss(0.1))
    assert min(costs, key=lambda p: costs[p]) == 0.1


def test_a_given_weight_is_taken_and_an_unknown_loss_refused():
    logits, labels = random_case(4)
    given = build_loss("weighted_bce", 0.1, positive_weight=2.0)
    assert given(logits, labels) == bce(logits, labels, 2.0)
    assert build_loss("weighted_bce", 0.1)(logits, labels) == bce(logits, labels, 3.0)
    with pytest.raises(JobError, match="no loss 'hinge'"):
        build_loss("hinge", 0.1)
    with pytest.raises(JobError, match="negative"):
        build_loss("bce", 0.1, skeleton_weight=-1)
