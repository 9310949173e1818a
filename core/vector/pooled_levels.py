"""From the pooled features of a footprint to the probability of each level of damage.

The plain mean over the footprint is the baseline. What can be learned on top of it is small, so that a few
hundred buildings of a few tiles are enough: the score of each class is a weighted sum of the logarithms of
its mean, its 90th percentile and its mean in the ring, plus a bias, and a softmax over the classes makes
probabilities of the scores. The weights 1, 0, 0 without a bias *are* the plain mean; the fit is drawn
towards them, and falls back to them unless it does better on tiles that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from ..errors import ModelError
from ..raster.probability import LEVELS
from .pooling import PooledFeatures
from .scanlines import Floats

MEAN: Mapping[str, Any] = {"method": "mean"}
"""The baseline, as it stands on a model's card."""

_TERMS = ("mean", "p90", "ring", "bias")
_PLAIN = np.array([1.0, 0.0, 0.0, 0.0])
_LEAST = 0.5 / LEVELS  # half a step: what a code of 0 may stand for
_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
_FEWEST_GROUPS = 2


def pool_levels(features: PooledFeatures, pooling: Mapping[str, Any]) -> Floats:
    """The probability of each class for each footprint.

    Args:
        features: Of n footprints.
        pooling: From a model's card: ``{"method": "mean"}``, or ``{"method": "softmax"}`` with ``mean``,
            ``p90``, ``ring`` and ``bias``: a number for each class.

    Returns:
        float64 (n, classes), rows that sum to 1; NaN where nothing was seen.

    Raises:
        ModelError: `pooling` is of no method that is known, or not for these classes.
    """
    weights = _weights(pooling, classes=features.mean.shape[1])
    probabilities: Floats = np.exp(_log_probabilities(_terms(features), weights))
    return probabilities


def fit_pooling(
    features: PooledFeatures, classes: NDArray[np.integer[Any]], groups: NDArray[Any]
) -> dict[str, Any]:
    """Learn how to pool from footprints whose class is known.

    How strongly the weights are drawn to the plain mean is chosen by leaving out one group after the other;
    the mean stays where no strength beats its log-loss on the groups left out by more than a standard error
    of that gain.

    Args:
        features: Of n footprints.
        classes: Index of the true class of each; of no class: not classified, and passed over.
        groups: Of each, whatever it is: tiles, since buildings of one tile resemble each other.

    Returns:
        What `pool_levels` takes, as JSON values: besides the weights ``strength``, ``buildings``, ``groups``
        and the log-loss on groups left out, ``log_loss_softmax``, beside that of the mean, ``log_loss_mean``.
    """
    count = features.mean.shape[1]
    plain = _weights(MEAN, count)
    known = (classes >= 0) & (classes < count) & np.isfinite(features.mean).all(axis=1)
    x, y = _terms(features)[known], np.asarray(classes)[known].astype(np.int64)
    names, group = np.unique(np.asarray(groups)[known], return_inverse=True)
    facts: dict[str, Any] = {"buildings": len(y), "groups": len(names)}
    if len(names) < _FEWEST_GROUPS:
        return {**MEAN, **facts}

    baseline = _losses(x, y, plain)
    trials = {strength: _losses_left_out(x, y, group, strength) for strength in _STRENGTHS}
    strength = min(trials, key=lambda s: float(trials[s].mean()))
    gain, error = _gain(baseline - trials[strength], group)
    facts |= {"log_loss_mean": float(baseline.mean()), "log_loss_softmax": float(trials[strength].mean())}
    if not gain > error:
        return {**MEAN, **facts}
    weights = _fit(x, y, strength, plain)
    fitted = {term: [round(float(w), 4) for w in row] for term, row in zip(_TERMS, weights, strict=True)}
    return {"method": "softmax", **fitted, "strength": strength, **facts}


def _terms(features: PooledFeatures) -> Floats:
    """What is weighted, float64 (n, terms, classes); an unseen ring says what the mean says."""
    ring = np.where(np.isnan(features.ring), features.mean, features.ring)
    logs = [np.log(np.maximum(p, _LEAST)) for p in (features.mean, features.p90, ring)]
    return np.stack([*logs, np.ones_like(features.mean)], axis=1)


def _weights(pooling: Mapping[str, Any], classes: int) -> Floats:
    """Weights of the terms by class, float64 (terms, classes)."""
    method = pooling.get("method")
    if method == "mean":
        return np.repeat(_PLAIN[:, None], classes, axis=1)
    if method != "softmax":
        raise ModelError(
            f"The model pools its buildings by {method!r}, which this Aftermap does not know: update it, or "
            "choose another model."
        )
    try:
        weights = np.array([pooling[term] for term in _TERMS], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The model's pooling is damaged ({error!r}): get the package again.") from error
    if weights.shape != (len(_TERMS), classes) or not np.isfinite(weights).all():
        raise ModelError(
            f"The model's pooling is not for its {classes} levels of damage: get the package again."
        )
    return weights


def _log_probabilities(terms: Floats, weights: Floats) -> Floats:
    """Logarithms of the probabilities, float64 (n, classes)."""
    found: Floats = log_softmax(np.einsum("ntk,tk->nk", terms, weights), axis=1)
    return found


def _losses(terms: Floats, classes: NDArray[np.int64], weights: Floats) -> Floats:
    """Log-loss of each footprint, float64 (n,)."""
    return -_log_probabilities(terms, weights)[np.arange(len(classes)), classes]


def _losses_left_out(
    terms: Floats, classes: NDArray[np.int64], group: NDArray[np.int64], strength: float
) -> Floats:
    """Log-loss of each footprint by weights that its group had no part in."""
    start = _fit(terms, classes, strength, _weights(MEAN, terms.shape[2]))
    losses = np.empty(len(classes))
    for left_out in range(group.max() + 1):
        is_out = group == left_out
        weights = _fit(terms[~is_out], classes[~is_out], strength, start)
        losses[is_out] = _losses(terms[is_out], classes[is_out], weights)
    return losses


def _fit(terms: Floats, classes: NDArray[np.int64], strength: float, start: Floats) -> Floats:
    """The weights of least log-loss and squared distance from the plain mean's, float64 (terms, classes)."""
    plain, truth = _weights(MEAN, terms.shape[2]), np.eye(terms.shape[2])[classes]

    def cost(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(plain.shape)
        logs, away = _log_probabilities(terms, weights), weights - plain
        slope = np.einsum("ntk,nk->tk", terms, np.exp(logs) - truth) / len(truth) + strength * away
        return float(strength * (away**2).sum() / 2 - (logs * truth).sum() / len(truth)), slope.ravel()

    found: Floats = minimize(cost, start.ravel(), jac=True, method="L-BFGS-B").x
    return found.reshape(plain.shape)


def _gain(gains: Floats, group: NDArray[np.int64]) -> tuple[float, float]:
    """Mean gain of a footprint, and its standard error if groups, not footprints, are drawn."""
    mean, groups = float(gains.mean()), int(group.max()) + 1
    away = np.bincount(group, weights=gains - mean)
    return mean, math.sqrt(groups / (groups - 1) * float((away**2).sum())) / len(gains)
