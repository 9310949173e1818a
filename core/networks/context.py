"""How much context a network needs: measured on images, stated on its card."""

from __future__ import annotations

import torch
from torch import Tensor

from .unet import SegmentationNetwork

MARGIN_STRIDES = 24
"""Side, in strides, of crops that leave room to measure the margin on."""

MARGIN_CROPS = 4
_FLIPPED_SHARE = 0.001  # of the mask's pixels, what a tile's place may change (one in a thousand)


@torch.inference_mode()
def measure_margin(network: SegmentationNetwork, images: Tensor, threshold: float) -> int:
    """The context margin: from this distance to a tile's border on, the mask does not depend on the border.

    Each image is seen once whole and once as the tile in its middle, cut at multiples of the stride; the
    margin is the smallest one from which inwards under one mask pixel in a thousand differs.

    Args:
        network: In evaluation mode.
        images: float32 (n, bands, side, side), normalised, without invalid pixels; a side of at least 16
            strides leaves room on both sides of the border.
        threshold: Probability that makes a mask of head 0.

    Returns:
        Pixels, a multiple of the stride; at most a quarter of the images' side.
    """
    stride, side = network.stride_px, images.shape[-1]
    cut = side // 4 // stride * stride
    tile = slice(cut, side - cut)
    in_context = torch.sigmoid(network(images)[:, 0, tile, tile]) >= threshold
    alone = torch.sigmoid(network(images[..., tile, tile])[:, 0]) >= threshold
    differs = in_context != alone
    class_px = in_context.sum().clamp(min=1)
    length = differs.shape[-1]
    at = torch.arange(length)
    to_border = torch.minimum(at, length - 1 - at)
    distance = torch.minimum(to_border[:, None], to_border[None, :])
    for margin in range(stride, cut, stride):
        inside = distance >= margin
        share_inside = inside.float().mean()
        if differs[:, inside].sum() <= _FLIPPED_SHARE * class_px * share_inside:
            return margin
    return cut
