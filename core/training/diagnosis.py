"""What goes wrong in a training, said in words: findings from numbers, before, during and after a run.

Each function looks at one thing and gives a `Finding`, or none where there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .losses import constant_loss
from .schedules import Schedule, Step, first_below, first_change

HALF_EVERYWHERE = math.log(2)
"""What it costs under binary cross-entropy to say 0.5 everywhere, whatever the class's share: 0.693."""

_FEW_VALIDATION_TILES = 8
_FEW_TRAINING_TILES = 20
_SHIFT = 0.4  # of the logit: it moves an even chance from 0.5 to 0.6
_WORSE = 1.05  # times the constant guess: batches scatter
_NEARLY_CONSTANT = 0.85  # times the constant guess: little more than the prior has been learned
_RISE = 1.1  # of the validation loss over its least
_GAIN = 0.01  # of IoU


@dataclass(frozen=True)
class Finding:
    """Something about a training that the user should know.

    Attributes:
        name: Which finding it is, such as ``never_acts``: to say each only once in a run.
        sentence: For the user.
    """

    name: str
    sentence: str


@dataclass(frozen=True)
class TrainingPlan:
    """The numbers of a training that are known before it begins.

    Attributes:
        schedule: Of the learning rate.
        steps: Of the whole run.
        steps_per_epoch: In how many steps each training tile has been seen once.
        train_tiles: Tiles that it trains on, of which there were `all_tiles`.
        all_tiles: Training tiles before those under the least share were dropped.
        negative_tiles: Tiles without the class among `train_tiles`, of which there were `all_negative_tiles`.
        all_negative_tiles: Before those under the least share were dropped.
        validation_tiles: Tiles that it is judged by.
        min_share: The least share of the class, 0 to 1.
        share: Class share of the tiles, all of them: the prior where the model will be used.
        sampled_share: Class share of what is drawn.
        positive_weight: Weight of the class in the loss; 1: none.
    """

    schedule: Schedule
    steps: int
    steps_per_epoch: float
    train_tiles: int
    all_tiles: int
    negative_tiles: int
    all_negative_tiles: int
    validation_tiles: int
    min_share: float
    share: float
    sampled_share: float
    positive_weight: float = 1.0


def diagnose_plan(plan: TrainingPlan) -> list[Finding]:
    """What can be said before the run."""
    return _present(
        find_no_class(plan.share),
        find_never_acting(plan.schedule, plan.steps, plan.steps_per_epoch),
        find_early_end(plan.schedule, plan.steps, plan.steps_per_epoch),
        find_few_validation_tiles(plan.validation_tiles),
        find_few_tiles(plan.train_tiles, plan.all_tiles, plan.min_share),
        find_lost_negatives(plan.negative_tiles, plan.all_negative_tiles, plan.min_share),
        find_prior_shift(plan.share, plan.sampled_share, plan.positive_weight),
    )


def diagnose_round(
    training: Sequence[Mapping[str, float]], rounds: Sequence[Mapping[str, float]]
) -> list[Finding]:
    """What can be said after a round, and at the end.

    Args:
        training: One object for each step that was noted, with ``step``, ``bce``, ``class_share``.
        rounds: One object for each round, with ``step``, ``iou`` and, where known, ``loss`` (of the
            validation). A round at step 0 is the start model.
    """
    last = rounds[-1]["step"] if rounds else 0
    before = rounds[-2]["step"] if len(rounds) > 1 else 0
    recent = [t for t in training if before < t["step"] <= last]
    if not recent:
        return []
    plain, share = _mean(recent, "bce"), _mean(recent, "class_share")
    trained = [r for r in rounds if r["step"] > 0]
    return _present(
        # The first round begins with a network that knows nothing.
        find_worse_than_constant(plain, share) if len(trained) > 1 else None,
        find_overfitting(
            [_loss_until(training, rounds, r) for r in trained], [r.get("loss") for r in trained]
        ),
    )


def diagnose_run(
    training: Sequence[Mapping[str, float]], rounds: Sequence[Mapping[str, float]]
) -> list[Finding]:
    """What can be said after the run; arguments as of `diagnose_round`."""
    if not rounds or not training:
        return []
    recent = [t for t in training if t["step"] > 0.8 * training[-1]["step"]]
    return _present(
        find_underfitting(_mean(recent, "bce"), _mean(recent, "class_share")),
        find_best_round([(int(r["step"]), r["iou"]) for r in rounds]),
    )


def find_no_class(share: float) -> Finding | None:
    """No training tile shows the class."""
    if share > 0:
        return None
    return Finding(
        "no_class",
        "No training tile shows the class: from background alone nothing can be learned. Check how the masks "
        "are coded, or add tiles.",
    )


