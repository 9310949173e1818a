"""Which pixels of a building mask are one building: touching ones are parted, winding ones are not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from .components import Bools

Labels = NDArray[np.int32]
Floats = NDArray[np.float32]

# What decides lies within this distance, so that windows which both see a building part it alike.
CONTEXT_M = 100.0
DEEPEST_M = 15.0  # depths beyond are taken as this one: a hall is flat inside, however large it is
# Two parts of which the thinner one is T wide are two buildings where what links them is under 0.55 T wide,
# or under 0.7 T where it is a notch and no wing: where each part reaches its width close by. Chosen on houses
# that a network had run together (real ones, with their outlines) and on drawn L, U, T, H, Z and courtyard
# buildings with noisy edges: at 0.75, some 5 % fewer of the houses stay joined, and up to a third of the
# winged buildings are parted, where now it is up to a tenth of them.
NECK = 0.55
NOTCH = 0.7
REACH = 1.2  # close by: within so many times T / 2, which is how far a house's middle is from its wall
_DIP_WEIGHT = 1.0  # a dip of the probability to a half is worth as much as a neck of half the width
_SMOOTHING_M = 0.5  # of probabilities: a dip has to be more than a noisy row of pixels
LEAST_PART_M2 = 20.0  # what is smaller than this is a part of the building that it touches: porch, annex


@dataclass
class _Basins:
    """Basins of the relief, numbered from 1, and which of them are one building.

    Attributes:
        labels: int32 (height, width), the basin of each pixel; 0 is none.
        relief: float32 (height, width).
        owner: A basin of the same building, lower or equal.
        peaks: Highest relief of each building.
        depths_px: Distance to the edge there.
        sizes_px: Number of pixels of each building.
    """

    labels: Labels
    relief: Floats
    owner: list[int]
    peaks: list[float]
    depths_px: list[float]
    sizes_px: list[int]

    def building(self, basin: int) -> int:
        """The lowest basin of the building that a basin belongs to."""
        while self.owner[basin] != basin:
            self.owner[basin] = self.owner[self.owner[basin]]
            basin = self.owner[basin]
        return basin

    def join(self, one: int, other: int) -> None:
        """Make one building of two."""
        kept, gone = min(one, other), max(one, other)
        self.owner[gone] = kept
        self.sizes_px[kept] += self.sizes_px[gone]
        if self.peaks[gone] > self.peaks[kept]:
            self.peaks[kept], self.depths_px[kept] = self.peaks[gone], self.depths_px[gone]

    def is_notch(self, one: int, other: int, row: int, col: int, level: float) -> bool:
        """Whether both buildings rise close to the pass between them."""
        reach = math.ceil(REACH * min(self.depths_px[one], self.depths_px[other]))
        rows, cols = (slice(max(at - reach, 0), at + reach + 1) for at in (row, col))
        labels, relief = self.labels[rows, cols], self.relief[rows, cols]
        high = relief - level >= -math.log(NOTCH)
        down = np.arange(rows.start, rows.start + len(labels)) - row
        across = np.arange(cols.start, cols.start + labels.shape[1]) - col
        is_near = down[:, None] ** 2 + across**2 <= reach**2
        found = {self.building(basin) for basin in np.unique(labels[high & is_near]).tolist()}
        return one in found and other in found


def split_buildings(mask: Bools, probability: Floats, gsd_m: float) -> Labels:
    """Number the buildings of a mask, by a watershed of its depth and its probabilities.

    The relief is the logarithm of the distance to the edge times the smoothed probability; each of its
    peaks floods a basin. Two basins are one building where the pass between them is hardly lower than the
    lower peak, highest passes first: h-maxima of the relief, by persistence, where h is the logarithm of a
    ratio of widths (`NECK`, `NOTCH`), whatever the size. The arms of an L or a U have no pass, or one along
    which nothing is constricted; two houses that meet at a corner, or share a wall of which the network is
    not sure, have a deep or a sharp one.

    Args:
        mask: bool (height, width), the buildings.
        probability: float32 (height, width), 0 to 1.
        gsd_m: Side of a pixel in metres.

    Returns:
        int32 (height, width): 0 is no building, each other number a 4-connected one. Numbers have gaps.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    depth_px = _depths(mask, gsd_m)
    relief = _relief(mask, depth_px, probability, gsd_m)
    summits = mask & (relief == ndimage.maximum_filter(relief, 3))
    marks, count = ndimage.label(summits)
    labels: Labels = watershed(-relief, marks, mask=mask)  # type: ignore[no-untyped-call]
    peaks, depths = np.full((2, count + 1), -np.inf)
    peaks[marks[summits]], depths[marks[summits]] = relief[summits], depth_px[summits]
    sizes_px = np.bincount(labels.ravel(), minlength=count + 1)
    basins = _Basins(
        labels, relief, list(range(count + 1)), peaks.tolist(), depths.tolist(), sizes_px.tolist()
    )
    _merge(basins, LEAST_PART_M2 / gsd_m**2)
    return np.array([basins.building(basin) for basin in range(count + 1)], np.int32)[labels]


