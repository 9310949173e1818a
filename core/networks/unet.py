"""U-Nets for segmentation: pretrained encoders with a light or a full decoder, and the textbook's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..errors import ModelError
from .encoders import build_encoder

DECODERS = {"light": (64, 48, 32, 16), "full": (256, 128, 64, 32, 16)}


class SegmentationNetwork(nn.Module):
    """Base of the networks that map an image to one logit per head and pixel.

    Attributes:
        bands: Number of input bands.
        heads: Names of the outputs; each has a sigmoid of its own.
        exclusive_heads: Heads of which exactly one is true: a softmax over them, in place of their sigmoids.
        stride_px: Total stride: height and width of the input are multiples of it.
    """

    bands: int
    heads: tuple[str, ...]
    exclusive_heads: slice | None = None
    stride_px: int

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image.

        Shape:
            - image: (N, bands, H, W), normalised; H and W multiples of `stride_px`
            - output: (N, heads, H, W)
        """
        raise NotImplementedError


def conv_norm_relu(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution with batch normalisation and ReLU; it keeps the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _DecoderBlock(nn.Module):
    """Double the resolution, join the encoder's features, convolve (once if light, else twice)."""

    def __init__(self, inputs: int, skip: int, outputs: int, is_light: bool) -> None:
        super().__init__()
        # Light: shrink the coarse features before they are enlarged; the decoder is the cost of a U-Net.
        self.reduce = nn.Conv2d(inputs, outputs, 1) if is_light else nn.Identity()
        joined = (outputs if is_light else inputs) + skip
        self.convolve = (
            conv_norm_relu(joined, outputs)
            if is_light
            else nn.Sequential(conv_norm_relu(joined, outputs), conv_norm_relu(outputs, outputs))
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        # Interpolation, not transposed convolution: no checkerboard, and exact on every device.
        x = interpolate(self.reduce(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        y: Tensor = self.convolve(x if skip is None else torch.cat((x, skip), dim=1))
        return y


class _DilatedCentre(nn.Module):
    """Context at the coarsest level: dilated convolutions in cascade, summed.

    Reference: Zhou et al., D-LinkNet, CVPR Workshops 2018, figure 3 (there with four dilations).
    """

    def __init__(self, channels: int, width: int = 96) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.cascade = nn.ModuleList(conv_norm_relu(width, width, dilation=d) for d in (1, 2, 4))
        self.expand = nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x)
        total = y
        for convolve in self.cascade:
            y = convolve(y)
            total = total + y
        z: Tensor = x + self.expand(total)
        return z


class UNet(SegmentationNetwork):
    """U-Net on an encoder that can be pretrained.

    Args:
        encoder: ``mobilenet_v2``, ``resnet18`` or ``resnet34``.
        decoder: ``light`` (64-48-32-16 up to stride 2, then bilinear) or ``full`` (256-128-64-32-16).
        bands: Number of input bands.
        heads: Names of the outputs.
        dilated_centre: Dilated convolutions at stride 32, for context.
    """

    def __init__(
        self,
        encoder: str = "mobilenet_v2",
        decoder: str = "light",
        bands: int = 3,
        heads: Sequence[str] = ("road",),
        dilated_centre: bool = False,
    ) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise ModelError(f"There is no decoder {decoder!r}: choose light or full.")
        self.bands, self.heads, self.stride_px = bands, tuple(heads), 32
        self.encoder = build_encoder(encoder, bands)
        is_light = decoder == "light"
        widths = DECODERS[decoder]
        skips = (*reversed(self.encoder.channels[:-1]), 0)
        self.centre = _DilatedCentre(self.encoder.channels[-1]) if dilated_centre else nn.Identity()
        inputs = (self.encoder.channels[-1], *widths[:-1])
        self.decoder = nn.ModuleList(
            _DecoderBlock(i, s, o, is_light)
            for i, s, o in zip(inputs, skips[: len(widths)], widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], len(self.heads), 3, padding=1)

    def features(self, image: Tensor) -> Tensor:
        """What the head looks at: (N, channels, H, W), or half of H and W with a light decoder."""
        *skips, x = self.encoder(image)
        x = self.centre(x)
        for block in self.decoder:
            x = block(x, skips.pop() if skips else None)
        y: Tensor = x
        return y

    def forward(self, image: Tensor) -> Tensor:
        """See the base class."""
        x = self.features(image)
        if x.shape[-1] != image.shape[-1]:
            x = interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        y: Tensor = self.head(x)
        return y


class TextbookUNet(SegmentationNetwork):
    """The U-Net of the textbook, with padding and batch normalisation, for comparison.

    It has 31 million parameters at its full width of 64.

    Reference: Ronneberger et al., U-Net, MICCAI 2015, figure 1.
    """

    def __init__(self, bands: int = 3, heads: Sequence[str] = ("road",), width: int = 64) -> None:
        super().__init__()
        self.bands, self.heads, self.stride_px = bands, tuple(heads), 16
        widths = [width * 2**i for i in range(5)]
        self.down = nn.ModuleList(
            self._double(i, o) for i, o in zip([bands, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(o * 2, o, 2, 2) for o in reversed(widths[:-1]))
        self.up = nn.ModuleList(self._double(o * 2, o) for o in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, len(self.heads), 1)

    @staticmethod
    def _double(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(conv_norm_relu(inputs, outputs), conv_norm_relu(outputs, outputs))

    def forward(self, image: Tensor) -> Tensor:
        """See the base class."""
        x, skips = image, []
        for i, convolve in enumerate(self.down):
            x = convolve(x if i == 0 else self.pool(x))
            skips.append(x)
        skips.pop()
        for enlarge, convolve in zip(self.enlarge, self.up, strict=True):
            x = convolve(torch.cat((enlarge(x), skips.pop()), dim=1))
        y: Tensor = self.head(x)
        return y


def build_network(architecture: Mapping[str, Any]) -> SegmentationNetwork:
    """A network with random weights, as the `architecture` of a model card describes it.

    Args:
        architecture: ``{"name": "unet", …}`` with the arguments of `UNet`, ``{"name": "textbook_unet", …}``
            with those of `TextbookUNet`, or ``{"name": "siamese_unet", …}`` with those of
            `siamese.SiameseUNet`.

    Raises:
        ModelError: There is no such network.
    """
    arguments = dict(architecture)
    name = arguments.pop("name", "unet")
    from .siamese import SiameseUNet  # which stands on this module

    networks: dict[str, type[SegmentationNetwork]] = {
        "unet": UNet,
        "textbook_unet": TextbookUNet,
        "siamese_unet": SiameseUNet,
    }
    if name not in networks:
        raise ModelError(f"There is no network {name!r}: choose one of {', '.join(networks)}.")
    try:
        return networks[name](**arguments)
    except TypeError as error:
        raise ModelError(f"The architecture {dict(architecture)} is not understood: {error}.") from error


def start_at_prior(network: UNet | TextbookUNet, share: float) -> None:
    """Let a new network say at first what a guess without looking would say, and not 0.5 everywhere.

    Else the first steps of a training go into learning that the class is rare.

    Args:
        network: Its last biases are set, those of all heads alike.
        share: Class share of the training pixels, 0 to 1; taken as 0.01 to 0.99.

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, section 4.1.
    """
    share = min(max(share, 0.01), 0.99)
    assert network.head.bias is not None
    nn.init.constant_(network.head.bias, math.log(share / (1 - share)))


def load_encoder_weights(network: UNet, weights: Mapping[str, Tensor]) -> None:
    """Fill the encoder with pretrained weights under torchvision's names.

    Another number of bands than the weights': the first convolution gets their mean over bands,
    scaled so that an image of equal bands gives the same features.

    Raises:
        ModelError: The weights are another encoder's.
    """
    own = network.encoder.state_dict()
    usable = {k: v for k, v in weights.items() if k in own}
    for key, value in usable.items():
        if (
            value.ndim == 4
            and value.shape[2:] == own[key].shape[2:]
            and value.shape[1] == 3 != own[key].shape[1]
        ):
            bands = own[key].shape[1]
            usable[key] = value.mean(dim=1, keepdim=True).repeat(1, bands, 1, 1) * (3 / bands)
    missing = [k for k in own if k not in usable and not k.endswith("num_batches_tracked")]
    wrong = [k for k, v in usable.items() if v.shape != own[k].shape]
    if missing or wrong:
        raise ModelError(
            f"These are not the weights of this encoder ({len(missing)} tensors missing, {len(wrong)} of "
            "another shape): choose the file that belongs to the encoder."
        )
    network.encoder.load_state_dict(usable, strict=False)
