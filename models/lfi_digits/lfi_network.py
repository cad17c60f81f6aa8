"""A network that makes its own map, LFI-CAM, and the plain network beside it.

Lee, Kim, Park, Yoon: LFI-CAM: Learning Feature Importance for Better Visual Explanation. ICCV 2021, arXiv:2105.00937.
"""

from __future__ import annotations

import torch
from network import ClutterNet, ResidualBlock
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 32  # of the last feature maps


class PlainNet(ClutterNet):
    """The trunk of `clutter_digits` (stem, stage1, stage2), one residual block, average pooling, a linear layer."""

    def __init__(self, num_classes: int = 10) -> None:
        """Builds the network with random weights.

        Args:
            num_classes: Length of the output.
        """
        super().__init__(num_classes)
        self.stage3 = nn.Sequential(ResidualBlock(48, CHANNELS, stride=2))  # 8 x 8
        self.fc = nn.Linear(CHANNELS, num_classes)

    def trunk(self, x: Tensor) -> Tensor:
        """Maps images (N, 3, 64, 64) to the features that no training here changes, (N, 48, 16, 16)."""
        out: Tensor = self.stage2(self.stage1(self.stem(x)))
        return out

    def head(self, features: Tensor, grey: Tensor) -> Tensor:
        """Maps the trunk's features to logits (N, num_classes); `grey` is for `LfiNet`."""
        logits: Tensor = self.fc(torch.flatten(self.pool(self.stage3(features)), 1))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Maps preprocessed images, float32 (N, 3, 64, 64), range -2 to 2, to logits (N, num_classes)."""
        return self.head(self.trunk(x), grey(x))


class LfiNet(PlainNet):
    """The same with LFI-CAM's attention: the classifier sees mean((1 + map) * E)."""

    def __init__(self, num_classes: int = 10) -> None:
        """Builds the network with random weights.

        Args:
            num_classes: Length of the output.
        """
        super().__init__(num_classes)
        self.attention = Attention(CHANNELS)
        self.attended = Attended()

    def both(self, features: Tensor, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Maps the trunk's features and the grey image to logits (N, num_classes) and the map (N, 1, 8, 8)."""
        e = self.stage3(features)
        own = self.attention(e, grey)
        return self.fc(torch.flatten(self.pool(self.attended(e, own)), 1)), own

    def head(self, features: Tensor, grey: Tensor) -> Tensor:
        """Maps the trunk's features and the grey image to logits (N, num_classes)."""
        return self.both(features, grey)[0]


class Attention(nn.Module):
    """Map = min-max(ReLU(sum_k w_k E_k)), w = softmax over the channels of what the feature importance network gives."""

    def __init__(self, channels: int) -> None:
        """Builds four times convolution 3 x 3, batch norm, ReLU.

        Args:
            channels: K, the channels of E.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        self.importance = nn.Sequential(*layers)

    def forward(self, e: Tensor, grey: Tensor) -> Tensor:
        """Maps E (N, K, h, w), range 0 and up, and the grey image (N, 1, h, w) to the map (N, 1, h, w), range 0 to 1."""
        weights = self.importance(stretched(e) * grey).mean((2, 3), keepdim=True).softmax(1)
        return stretched((weights * e).sum(1, keepdim=True).relu())


class Attended(nn.Module):
    """(1 + map) * E: a module of its own, so that `--split attended` names its output."""

    def forward(self, e: Tensor, own: Tensor) -> Tensor:
        """Maps E (N, K, h, w) and the map (N, 1, h, w) to (N, K, h, w)."""
        return (1 + own) * e


def stretched(x: Tensor) -> Tensor:
    """Moves each channel of each image to 0 to 1; a constant channel becomes 0."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return (x - low) / (high - low).clamp_min(1e-6)


def grey(x: Tensor) -> Tensor:
    """Maps the network's input (N, 3, 64, 64) to its mean over the colours, resized bilinearly to (N, 1, 8, 8)."""
    return functional.interpolate(x.mean(1, keepdim=True), size=(8, 8), mode="bilinear")


def lfi_net(num_classes: int = 10) -> nn.Module:
    """Builds the network with attention; its map is `attention`, and it can be cut at `attended`."""
    return LfiNet(num_classes)


def plain_net(num_classes: int = 10) -> nn.Module:
    """Builds the plain network; it can be cut at `stage3`."""
    return PlainNet(num_classes)
