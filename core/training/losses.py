"""Losses for rare classes; every one leaves out pixels labelled `IGNORE`.

Sums run over the whole batch, and over all processes where several train together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from skimage.morphology import skeletonize
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.functional import cross_entropy as cross_entropy_of

from ..datasets.folders import IGNORE
from ..errors import JobError
from .distributed import sum_over_processes

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of the logits and labels of one head: (N, H, W) each."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""Of all logits, (N, heads, H, W), and all labels, (N, channels, H, W)."""

_HELPER_WEIGHT = 0.5  # of the heads behind the first: roads are the task; buildings teach what is none

MAX_WEIGHT = 5.0
"""Largest weight that is suggested: the full ratio makes fat roads that eat roofs."""

_TUBE_PX = 2  # how far the tube reaches from the skeleton (Kirchhoff et al. 2024)
_SKELETON_PAD_PX = 16  # by reflection: at a bare border the skeleton bends


def sum_heads(losses: Sequence[Loss]) -> Objective:
    """Each head by its own loss and its own channel of the labels; those behind the first count half."""

    def objective(logits: Tensor, labels: Tensor) -> Tensor:
        total = losses[0](logits[:, 0], labels[:, 0])
        for head, loss in enumerate(losses[1:], start=1):
            total = total + _HELPER_WEIGHT * loss(logits[:, head], labels[:, head])
        return total

    return objective