def find_never_acting(schedule: Schedule, steps: int, steps_per_epoch: float) -> Finding | None:
    """A step schedule whose first step lies behind the end of the run."""
    if not isinstance(schedule, Step) or first_change(schedule, steps) is not None:
        return None
    first, last = _steps(schedule.every, steps_per_epoch), _steps(steps, steps_per_epoch)
    return Finding(
        "never_acts",
        f"The schedule never acts: the learning rate falls first after {first}, and the run ends after "
        f"{last}. Choose cosine, or a period of at most half the run.",
    )


def find_early_end(schedule: Schedule, steps: int, steps_per_epoch: float) -> Finding | None:
    """A schedule under which the rate is next to nothing for half of the run: stepped per batch, mostly."""
    gone = first_below(schedule, steps)
    if gone is None or gone > steps / 2:
        return None
    where = "within the first epoch, " if gone < steps_per_epoch else ""
    return Finding(
        "early_end",
        f"From step {gone} of {steps} on ({where}with {1 - gone / steps:.0%} of the run to go) the learning "
        "rate is a hundredth of its start or less, and hardly anything is learned any more. A period that "
        "counts batches is often meant to count epochs: choose the unit epoch, a longer period, or cosine.",
    )


def find_few_validation_tiles(count: int) -> Finding | None:
    """Too few validation tiles to tell rounds apart."""
    if count >= _FEW_VALIDATION_TILES:
        return None
    return Finding(
        "few_validation_tiles",
        f"Only {_tiles(count)} for validation: rounds, thresholds and models that differ by a few hundredths "
        f"of IoU cannot be told apart. Hold back {_FEW_VALIDATION_TILES} or more, from other places than the "
        "training tiles.",
    )


def find_few_tiles(kept: int, total: int, min_share: float) -> Finding | None:
    """A least class share that drops most of the ground."""
    if kept == total or (kept >= _FEW_TRAINING_TILES and kept >= total / 4):
        return None
    return Finding(
        "few_tiles",
        f"The least share of {min_share:.2f} leaves {kept} of {total} training tiles: the network sees less "
        "of the ground that it is made for. Lower it, and leave the balance to the weighted sampler.",
    )


def find_lost_negatives(kept: int, total: int, min_share: float) -> Finding | None:
    """A least class share that drops every tile without the class."""
    if kept or not total:
        return None
    return Finding(
        "lost_negatives",
        f"The least share of {min_share:.2f} drops every training tile without the class ({total}), and "
        "these teach what looks like it and is not: expect grey roofs and yards to be taken for roads.",
    )


def expected_shift(share: float, sampled_share: float, positive_weight: float = 1.0) -> float:
    """How much higher the logits of a network come out that a weight and a sampler have trained.

    A network that minimises cross-entropy tells the odds of what it was shown: the true odds times the
    weight, times the ratio of the odds of the class in what was drawn and in the tiles. The logarithm of both
    is added to the logit. For Dice and Tversky there is no such number: they push probabilities to 0 and 1.

    Args:
        share: Of the class where the model is used, 0 to 1, neither.
        sampled_share: Of the class in what is drawn, 0 to 1, neither.
        positive_weight: Weight of the class in the loss.

    Reference: Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001, theorem 2.
    """
    return math.log(positive_weight) + _logit(sampled_share) - _logit(share)


def find_prior_shift(share: float, sampled_share: float, positive_weight: float = 1.0) -> Finding | None:
    """Weights or a sampler that make a threshold of 0.5 meaningless; arguments as of `expected_shift`."""
    if not (0 < share < 1 and 0 < sampled_share < 1):
        return None
    shift = expected_shift(share, sampled_share, positive_weight)
    if abs(shift) < _SHIFT:
        return None
    causes = []
    if positive_weight != 1:
        causes.append(f"the weight of {positive_weight:.1f}")
    if abs(_logit(sampled_share) - _logit(share)) >= 0.1:
        causes.append(f"drawing {sampled_share:.1%} of the class where the tiles hold {share:.1%}")
    return Finding(
        "prior_shift",
        f"A threshold of 0.5 will mean nothing: {' and '.join(causes)} shift the logits by about "
        f"{shift:+.1f}, so that an even chance comes out as {_sigmoid(shift):.2f}. The threshold is "
        "therefore calibrated on validation tiles that are neither weighted nor selected.",
    )