def _depths(mask: Bools, gsd_m: float) -> Floats:
    """Distance of each pixel's centre to the edge of the mask, at least 0.5; the array's border is none."""
    deepest_px = DEEPEST_M / gsd_m
    if mask.all():  # from no edge at all, SciPy measures to somewhere
        return np.full(mask.shape, deepest_px, np.float32)
    # To the edge it is half a pixel less than to the centre beyond it.
    depth: Floats = ndimage.distance_transform_edt(mask).astype(np.float32) - np.float32(0.5)
    return np.clip(depth, 0.5, deepest_px, out=depth)


def _relief(mask: Bools, depth_px: Floats, probability: Floats, gsd_m: float) -> Floats:
    smooth = ndimage.gaussian_filter(probability, _SMOOTHING_M / gsd_m, truncate=3.0)
    dips = np.float32(_DIP_WEIGHT) * np.log(np.maximum(smooth, np.float32(0.01)))
    relief: Floats = np.where(mask, np.log(depth_px) + dips, np.float32(-np.inf))
    return relief


def _passes(labels: Labels, relief: Floats) -> list[tuple[int, int, int, int, float]]:
    """The highest pass between each two basins that touch, the highest of all first.

    Returns:
        Both basins, the lower number first; row and column; height.
    """
    pairs, places, heights = [], [], []
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1, :], np.s_[1:, :])):
        one, other = labels[here], labels[there]
        meets = np.nonzero((one != other) & (one > 0) & (other > 0))
        pairs.append(np.column_stack([one[meets], other[meets]]))
        places.append(np.column_stack(meets))
        heights.append(np.minimum(relief[here][meets], relief[there][meets]))
    pair, place = np.sort(np.concatenate(pairs), axis=1), np.concatenate(places)
    height = np.concatenate(heights)
    order = np.lexsort((*place.T[::-1], -height, *pair.T[::-1]))
    pair, place, height = pair[order], place[order], height[order]
    is_first = np.ones(len(pair), bool)
    is_first[1:] = (pair[1:] != pair[:-1]).any(axis=1)
    order = np.flatnonzero(is_first)[np.argsort(-height[is_first], kind="stable")]
    return list(zip(*pair[order].T.tolist(), *place[order].T.tolist(), height[order].tolist(), strict=True))


def _merge(basins: _Basins, least_px: float) -> None:
    """Join basins whose pass is hardly lower than the lower of their peaks, and those that are small."""
    passes = _passes(basins.labels, basins.relief)
    for first, second, row, col, level in passes:
        one, other = basins.building(first), basins.building(second)
        if one == other:
            continue
        drop = min(basins.peaks[one], basins.peaks[other]) - level
        is_pass = drop >= -math.log(NECK) or (
            drop >= -math.log(NOTCH) and basins.is_notch(one, other, row, col, level)
        )
        if not is_pass:
            basins.join(one, other)
    for first, second, *_ in passes:
        one, other = basins.building(first), basins.building(second)
        if one != other and min(basins.sizes_px[one], basins.sizes_px[other]) < least_px:
            basins.join(one, other)
