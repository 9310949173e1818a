"""Training crops: which tile, which window, which turn and scale; a batch is a function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d, grid_sample

from ..errors import JobError
from .augmentation import choose_augmentation
from .folders import IGNORE, TileArrays

SAMPLERS = ("weighted", "uniform")
MIN_NEGATIVE_SHARE = 0.15
"""Share of the draws that goes to tiles without the class: they teach what is no road."""

NEGATIVE_BELOW = 0.002
"""A tile with a smaller class share counts as one without the class."""

COLOURED_SHARE = 0.5
"""Of the crops of ``structure`` whose colours are changed. The others show colours as they are: where all are
changed, a short run learns less of what the imagery at hand looks like."""

_INTEGRAL_STEP = 8  # class shares of windows are looked up at this resolution


@dataclass(frozen=True)
class CropSettings:
    """How crops are drawn.

    Attributes:
        crop_px: Side of a crop at the working resolution.
        working_gsd_m: The working resolution.
        scale_jitter: Largest factor by which a crop is enlarged or shrunk against the true scale.
        best_of: A window is the richest in road of this many drawn ones, in four draws of five.
        sampler: ``weighted`` or ``uniform``.
        fill: What invalid pixels are shown as, one value a band: the same as in a run.
        augmentation: Of the colours: ``structure``, ``mild`` or ``none``; crops are turned and scaled anyway.
    """

    crop_px: int = 384
    working_gsd_m: float = 0.8
    scale_jitter: float = 1.25
    best_of: int = 2
    sampler: str = "weighted"
    fill: tuple[float, ...] = (0.485, 0.456, 0.406)
    augmentation: str = "structure"


class Crops(Protocol):
    """What batches are made of; `CropSource` is one."""

    def crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Image float32 (bands, crop, crop) in 0 to 1, and labels uint8 (channels, crop, crop)."""


class CropSource:
    """Draws training crops from tiles in memory.

    Args:
        tiles: Labelled tiles.
        weights: Relative frequency of each tile, before the class shares are weighed in.
        settings: How crops are drawn.

    Attributes:
        sampled_share: Class share of the tiles as they are drawn; windows that are the richest of several
            hold somewhat more.

    Raises:
        JobError: There is no such sampler or augmentation.
    """

    def __init__(self, tiles: Sequence[TileArrays], weights: Sequence[float], settings: CropSettings) -> None:
        self.tiles, self.settings = list(tiles), settings
        self._augment = choose_augmentation(settings.augmentation, COLOURED_SHARE)
        self._integrals = [_road_integral(t.labels[0]) for t in tiles]
        shares = np.array([_share(t.labels[0]) for t in tiles])
        self.tile_weights = weigh_tiles(shares, np.asarray(weights, float), settings.sampler)
        self.sampled_share = float(shares @ self.tile_weights)

    def crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """One augmented crop.

        Returns:
            Image float32 (bands, crop, crop) in 0 to 1, and labels uint8 (2, crop, crop) with `IGNORE`.
        """
        i = int(rng.choice(len(self.tiles), p=self.tile_weights))
        tile, s = self.tiles[i], self.settings
        jitter = np.log(s.scale_jitter)
        zoom = tile.gsd_m / s.working_gsd_m * float(np.exp(rng.uniform(-jitter, jitter)))
        side = s.crop_px / zoom  # of the window, in the tile's own pixels
        centre = self._choose_centre(i, side, rng)
        image, labels, is_valid = _cut(tile, centre, side, s.crop_px, rng)
        image = self._augment(image, rng)
        np.copyto(image, np.asarray(s.fill, dtype=np.float32)[:, None, None], where=~is_valid)
        return image, labels

    def _choose_centre(self, i: int, side: float, rng: np.random.Generator) -> tuple[float, float]:
        height, width = self.tiles[i].labels.shape[1:]
        draws = self.settings.best_of if rng.random() < 0.8 else 1
        half = side / 2
        spans = [(min(half, n / 2), max(n - half, n / 2)) for n in (height, width)]
        centres = [(float(rng.uniform(*spans[0])), float(rng.uniform(*spans[1]))) for _ in range(draws)]
        return max(centres, key=lambda c: _window_sum(self._integrals[i], c, half))


def weigh_tiles(
    shares: NDArray[np.float64], weights: NDArray[np.float64], sampler: str
) -> NDArray[np.float64]:
    """Probability of each tile to be drawn.

    ``weighted``: tiles rich in the class are drawn up to three times as often as poor ones, and those
    without it together keep at least `MIN_NEGATIVE_SHARE`; ``uniform``: by `weights` alone.

    Args:
        shares: Class share of each tile, 0 to 1.
        weights: Relative frequency before that.
        sampler: ``weighted`` or ``uniform``.

    Raises:
        JobError: There is no such sampler.
    """
    if sampler not in SAMPLERS:
        raise JobError(f"There is no sampler {sampler!r}: choose {' or '.join(SAMPLERS)}.")
    p = weights / weights.sum()
    if sampler == "weighted":
        p = p * (0.5 + np.minimum(shares / 0.1, 1.0))
        p /= p.sum()
        negative = shares < NEGATIVE_BELOW
        held = p[negative].sum()
        if 0 < held < MIN_NEGATIVE_SHARE:
            p = np.where(negative, p * MIN_NEGATIVE_SHARE / held, p * (1 - MIN_NEGATIVE_SHARE) / (1 - held))
    normalised: NDArray[np.float64] = p / p.sum()
    return normalised


