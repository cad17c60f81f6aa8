"""Small networks of volumes [N,C,D,H,W], and what autograd gives for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...exporters.nets import randomise
from ...exporters.running import both_ways

SIZE = (5, 17, 23)
EVEN = (8, 8, 12)
CLASSES = 5
TARGETS = [1, 4, 0]


class Block(nn.Module):
    """torchvision's BasicBlock of video networks: two convolutions 3x3x3, and a projection beside them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.one = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm3d(outputs)
        self.second, self.two = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm3d(outputs)
        self.beside: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.beside = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The residual's sum."""
        inner = torch.relu(self.one(self.first(x)))
        return torch.relu(self.two(self.second(inner)) + self.beside(x))


class ResNet(nn.Module):
    """r3d_18 with fewer blocks and channels; `last`: the input is [N,D,H,W,C]."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 6, (3, 5, 5), (1, 2, 2), (1, 2, 2), bias=False), nn.BatchNorm3d(6))
        self.layer1, self.layer2 = Block(6, 6, 1), Block(6, 8, 2)
        self.fc, self.last = nn.Linear(8, CLASSES), last

    def features(self, x: Tensor) -> Tensor:
        """The activation at the layer, [N,8,3,5,6]."""
        x = x.permute(0, 4, 1, 2, 3) if self.last else x
        maps: Tensor = self.layer2(self.layer1(torch.relu(self.stem(x))))
        return maps

    def logits(self, activation: Tensor) -> Tensor:
        """[N,classes]."""
        return Tensor(self.fc(activation.mean((2, 3, 4))))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.logits(self.features(x))


class Chain(nn.Module):
    """Convolutions with stride, a pooling and a linear layer, without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 5, 3, (1, 2, 2), 1, bias=False)
        self.second = nn.Conv3d(5, 6, (2, 3, 3), 1, (0, 1, 1), bias=False)
        self.pool, self.fc = nn.AvgPool3d(2), nn.Linear(6, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = torch.relu(self.second(self.pool(torch.relu(self.first(x)))))
        return Tensor(self.fc(x.mean((2, 3, 4))))


class Dense(nn.Module):
    """As MONAI's DenseNet: normalisations before convolutions, a stem that pools, layers that are joined, a transition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_normalised(nn.Conv3d(1, 6, 7, 2, 3, bias=False)), nn.MaxPool3d(3, 2, 1))
        self.one, self.two = _layer(6), _layer(10)
        self.between = nn.Sequential(_before(14, nn.Conv3d(14, 7, 1, bias=False)), nn.AvgPool3d(2, 2))
        self.three, self.last, self.fc = _layer(7), nn.BatchNorm3d(11), nn.Linear(11, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = self.stem(x)
        x = torch.cat([x, self.one(x)], 1)
        x = self.between(torch.cat([x, self.two(x)], 1))
        x = torch.relu(self.last(torch.cat([x, self.three(x)], 1)))
        return Tensor(self.fc(functional.adaptive_avg_pool3d(x, 1).flatten(1)))


def _normalised(convolution: nn.Conv3d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm3d(convolution.out_channels), nn.ReLU())


def _before(channels: int, convolution: nn.Conv3d) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU(), convolution)


def _layer(channels: int) -> nn.Sequential:
    narrow = nn.Conv3d(channels, 8, 1, bias=False)
    return nn.Sequential(_before(channels, narrow), _before(8, nn.Conv3d(8, 4, 3, padding=1, bias=False)))


class UNet(nn.Module):
    """As MONAI's: normalisations of instances and groups, overlapping maxima, transposed convolutions, trilinear resizes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down, self.middle = (_double(*c) for c in ((1, 4), (4, 6), (6, 8)))
        self.pool, self.up = nn.MaxPool3d(3, 2, 1), nn.ConvTranspose3d(8, 6, 2, 2)
        self.back, self.leave = _double(12, 6), _double(10, 4)
        self.scores = nn.Conv3d(4, 3, 1)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The activation at the layer, [N,8,d/4,h/4,w/4], and what skips it."""
        fine = self.enter(x)
        coarse = self.down(self.pool(fine))
        return self.middle(functional.avg_pool3d(coarse, 2)), coarse, fine

    def dense(self, activation: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
        """The scores at each position."""
        x = self.back(torch.cat([self.up(activation), coarse], 1))
        x = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
        return Tensor(self.scores(self.leave(torch.cat([x, fine], 1))))

    def forward(self, x: Tensor) -> Tensor:
        """The scores [N,3,D,H,W]."""
        return self.dense(*self.features(x))


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1), nn.InstanceNorm3d(outputs, affine=True), nn.PReLU(),
        nn.Conv3d(outputs, outputs, 3, padding=1), nn.GroupNorm(2, outputs), nn.LeakyReLU(0.1),
    )  # fmt: skip


def saved(network: nn.Module, file: Path, shape: tuple[int, ...]) -> Path:
    """The network, its weights drawn, as an ONNX file with a symbolic batch."""
    torch.manual_seed(1)  # for the layers that `randomise` leaves
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]
    onnx.save(both_ways(randomise(network, 3), False, shape), file)
    return file


def noise(count: int, *shape: int) -> NDArray[np.float32]:
    """Preprocessed inputs, [count, ...]."""
    return np.random.default_rng(5).standard_normal((count, *shape)).astype(np.float32)


def worst(got: NDArray[Any], want: NDArray[Any]) -> float:
    """The largest difference, as a share of the largest value."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))
