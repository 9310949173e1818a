"""Losses for rare classes; every one leaves out pixels labelled `IGNORE`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..datasets.folders import IGNORE
from ..errors import JobError

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(logits: Tensor, labels: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy, mean over the labelled pixels.

    Args:
        logits: (N, H, W).
        labels: (N, H, W), 0, 1 or `IGNORE`.
        positive_weight: Weight of the pixels of the class.

    Shape:
        - output: scalar; 0 where nothing is labelled
    """
    known = (labels != IGNORE).float()
    target = (labels == 1).float()
    weight = torch.tensor(positive_weight, device=logits.device)
    losses = binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


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
    return 1 - (2 * (p * target).sum() + smooth) / (p.sum() + target.sum() + smooth)


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
    return (losses * wrongness * known).sum() / known.sum().clamp(min=1)


def suggest_positive_weight(share: float) -> float:
    """√(negatives / positives), at most 5: the full ratio makes fat roads that eat roofs.

    Args:
        share: Share of the class among the labelled pixels, 0 to 1.
    """
    return min(5.0, max(1.0, math.sqrt((1 - share) / max(share, 1e-6))))


def build_loss(name: str, share: float) -> Loss:
    """The loss of one head.

    Args:
        name: ``bce_dice``, ``bce``, ``weighted_bce``, ``focal_dice``.
        share: Share of the class in what is drawn, for weights.

    Raises:
        JobError: There is no such loss.
    """
    weight = suggest_positive_weight(share)
    losses: dict[str, Loss] = {
        "bce_dice": lambda x, y: bce(x, y) + dice(x, y),
        "bce": bce,
        "weighted_bce": lambda x, y: bce(x, y, weight),
        "focal_dice": lambda x, y: 5 * focal(x, y) + dice(x, y),
    }
    if name not in losses:
        raise JobError(f"There is no loss {name!r}: choose one of {', '.join(losses)}.")
    return losses[name]
