"""A small residual network with a class head that plain CAM can read: average pooling, then one linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        """Builds the block.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            stride: Step of the first convolution; 2 halves height and width.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        # A module of its own: one ReLU called twice would give two layers the same path.
        self.relu2 = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride), range 0 and up."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = y + self.downsample(x)
        out: Tensor = self.relu2(y)
        return out


class ClutterNet(nn.Module):
    """Stem, three stages, global average pooling, one linear layer."""

    def __init__(self, num_classes: int = 10) -> None:
        """Builds the network with random weights.

        Args:
            num_classes: Length of the output.
        """
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU()
        )  # 32 x 32
        self.stage1 = nn.Sequential(ResidualBlock(24, 24))  # 32 x 32
        self.stage2 = nn.Sequential(ResidualBlock(24, 48, stride=2), ResidualBlock(48, 48))  # 16 x 16
        self.stage3 = nn.Sequential(ResidualBlock(48, 64, stride=2), ResidualBlock(64, 64))  # 8 x 8
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to class scores.

        Args:
            x: Preprocessed images, float32, shape (N, 3, 64, 64), range -2 to 2.

        Returns:
            Logits, shape (N, num_classes).
        """
        x = self.stem(x)
        x = self.stage1(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.pool(x)
        x = torch.flatten(x, 1)
        logits: Tensor = self.fc(x)
        return logits


def clutter_net(num_classes: int = 10) -> nn.Module:
    """Builds the reference network with random weights; its cut points are `stage1`, `stage2` and `stage3`."""
    return ClutterNet(num_classes)
