"""Resampling along the axes of an array, such that windows which overlap agree on what they share.

GDAL's own resampling starts anew in each window, so that neighbouring windows differ where they
meet. Here the weights of an output pixel follow from its index in the whole grid alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-9  # relative; a footprint that ends this close to a pixel's edge ends on it


@dataclass(frozen=True)
class Taps:
    """Which source pixels make each output pixel along one axis.

    Attributes:
        start: First source pixel that is needed.
        stop: One past the last source pixel that is needed.
        index: int (n, k), source pixels counted from `start`.
        weight: float32 (n, k), each row sums to 1.
    """

    start: int
    stop: int
    index: NDArray[np.intp]
    weight: NDArray[np.float32]


def plan_taps(start: int, stop: int, scale: float, source_size: int) -> Taps:
    """Weights for the output pixels `start` to `stop` of an axis.

    Shrinking averages the source pixels under each output pixel, by the share that lies under it;
    enlarging interpolates linearly between pixel centres. At a scale of 1 both are the identity.

    Args:
        start: First output pixel.
        stop: One past the last output pixel, > `start`.
        scale: Source pixels per output pixel, > 0.
        source_size: Pixels of the source along the axis; what would lie beyond is left out, and the
            weights of the rest still sum to 1.
    """
    output = np.arange(start, stop, dtype=np.float64)
    if scale >= 1.0:
        low, high = output * scale, (output + 1.0) * scale
        first = np.floor(low * (1.0 + _ROUNDING) + _ROUNDING)
        count = int(np.max(np.ceil(high * (1.0 - _ROUNDING) - _ROUNDING) - first))
        source = first[:, None] + np.arange(max(count, 1))
        weight = np.minimum(source + 1.0, high[:, None]) - np.maximum(source, low[:, None])
        weight = np.where((weight < _ROUNDING * scale) | (source >= source_size), 0.0, weight)
    else:
        centre = (output + 0.5) * scale - 0.5
        first = np.floor(centre + _ROUNDING)
        share = np.maximum(centre - first, 0.0)
        source = np.stack([first, first + 1.0], axis=1)
        weight = np.stack([1.0 - share, share], axis=1)
    source = np.clip(source, 0, source_size - 1)
    total = weight.sum(axis=1, keepdims=True)
    weight = np.divide(weight, total, out=np.full_like(weight, 1.0 / weight.shape[1]), where=total > 0)
    begin = int(source.min())
    return Taps(
        start=begin,
        stop=int(source.max()) + 1,
        index=(source - begin).astype(np.intp),
        weight=weight.astype(np.float32),
    )


def resample(array: NDArray[Any], rows: Taps, columns: Taps) -> NDArray[Any]:
    """Resample the last two axes of an array that was read from ``rows.start`` and ``columns.start`` on.

    Args:
        array: (…, rows.stop - rows.start, columns.stop - columns.start), real or bool.

    Returns:
        float32 (…, n rows, n columns); `array` itself where each pixel stays what it is.
    """
    return _along(_along(array, rows, axis=array.ndim - 2), columns, axis=array.ndim - 1)


def _along(array: NDArray[Any], taps: Taps, axis: int) -> NDArray[Any]:
    outputs, count = taps.index.shape
    if count == 1 and outputs == array.shape[axis]:
        return array
    shape = [1] * array.ndim
    shape[axis] = outputs
    result = array.take(taps.index[:, 0], axis=axis) * taps.weight[:, 0].reshape(shape)
    for k in range(1, count):
        result += array.take(taps.index[:, k], axis=axis) * taps.weight[:, k].reshape(shape)
    return np.asarray(result, dtype=np.float32)
