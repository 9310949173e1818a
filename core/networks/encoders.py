"""Encoders that give the features of an image at strides 2, 4, 8, 16 and 32.

Their state-dict names are torchvision's, so that ImageNet weights load by name.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import ModelError


class Encoder(nn.Module):
    """Base of the encoders.

    Attributes:
        channels: Number of channels of the features at strides 2, 4, 8, 16, 32.
    """

    channels: tuple[int, ...]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of an image.

        Shape:
            - image: (N, bands, H, W), H and W multiples of 32
            - output: five tensors (N, channels[i], H / 2**(i + 1), W / 2**(i + 1))
        """
        raise NotImplementedError


class _ConvNormRelu(nn.Sequential):
    """Convolution, batch normalisation, ReLU6; the indices 0 and 1 are torchvision's names."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        )


class _InvertedResidual(nn.Module):
    """Expand, filter by depth, project; after Sandler et al. 2018, table 1."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [_ConvNormRelu(inputs, hidden, kernel=1)] if expansion != 1 else []
        layers += [
            _ConvNormRelu(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.is_residual else y


class MobileNetV2(Encoder):
    """MobileNetV2 without its last, classifying convolution (1.8 million parameters).

    Reference: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, table 2.
    """

    channels = (16, 24, 32, 96, 320)
    _settings = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    _taps = (1, 3, 6, 13, 17)  # the last block at each stride

    def __init__(self, bands: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_ConvNormRelu(bands, 32, stride=2)]
        inputs = 32
        for expansion, outputs, repeats, stride in self._settings:
            for i in range(repeats):
                blocks.append(_InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion))
                inputs = outputs
        self.features = nn.Sequential(*blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        """See the base class."""
        found = []
        for i, block in enumerate(self.features):
            image = block(image)
            if i in self._taps:
                found.append(image)
        return found


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut; after He et al. 2016, figure 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        z: Tensor = self.relu(self.bn2(self.conv2(y)) + shortcut)
        return z


class ResNet(Encoder):
    """ResNet-18 or ResNet-34 without the classifier.

    Reference: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, table 1.
    """

    channels = (64, 64, 128, 256, 512)

    def __init__(self, bands: int, repeats: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for i, (outputs, count) in enumerate(zip((64, 128, 256, 512), repeats, strict=True), start=1):
            blocks = [
                _BasicBlock(inputs if b == 0 else outputs, outputs, 2 if b == 0 and i > 1 else 1)
                for b in range(count)
            ]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
            inputs = outputs

    def forward(self, image: Tensor) -> list[Tensor]:
        """See the base class."""
        x = self.relu(self.bn1(self.conv1(image)))
        found = [x]
        x = self.maxpool(x)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
            found.append(x)
        return found


def build_encoder(name: str, bands: int) -> Encoder:
    """An encoder with random weights.

    Args:
        name: ``mobilenet_v2``, ``resnet18`` or ``resnet34``.
        bands: Number of input bands.

    Raises:
        ModelError: There is no encoder of that name.
    """
    if name == "mobilenet_v2":
        return MobileNetV2(bands)
    if name == "resnet18":
        return ResNet(bands, (2, 2, 2, 2))
    if name == "resnet34":
        return ResNet(bands, (3, 4, 6, 3))
    raise ModelError(f"There is no encoder {name!r}: choose mobilenet_v2, resnet18 or resnet34.")