def find_worse_than_constant(bce: float, share: float) -> Finding | None:
    """Unweighted cross-entropy above that of a constant guess.

    Args:
        bce: Unweighted binary cross-entropy, the mean of some steps.
        share: Class share of the same steps.
    """
    prior = constant_loss(share)
    if bce <= _WORSE * prior:
        return None
    half = f", and even than saying 0.5 everywhere ({HALF_EVERYWHERE:.3f})" if bce > HALF_EVERYWHERE else ""
    return Finding(
        "worse_than_constant",
        f"The unweighted cross-entropy is {bce:.3f}, worse than guessing the class's share of {share:.1%} "
        f"everywhere ({prior:.3f}){half}. Unless a weight or Dice is what raises it and the validation "
        "scores rise, the learning rate is too high, or masks and images do not belong together.",
    )


def find_underfitting(bce: float, share: float) -> Finding | None:
    """A network that knows little more than how frequent the class is; arguments as of the function above."""
    prior = constant_loss(share)
    if not _NEARLY_CONSTANT * prior < bce <= _WORSE * prior:
        return None
    return Finding(
        "underfitting",
        f"Underfitting: the unweighted cross-entropy of {bce:.3f} is hardly better than a constant guess "
        f"({prior:.3f}). Train longer, with a higher learning rate, or from a starter model.",
    )


def find_overfitting(training: Sequence[float | None], validation: Sequence[float | None]) -> Finding | None:
    """A validation loss that rises while the training loss still falls.

    Args:
        training: Mean training loss of each round.
        validation: Validation loss after it; none where unknown.
    """
    pairs = [(t, v) for t, v in zip(training, validation, strict=True) if t is not None and v is not None]
    if len(pairs) < 3:
        return None
    least = min(range(len(pairs)), key=lambda i: pairs[i][1])
    last = len(pairs) - 1
    is_rising = pairs[last][1] > _RISE * pairs[least][1] and pairs[last - 1][1] > pairs[least][1]
    if last - least < 2 or not is_rising or pairs[last][0] >= pairs[least][0]:
        return None
    return Finding(
        "overfitting",
        f"Overfitting: since round {least + 1} the validation loss has risen from {pairs[least][1]:.3f} to "
        f"{pairs[last][1]:.3f} while the training loss fell from {pairs[least][0]:.3f} to "
        f"{pairs[last][0]:.3f}. The best round is kept; more tiles, more augmentation or fewer steps would "
        "help.",
    )


def find_best_round(rounds: Sequence[tuple[int, float]]) -> Finding | None:
    """A best round that is the last, or the model that the training began with.

    Args:
        rounds: Step and IoU of each round; step 0 is the start model.
    """
    if len(rounds) < 2:
        return None
    best = max(rounds, key=lambda r: (r[1], r[0]))
    if best[0] == 0:
        return Finding(
            "start_is_best",
            f"No round was better than the model that the training began with (IoU {best[1]:.3f}), which is "
            "what was kept: use a lower learning rate, more tiles, or check that the masks are drawn as its "
            "were.",
        )
    if best == rounds[-1] and best[1] - rounds[-2][1] > _GAIN:
        return Finding(
            "last_is_best",
            f"The last round is the best, and {best[1] - rounds[-2][1]:.3f} of IoU better than the one "
            "before: a longer training would gain more.",
        )
    return None


def find_shifted_threshold(threshold: float, iou: float, iou_at_half: float) -> Finding | None:
    """A calibrated threshold that is worth much against 0.5."""
    if iou - iou_at_half <= _GAIN:
        return None
    return Finding(
        "shifted_threshold",
        f"At the calibrated threshold of {threshold:.2f} the IoU is {iou:.3f}; at 0.5 it would be "
        f"{iou_at_half:.3f}.",
    )


def _present(*findings: Finding | None) -> list[Finding]:
    return [f for f in findings if f is not None]


def _mean(steps: Sequence[Mapping[str, float]], name: str) -> float:
    return math.fsum(s[name] for s in steps) / len(steps)


def _loss_until(
    training: Sequence[Mapping[str, float]], rounds: Sequence[Mapping[str, float]], one: Mapping[str, float]
) -> float | None:
    """Mean training loss of the round that ended with `one`."""
    before = max((r["step"] for r in rounds if r["step"] < one["step"]), default=0)
    steps = [t for t in training if before < t["step"] <= one["step"]]
    return _mean(steps, "loss") if steps else None


def _steps(steps: int, steps_per_epoch: float) -> str:
    return f"{steps} steps ({steps / steps_per_epoch:.3g} epochs)"


def _tiles(count: int) -> str:
    return "1 tile is left" if count == 1 else f"{count} tiles are left"


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
