"""What a damage model's answers on labelled pairs are worth: buildings as pixels, damage by building."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .damage_fields import MIN_SEEN, UNKNOWN, level_of
from .damage_scoring import ScoredPair, areas_m2, join_features
from .datasets.damage_tiles import LevelGroup, ranks_of
from .datasets.folders import IGNORE
from .datasets.xbd import Damage, burn
from .evaluation.damage_scores import ScoredBuildings, score_buildings
from .evaluation.pixel_scores import LevelCounts
from .evaluation.xview2 import xview2_counts, xview2_scores
from .raster.probability import LEVELS
from .vector.pooled_levels import MEAN, fit_pooling, pool_levels

_LOCALISATION = 0.3  # of the score by which rounds are judged, as in the xView2 challenge


@dataclass(frozen=True)
class DamageSummary:
    """Scores over some labelled pairs.

    Attributes:
        buildings: Pixels of buildings and of none at each probability.
        threshold: Probability from which a pixel is taken for building.
        by_building: As of `damage_scores.score_buildings`.
        pixels: Parts of the xView2 score, each pixel by itself, and each building by its pooled level.
        cross_entropy: Of the levels of the buildings, by their pooled probabilities.
    """

    buildings: LevelCounts
    threshold: float
    by_building: Mapping[str, Any]
    pixels: Mapping[str, Mapping[str, float]]
    cross_entropy: float

    def round_scores(self) -> dict[str, float]:
        """What a training tells after each round; rounds are judged by ``score``."""
        at = self.buildings.scores(self.threshold)
        macro = self.by_building["macro_f1"] or 0.0
        return {
            "score": _LOCALISATION * at["f1"] + (1 - _LOCALISATION) * macro,
            "iou": at["iou"],
            "f1": at["f1"],
            "precision": at["precision"],
            "recall": at["recall"],
            "threshold": self.threshold,
            "macro_f1": macro,
            "loss": self.cross_entropy,
        }

    def brief(self) -> dict[str, Any]:
        """The scores by building, in short."""
        return {k: self.by_building.get(k) for k in ("macro_f1", "positive_f1", "auc", "auc_within_tiles")}

    def values(self) -> dict[str, Any]:
        """All of it as JSON values."""
        at = self.buildings.scores(self.threshold)
        found: dict[str, Any] = {f"building_{k}": at[k] for k in ("iou", "f1", "precision", "recall")}
        return {**found, "threshold": self.threshold, **self.pixels, **self.by_building}


def fit_tile_pooling(pairs: Sequence[ScoredPair], groups: Sequence[LevelGroup]) -> dict[str, Any]:
    """Learn how to pool from the buildings of labelled pairs, one tile left out after the other."""
    features = join_features([pair.features for pair in pairs])
    truth = np.concatenate([_ranks(pair, groups) for pair in pairs])
    return fit_pooling(features, truth.astype(np.int64), _tiles(pairs))


def summarise_pairs(
    pairs: Sequence[ScoredPair],
    groups: Sequence[LevelGroup],
    pooling: Mapping[str, Any] = MEAN,
    threshold: float | None = None,
) -> DamageSummary:
    """Score a model's answers.

    Args:
        pairs: As the network sees them.
        groups: The levels that it tells apart.
        pooling: As of `pooled_levels.pool_levels`.
        threshold: From which a pixel is building; none: the best one for these pairs.
    """
    counts = LevelCounts()
    for pair in pairs:
        counts.merge(pair.count_buildings())
    threshold = counts.best_threshold() if threshold is None else threshold
    codes = np.array([group.code for group in groups], np.uint8)
    parts: list[NDArray[Any]] = []
    pixel_counts, building_counts = [], []
    losses: list[NDArray[np.float64]] = []
    for pair in pairs:
        p, told = _tell(pair, codes, pooling)
        known = told != UNKNOWN
        truth = np.array([b.damage for b in pair.tile.buildings])
        severe = np.where(known, p[:, -1], np.nan)
        parts.append(np.array([told, truth, severe, areas_m2(pair.tile)], dtype=float))
        ranks = _ranks(pair, groups)
        judged = known & (ranks != IGNORE)
        losses.append(-np.log(np.maximum(p[judged, ranks[judged]], 0.5 / LEVELS)))
        if not pair.tile.is_chip:
            p_px = pair.at_size()
            told_px, is_building = codes[p_px[1:].argmax(axis=0)], p_px[0] >= threshold
            true = (pair.tile.building, pair.tile.damage)
            pixel_counts.append(xview2_counts(is_building, told_px, *true))
            building_counts.append(xview2_counts(is_building, _vote(pair, told, told_px), *true))
    told, truth, severe, areas = np.concatenate(parts, axis=1)
    buildings = ScoredBuildings(_tiles(pairs), truth.astype(np.uint8), told.astype(np.uint8), severe, areas)
    names = {code: level_name(group) for group in groups for code in group.codes}
    pixels = {}
    for name, made in (("xview2_by_pixel", pixel_counts), ("xview2_by_building", building_counts)):
        if made:
            scores = xview2_scores(np.sum(made, axis=0))
            pixels[name] = {
                "score": round(scores.score, 4),
                "localisation_f1": round(scores.localisation_f1, 4),
                "damage_f1": round(scores.damage_f1, 4),
                **{
                    f"f1_{level_of(code).field}": round(f1, 4)
                    for code, f1 in zip((1, 2, 3, 4), scores.f1_by_level, strict=True)
                },
            }
    every = np.concatenate(losses)
    return DamageSummary(
        counts,
        threshold,
        score_buildings(buildings, names),
        pixels,
        float(every.mean()) if len(every) else 0.0,
    )


def score_each(
    pairs: Sequence[ScoredPair],
    groups: Sequence[LevelGroup],
    pooling: Mapping[str, Any],
    threshold: float,
) -> list[dict[str, Any]]:
    """Scores of each pair as JSON values, the one with most wrong buildings first; chips have none.

    Returns:
        ``stem``, ``buildings`` (of a known level), ``wrong`` (of another one than was told, or unknown),
        ``right`` (share of the others), ``building_iou``; null where there is nothing to judge.
    """
    codes = np.array([group.code for group in groups], np.uint8)
    found = []
    for pair in pairs:
        if pair.tile.is_chip:
            continue
        told, ranks = _tell(pair, codes, pooling)[1], _ranks(pair, groups)
        is_known = ranks != IGNORE
        count = int(is_known.sum())
        wrong = int((told[is_known] != codes[ranks[is_known]]).sum())
        iou = pair.count_buildings().scores(threshold)["iou"]
        found.append(
            {
                "stem": pair.tile.stem,
                "buildings": count,
                "wrong": wrong,
                "right": round(1 - wrong / count, 4) if count else None,
                "building_iou": None if np.isnan(iou) else round(iou, 4),
            }
        )
    return sorted(found, key=lambda one: (-one["wrong"], one["stem"]))


def level_name(group: LevelGroup) -> str:
    """What a layer calls a group of levels: that of the only one, or *damaged* where several are merged."""
    if len(group.codes) == 1:
        return level_of(group.code).name
    return "destroyed or damaged" if Damage.DESTROYED in group.codes else "damaged"


def _tell(
    pair: ScoredPair, codes: NDArray[np.uint8], pooling: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Probabilities of the levels of each building, and the level told: `UNKNOWN` where little is seen."""
    p = pool_levels(pair.features, pooling)
    known = (pair.features.seen >= MIN_SEEN) & np.isfinite(p).all(axis=1)
    told = np.where(known, codes[np.nan_to_num(p, nan=0).argmax(axis=1)], UNKNOWN)
    return p, told.astype(np.uint8)


def _ranks(pair: ScoredPair, groups: Sequence[LevelGroup]) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = ranks_of(groups)[[b.damage for b in pair.tile.buildings]]
    return found


def _tiles(pairs: Sequence[ScoredPair]) -> NDArray[np.str_]:
    """Of each building, the name of its tile; chips are places of their own."""
    names = [
        f"{pair.tile.group}/{pair.tile.stem}/{i if pair.tile.is_chip else ''}"
        for pair in pairs
        for i in range(len(pair.tile.buildings))
    ]
    return np.array(names)


def _vote(pair: ScoredPair, told: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The level of each building on all of its pixels; elsewhere what the pixels say."""
    known = [(b.outline, int(t)) for b, t in zip(pair.tile.buildings, told, strict=True) if t]
    burnt = burn([outline for outline, _ in known], [code for _, code in known], *pixels.shape)
    return np.where(burnt > 0, burnt, pixels).astype(np.uint8)
