"""Siamese U-Net: one network looks at both dates, and what differs between them tells the damage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from .unet import SegmentationNetwork, UNet, conv_norm_relu

BUILDING = "building"


class SiameseUNet(SegmentationNetwork):
    """Buildings and their damage from an image before the event (where there is one) and one after it.

    Encoder and decoder are shared by both dates. The building head looks at the features of the image
    before, where that shows anything, else at those of the image after; the damage heads at both and at
    their difference.

    An input of zeros (after normalisation: the fill of invalid pixels) is ground that was not seen. Where the
    image before was not seen, a learned vector stands for its features.

    Args:
        levels: Names of the damage heads; a softmax over them gives their probabilities.
        encoder: As of `UNet`.
        decoder: As of `UNet`.
        bands: Of both images together.
        width: Channels of the fusion.
    """

    def __init__(
        self,
        levels: Sequence[str],
        encoder: str = "mobilenet_v2",
        decoder: str = "light",
        bands: int = 6,
        width: int = 48,
    ) -> None:
        super().__init__()
        self.bands, self.heads, self.stride_px = bands, (BUILDING, *levels), 32
        self.exclusive_heads = slice(1, None)
        self.trunk = UNet(encoder, decoder, bands // 2, (BUILDING,))
        features = self.trunk.head.in_channels
        self.absent = nn.Parameter(torch.zeros(features, 1, 1))
        self.fuse = nn.Sequential(
            conv_norm_relu(3 * features, width), conv_norm_relu(width, width), conv_norm_relu(width, width, 2)
        )
        self.damage = nn.Conv2d(width, len(levels), 1)

    def forward(self, image: Tensor) -> Tensor:
        """See the base class: the image before (bands / 2) and the one after, stacked."""
        before, after = torch.chunk(image, 2, dim=1)
        features = self.trunk.features(torch.cat((before, after)))
        pre, post = torch.chunk(features, 2)
        factor = image.shape[-1] // features.shape[-1]
        was_seen = max_pool2d((before != 0).any(dim=1, keepdim=True).to(image.dtype), factor)
        building = self.trunk.head(torch.lerp(post, pre, was_seen))
        pre = torch.lerp(self.absent.to(pre.dtype).expand_as(pre), pre, was_seen)
        damage = self.damage(self.fuse(torch.cat((pre, post, post - pre), dim=1)))
        logits: Tensor = torch.cat((building, damage), dim=1)
        if factor > 1:
            logits = interpolate(logits, scale_factor=float(factor), mode="bilinear", align_corners=False)
        return logits
