"""Siamese U-Net: one network looks at both dates, and what differs between them tells the damage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from ..errors import ModelError
from .unet import SegmentationNetwork, UNet, conv_norm_relu

FOOTPRINT = "footprint"
"""The head that finds where buildings stood before the event; not what `building` heads find on one image."""


class SiameseUNet(SegmentationNetwork):
    """Buildings and their damage from an image before the event (where there is one) and one after it.

    Encoder and decoder are shared by both dates. The building head looks at the features of the image
    before, where that shows anything, else at those of the image after; the damage heads at both and at
    their difference.

    An input of zeros (after normalisation: the fill of invalid pixels) is ground that was not seen. Where the
    image before was not seen, a learned vector stands for its features.

    Args:
        heads: Names of the outputs: `FOOTPRINT`, then the levels of damage from the least on; a softmax over
            these gives their probabilities.
        encoder: As of `UNet`.
        decoder: As of `UNet`.
        bands: Of both images together.
        dilated_centre: As of `UNet`.
        width: Channels of the fusion.
    """

    def __init__(
        self,
        heads: Sequence[str],
        encoder: str = "mobilenet_v2",
        decoder: str = "light",
        bands: int = 6,
        dilated_centre: bool = False,
        width: int = 48,
    ) -> None:
        super().__init__()
        if len(heads) < 3 or heads[0] != FOOTPRINT or bands % 2:
            raise ModelError(
                f"A Siamese U-Net needs the heads {FOOTPRINT!r} and two levels or more, and as many bands "
                f"before as after; it was given {', '.join(heads)} and {bands} bands."
            )
        self.bands, self.heads, self.stride_px = bands, tuple(heads), 32
        self.exclusive_heads = slice(1, None)
        self.trunk = UNet(encoder, decoder, bands // 2, heads[:1], dilated_centre)
        features = self.trunk.head.in_channels
        self.absent = nn.Parameter(torch.zeros(features, 1, 1))
        self.fuse = nn.Sequential(
            conv_norm_relu(3 * features, width), conv_norm_relu(width, width), conv_norm_relu(width, width, 2)
        )
        self.damage = nn.Conv2d(width, len(heads) - 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """See the base class: the image before (bands / 2) and the one after, stacked."""
        before, after = torch.chunk(image, 2, dim=1)
        features = self.trunk.features(torch.cat((before, after)))
        pre, post = torch.chunk(features, 2)
        factor = image.shape[-1] // features.shape[-1]
        was_seen = max_pool2d((before != 0).any(dim=1, keepdim=True).float(), factor) > 0
        building = self.trunk.head(torch.where(was_seen, pre, post))
        pre = torch.where(was_seen, pre, self.absent.to(pre.dtype))
        damage = self.damage(self.fuse(torch.cat((pre, post, post - pre), dim=1)))
        logits: Tensor = torch.cat((building, damage), dim=1)
        if factor > 1:
            logits = interpolate(logits, scale_factor=float(factor), mode="bilinear", align_corners=False)
        return logits