def bce(logits: Tensor, labels: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy, mean over the labelled pixels.

    Args:
        logits: (N, H, W).
        labels: (N, H, W), 0, 1 or `IGNORE`.
        positive_weight: Weight of the pixels of the class.

    Shape:
        - logits, labels: (N, H, W)
        - output: scalar; 0 where nothing is labelled

    Reference: Good, Rational Decisions, J. R. Stat. Soc. B 14, 1952 (the logarithmic score).
    """
    known = (labels != IGNORE).float()
    target = (labels == 1).float()
    weight = torch.tensor(positive_weight, device=logits.device)
    losses = binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    total, pixels = _totals(losses * known, known)
    return total / pixels.clamp(min=1)


def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss: cross-entropy, faded where the network is right already.

    Shape:
        - logits, labels: (N, H, W)
        - output: scalar

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 4.
    """
    known = (labels != IGNORE).float()
    target = (labels == 1).float()
    losses = binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrongness = (torch.sigmoid(logits) - target).abs() ** gamma
    total, pixels = _totals(losses * wrongness * known, known)
    return total / pixels.clamp(min=1)


def dice(logits: Tensor, labels: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - Dice coefficient over the whole batch.

    Over the batch, not per image: a crop without the class would otherwise count as fully wrong.

    Shape:
        - logits, labels: (N, H, W)
        - output: scalar

    Reference: Milletari et al., V-Net, 3DV 2016, section 3.
    """
    known = labels != IGNORE
    p = torch.sigmoid(logits) * known
    target = (labels == 1).float()
    hits, predicted, true = _totals(p * target, p, target)
    return 1 - (2 * hits + smooth) / (predicted + true + smooth)


def tversky(
    logits: Tensor, labels: Tensor, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0
) -> Tensor:
    """1 - Tversky index over the whole batch: Dice with a price of its own for each kind of error.

    Args:
        logits: (N, H, W).
        labels: (N, H, W), 0, 1 or `IGNORE`.
        alpha: Price of false positives.
        beta: Price of false negatives; 0.3 and 0.7 were the paper's best pair, and 0.5 and 0.5 are Dice.
        smooth: Added to both sides of the fraction.

    Shape:
        - logits, labels: (N, H, W)
        - output: scalar

    Reference: Salehi et al., Tversky loss function for image segmentation, MLMI 2017, section 2.2.
    """
    known = (labels != IGNORE).float()
    p = torch.sigmoid(logits) * known
    target = (labels == 1).float()
    hits, false_positives, false_negatives = _totals(p * target, p * (1 - target), (1 - p) * target)
    return 1 - (hits + smooth) / (hits + alpha * false_positives + beta * false_negatives + smooth)


def skeleton_recall(logits: Tensor, labels: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft recall on a tube about the skeleton of the truth: a thin road counts as much as a wide one.

    To be added to a loss that also sees false positives; alone it is least where everything is the class. The
    skeleton is made on the CPU: 5 ms a crop of 384 px, 1 to 3 % of a step that runs there too.

    Shape:
        - logits, labels: (N, H, W)
        - output: scalar

    Reference: Kirchhoff et al., Skeleton Recall Loss, ECCV 2024, section 3.
    """
    tubes = [tubed_skeleton(crop == 1) for crop in labels.cpu().numpy()]
    tube = torch.from_numpy(np.stack(tubes)).to(logits.device).float()
    hits, true = _totals(torch.sigmoid(logits) * tube, tube)
    return 1 - (hits + smooth) / (true + smooth)


def tubed_skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The skeleton of a mask, widened by 2 px inside the mask.

    Args:
        mask: bool (h, w).
    """
    if not mask.any():
        return np.zeros_like(mask)
    pad = min(_SKELETON_PAD_PX, *(n - 1 for n in mask.shape))
    inner = tuple(slice(pad, pad + n) for n in mask.shape)
    skeleton = skeletonize(np.pad(mask, pad, mode="reflect"))[inner]  # type: ignore[no-untyped-call]
    tube: NDArray[np.bool_] = binary_dilation(skeleton, np.ones((3, 3)), _TUBE_PX, mask=mask)
    return tube


def cross_entropy(logits: Tensor, labels: Tensor, weights: Sequence[float]) -> Tensor:
    """Cross-entropy of several classes, weighted mean over the labelled pixels.

    Args:
        logits: (N, C, H, W); the softmax is over C.
        labels: (N, H, W), class codes 0 to C - 1, or `IGNORE`.
        weights: One per class, as of `suggest_class_weights`.

    Shape:
        - logits: (N, C, H, W)
        - labels: (N, H, W)
        - output: scalar; 0 where nothing is labelled

    Reference: King and Zeng, Logistic Regression in Rare Events Data, Political Analysis 9, 2001 (weighting).
    """
    by_class = torch.tensor(tuple(weights), device=logits.device)
    known = labels != IGNORE
    codes = torch.where(known, labels, 0).long()
    weight = by_class[codes] * known
    losses = cross_entropy_of(logits, codes, reduction="none")
    total, weights_total = _totals(losses * weight, weight)
    return total / weights_total.clamp(min=1e-6)


def ordinal(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the expected level lies from the true one: squared, mean over the labelled pixels.

    To take a destroyed building for an undamaged one is worse than to take it for a damaged one, which
    cross-entropy does not know.

    Args:
        logits: (N, C, H, W), of classes in their order; the softmax is over C.
        labels: (N, H, W), class codes 0 to C - 1, or `IGNORE`.

    Shape:
        - logits: (N, C, H, W)
        - labels: (N, H, W)
        - output: scalar, 0 to 1; 0 where nothing is labelled
    """
    ranks = torch.linspace(0, 1, logits.shape[1], device=logits.device)
    expected = torch.einsum("nchw,c->nhw", torch.softmax(logits, dim=1), ranks)
    known = labels != IGNORE
    true = ranks[torch.where(known, labels, 0).long()]
    total, pixels = _totals((expected - true) ** 2 * known, known.float())
    return total / pixels.clamp(min=1)


_ORDINAL_WEIGHT = 0.5


def damage_objective(level_weights: Sequence[float]) -> Objective:
    """Buildings by cross-entropy and Dice; their levels by weighted cross-entropy and `ordinal`.

    Args:
        level_weights: One a level, as of `suggest_class_weights`.

    Returns:
        Of logits (N, 1 + levels, H, W), and labels (N, 2, H, W): building, and the rank of its level from 0,
        `IGNORE` off buildings.
    """
    of_buildings = build_loss("bce_dice", 0.5)

    def objective(logits: Tensor, labels: Tensor) -> Tensor:
        levels, codes = logits[:, 1:], labels[:, 1]
        damage = cross_entropy(levels, codes, level_weights) + _ORDINAL_WEIGHT * ordinal(levels, codes)
        return of_buildings(logits[:, 0], labels[:, 0]) + damage

    return objective


def suggest_class_weights(shares: Sequence[float]) -> tuple[float, ...]:
    """√(inverse frequency) of each class relative to the most frequent one, at most 5.

    Args:
        shares: Share of each class among the labelled pixels, 0 to 1.
    """
    most = max(shares)
    return tuple(min(MAX_WEIGHT, math.sqrt(most / max(share, 1e-6))) for share in shares)


def suggest_positive_weight(share: float) -> float:
    """√(negatives / positives), at least 1 and at most 5.

    Args:
        share: Share of the class among the labelled pixels, 0 to 1.
    """
    return min(MAX_WEIGHT, max(1.0, _root_of_odds(share)))


def positive_weight_formula(share: float) -> str:
    """How `suggest_positive_weight` comes to its value, such as ``√((1 − 0.08) / 0.08) = 3.4, at most 5``."""
    shown = f"{share:.2g}"
    bound = "at least 1" if share > 0.5 else "at most 5"
    return f"√((1 − {shown}) / {shown}) = {_root_of_odds(share):.1f}, {bound}"


def constant_loss(share: float) -> float:
    """What the best constant guess, the class's share itself, costs under unweighted `bce`: the entropy.

    A network above it has learned less than how frequent the class is. 0.325 at 10 %; to say 0.5 everywhere
    costs 0.693, whatever the share.

    Args:
        share: Share of the class among the labelled pixels, 0 to 1.
    """
    return sum(-p * math.log(p) for p in (share, 1 - share) if p > 0)


LOSSES = ("bce_dice", "bce", "weighted_bce", "focal", "dice", "tversky", "focal_dice")
"""Names of the losses of one class."""


def build_loss(
    name: str, share: float, *, positive_weight: float = 0.0, skeleton_weight: float = 0.0
) -> Loss:
    """The loss of one head.

    Args:
        name: One of `LOSSES`.
        share: Share of the class in what is drawn, for the suggested weight.
        positive_weight: Of the class's pixels in ``weighted_bce``; 0: as suggested.
        skeleton_weight: Of `skeleton_recall`, which is added; 0: not added.

    Raises:
        JobError: There is no such loss, or a weight is negative.
    """
    if positive_weight < 0 or skeleton_weight < 0:
        raise JobError("The weight of the class and that of the skeleton recall cannot be negative.")
    weight = positive_weight or suggest_positive_weight(share)
    losses: dict[str, Loss] = {
        "bce_dice": lambda x, y: bce(x, y) + dice(x, y),
        "bce": bce,
        "weighted_bce": lambda x, y: bce(x, y, weight),
        "focal": focal,
        "dice": dice,
        "tversky": tversky,
        "focal_dice": lambda x, y: 5 * focal(x, y) + dice(x, y),
    }
    if name not in losses:
        raise JobError(f"There is no loss {name!r}: choose one of {', '.join(losses)}.")
    loss = losses[name]
    if not skeleton_weight:
        return loss
    return lambda x, y: loss(x, y) + skeleton_weight * skeleton_recall(x, y)


def _totals(*values: Tensor) -> tuple[Tensor, ...]:
    """The sum of each tensor over the whole batch; several in one message."""
    return sum_over_processes(torch.stack([x.sum() for x in values])).unbind()


def _root_of_odds(share: float) -> float:
    return math.sqrt((1 - share) / max(share, 1e-6))
