"""Bringing the colours of one image to those of another image of the same place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .alignment import ReadWindow, spread_windows

_QUANTILES = (0.005, 0.05, 0.2, 0.5, 0.8, 0.95, 0.995)
_MIDDLE = 3  # the median's place among these
_MIN_GAIN, _MAX_GAIN = 0.4, 2.5
_MAX_MOVE = 0.3  # of the median
_MIN_SPAN = 1e-3  # between quantiles; a flat band has none
_ROUNDS = 4
_KEPT = 0.5  # share of the pixels that are taken as unchanged
_MIN_PIXELS = 500
_CELL_PX = 4  # pixels are averaged over such squares: the images do not fit to the pixel


@dataclass(frozen=True)
class ColourMap:
    """A rising curve per band, straight between its knots.

    Attributes:
        before: Values that are mapped, rising, float64 (bands, knots), from 0 to 1.
        after: What they become, float64 (bands, knots), in 0 to 1.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def apply(self, image: NDArray[np.float32]) -> None:
        """Map an image (bands, height, width) of values 0 to 1, in place."""
        for band, before, after in zip(image, self.before, self.after, strict=True):
            band[...] = np.interp(band, before, after)


def keep_colours(bands: int) -> ColourMap:
    """The map that changes nothing."""
    line = np.tile([0.0, 1.0], (bands, 1))
    return ColourMap(line, line)


def match_colours(before: NDArray[np.floating], after: NDArray[np.floating]) -> ColourMap:
    """Find the curves that bring the colours of an image to those of another one of the same place.

    The quantiles of each band are matched, over the half of the pixels that fits best then, and so on:
    what has burnt or collapsed, snow or smoke in one of them, does not fit and has no say. Contrast is
    changed by 0.4 to 2.5 at most, so that a scene in which all has changed is not washed out.

    Args:
        before: Values of pixels, (bands, n), 0 to 1.
        after: Of the same pixels in the other image.

    Returns:
        What brings `before` to `after`; no change where there are fewer than 500 pixels.
    """
    if before.shape[1] < _MIN_PIXELS:
        return keep_colours(len(before))
    kept = np.ones(before.shape[1], dtype=bool)
    for _ in range(_ROUNDS):
        colours = _match_quantiles(before[:, kept], after[:, kept])
        mapped = np.stack(
            [np.interp(*line) for line in zip(before, colours.before, colours.after, strict=True)]
        )
        misfit = np.abs(mapped - after).max(axis=0)
        kept = misfit <= np.quantile(misfit, _KEPT)
    return colours


def fit_colours(
    before: ReadWindow, after: ReadWindow, bounds_px: tuple[int, int, int, int], bands: int
) -> ColourMap:
    """Match the colours of two images by what small windows of both show, averaged over squares of 4 px.

    Args:
        before: Reads the image whose colours are to change.
        after: Reads the other one, on the same grid.
        bounds_px: (top, left, bottom, right) of where to look.
        bands: Of each.
    """
    pairs = list(_sample_windows(before, after, bounds_px))
    if not pairs:
        return keep_colours(bands)
    return match_colours(*(np.concatenate(images, axis=1) for images in zip(*pairs, strict=True)))


def _sample_windows(
    before: ReadWindow, after: ReadWindow, bounds_px: tuple[int, int, int, int]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    pick = np.s_[_CELL_PX // 2 :: _CELL_PX]
    for window in spread_windows(bounds_px):
        area = (window.row, window.col, window.side, window.side)
        (one, one_valid), (other, other_valid) = before(*area), after(*area)
        seen = ndimage.minimum_filter(one_valid & other_valid, size=_CELL_PX + 1)[pick, pick]
        if seen.any():
            size = (1, _CELL_PX, _CELL_PX)
            means = (ndimage.uniform_filter(image, size)[:, pick, pick] for image in (one, other))
            first, second = (mean[:, seen] for mean in means)
            yield first, second


def _match_quantiles(before: NDArray[np.floating], after: NDArray[np.floating]) -> ColourMap:
    knots = np.quantile(before, _QUANTILES, axis=1).T.astype(np.float64)
    wanted = np.quantile(after, _QUANTILES, axis=1).T.astype(np.float64)
    ends = (np.zeros((len(knots), 1)), np.ones((len(knots), 1)))
    wide = np.concatenate([ends[0], knots, ends[1]], axis=1)
    spans = np.diff(knots, axis=1)
    flat = spans < _MIN_SPAN
    gains = np.where(flat, 1.0, np.diff(wanted, axis=1) / np.where(flat, 1.0, spans))
    # Beyond the outermost quantiles contrast is not lost: the brightest are often roofs.
    beyond = np.maximum(gains[:, [0, -1]], 1.0)
    gains = np.clip(np.concatenate([beyond[:, :1], gains, beyond[:, 1:]], axis=1), _MIN_GAIN, _MAX_GAIN)
    steps = np.diff(wide, axis=1) * gains
    curve = np.concatenate([ends[0], np.cumsum(steps, axis=1)], axis=1)
    middle = knots[:, _MIDDLE] + np.clip(wanted[:, _MIDDLE] - knots[:, _MIDDLE], -_MAX_MOVE, _MAX_MOVE)
    curve += (middle - curve[:, _MIDDLE + 1])[:, None]
    return ColourMap(wide, np.clip(curve, 0.0, 1.0))