def make_batch(
    sources: Sequence[Crops],
    counts: Sequence[int],
    seed: int,
    step: int,
    rank: int = 0,
    processes: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of a step; equal arguments give equal bytes, so that a resumed training goes on the same way.

    Where several processes train together, each gets every n-th crop of the batch that one alone would get.
    All crops come from one stream of chance, so each process cuts all of them.

    Args:
        sources: Where crops come from.
        counts: How many from each.
        seed: Of the training.
        step: Number of the step.
        rank: Number of this process, from 0.
        processes: How many there are.

    Returns:
        Images float32 (n, bands, crop, crop) in 0 to 1, labels uint8 (n, channels, crop, crop).
    """
    rng = np.random.default_rng((seed, step))
    crops = [source.crop(rng) for source, count in zip(sources, counts, strict=True) for _ in range(count)]
    images, labels = zip(*crops[rank::processes], strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))


@dataclass(frozen=True)
class Placement:
    """Where a crop lies in its tile, and how it is turned.

    Attributes:
        centre: Row and column in the tile's pixels.
        side: Of the crop, in the tile's pixels.
        crop_px: Side of the crop in its own pixels.
        angle: By which it is turned, in radians.
        mirror: -1 if it is mirrored, else 1.
    """

    centre: tuple[float, float]
    side: float
    crop_px: int
    angle: float
    mirror: float

    def spans(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of the tile that the crop needs."""
        reach = self.side * (abs(np.cos(self.angle)) + abs(np.sin(self.angle))) / 2 + 2
        return _clip_span(self.centre[0], reach, height), _clip_span(self.centre[1], reach, width)

    def sample(
        self, stack: torch.Tensor, spans: tuple[slice, slice], mode: str = "bilinear"
    ) -> NDArray[np.float32]:
        """Cut the crop; what lies outside of the tile is 0.

        Args:
            stack: float32 (1, channels, h, w): the `spans` of the tile.
            spans: As of `spans`.
            mode: ``bilinear`` (averaged first where the crop is coarser), or ``nearest``.

        Returns:
            float32 (channels, crop_px, crop_px).
        """
        origin = np.array([spans[0].start, spans[1].start], dtype=float)
        pool = max(1, round(self.side / self.crop_px)) if self.side > 1.3 * self.crop_px else 1
        pool = 1 if mode == "nearest" else min(pool, stack.shape[2], stack.shape[3])
        if pool > 1:  # grid_sample looks at four pixels only: average first, against aliasing
            stack = avg_pool2d(stack, pool)
        height, width = stack.shape[2:]
        cos, sin = np.cos(self.angle) * self.side / 2, np.sin(self.angle) * self.side / 2
        local = (np.array(self.centre) - origin) / pool
        scale_y, scale_x = 2 * cos / pool / height, 2 * cos / pool / width
        skew_y, skew_x = 2 * sin / pool / height, 2 * sin / pool / width
        theta = torch.tensor(
            [
                [self.mirror * scale_x, -skew_x, 2 * local[1] / width - 1],
                [self.mirror * skew_y, scale_y, 2 * local[0] / height - 1],
            ],
            dtype=torch.float32,
        )[None]
        size = [1, stack.shape[1], self.crop_px, self.crop_px]
        grid = torch.nn.functional.affine_grid(theta, size, align_corners=False)
        cut: NDArray[np.float32] = grid_sample(
            stack, grid, mode=mode, padding_mode="zeros", align_corners=False
        )[0].numpy()
        return cut


def draw_placement(
    centre: tuple[float, float], side: float, crop_px: int, rng: np.random.Generator
) -> Placement:
    """A crop at a place, turned and mirrored by chance: every second one by a multiple of 90°."""
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else np.pi / 2 * rng.integers(4)
    return Placement(centre, side, crop_px, float(angle), -1.0 if rng.random() < 0.5 else 1.0)


def _cut(
    tile: TileArrays, centre: tuple[float, float], side: float, crop_px: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut a turned, mirrored, scaled window; what lies outside the tile is invalid."""
    place = draw_placement(centre, side, crop_px, rng)
    rows, cols = spans = place.spans(*tile.labels.shape[1:])
    image = torch.from_numpy(tile.image[:, rows, cols].astype(np.float32))[None] / 255
    labels = torch.from_numpy(tile.labels[:, rows, cols].astype(np.float32))[None]
    # One channel each for the value and for whether it counts: interpolating IGNORE would invent labels.
    known = (labels != IGNORE).float()
    cut = place.sample(torch.cat((image, labels * known, known), dim=1), spans)
    bands = tile.image.shape[0]
    values, counts = cut[bands : bands + 2], cut[bands + 2 :]
    result = np.where(counts > 0.75, values > 0.5 * counts, IGNORE).astype(np.uint8)
    return np.ascontiguousarray(cut[:bands]), result, counts.max(axis=0) > 0.5


def _clip_span(centre: float, reach: float, size: int) -> slice:
    start = int(np.clip(np.floor(centre - reach), 0, size - 1))
    return slice(start, int(np.clip(np.ceil(centre + reach), start + 1, size)))


def _share(road: NDArray[np.uint8]) -> float:
    valid = int((road != IGNORE).sum())
    return float((road == 1).sum() / valid) if valid else 0.0


def _road_integral(road: NDArray[np.uint8]) -> NDArray[np.float64]:
    small = (road[::_INTEGRAL_STEP, ::_INTEGRAL_STEP] == 1).astype(np.float64)
    return np.pad(small, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)


def _window_sum(integral: NDArray[np.float64], centre: tuple[float, float], half: float) -> float:
    def span(c: float, size: int) -> tuple[int, int]:
        low, high = (int(np.clip((c + d) / _INTEGRAL_STEP, 0, size - 1)) for d in (-half, half))
        return low, high

    (r0, r1), (c0, c1) = span(centre[0], integral.shape[0]), span(centre[1], integral.shape[1])
    return float(integral[r1, c1] - integral[r0, c1] - integral[r1, c0] + integral[r0, c0])
