"""Small networks, trained for seconds to find a coloured pattern in noise, as ONNX files in float32."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES, SIZE = 6, 32


class Plain(nn.Module):
    """Convolutions, batch normalisation, ReLU, maximum pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.second, self.third = nn.Conv2d(8, 16, 3, 1, 1), nn.Conv2d(16, 24, 3, 1, 1, bias=False)
        self.scores = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = F.max_pool2d(torch.relu(self.second(x)), 2)
        return self.scores(torch.relu(self.third(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Mobile(nn.Module):
    """A depthwise convolution, ReLU6, a residual, squeeze and excitation, HardSwish, LeakyReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth, self.point = (
            nn.Conv2d(3, 12, 3, 2, 1),
            nn.Conv2d(12, 12, 3, 1, 1, groups=12),
            nn.Conv2d(12, 12, 1),
        )
        self.wide, self.squeeze, self.excite = nn.Conv2d(12, 24, 3, 2, 1), nn.Conv2d(24, 6, 1), nn.Conv2d(6, 24, 1)
        self.last, self.scores = nn.Conv2d(24, 24, 1), nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        x = F.leaky_relu(self.wide(x + self.point(F.relu6(self.depth(x)))), 0.1)
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        x = F.adaptive_avg_pool2d(F.hardswish(self.last(x)), 1).flatten(1)
        return self.scores(x)  # type: ignore[no-any-return]


class Vit(nn.Module):
    """A vision transformer of one block."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.patches, self.positions = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.randn(1, 65, width) * 0.02)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down, self.scores = (
            nn.Linear(width, 2 * width),
            nn.Linear(2 * width, width),
            nn.Linear(width, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        n, _, c = x.shape
        q, k, v = self.qkv(self.norms[0](x)).reshape(n, 65, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-1, -2) / (c // 2) ** 0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, 65, c))
        x = x + self.down(F.gelu(self.up(self.norms[1](x))))
        return self.scores(self.norms[2](x)[:, 0])  # type: ignore[no-any-return]


NETWORKS: dict[str, type[nn.Module]] = {"plain": Plain, "mobile": Mobile, "vit": Vit}


def images(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Noise with one of six patterns somewhere, [count,3,32,32], and which."""
    patterns = np.random.default_rng(7).standard_normal((CLASSES, 3, 8, 8)).repeat(1, 0) * 1.5
    rng = np.random.default_rng(seed)
    x, which = rng.standard_normal((count, 3, SIZE, SIZE)) * 0.5, rng.integers(0, CLASSES, count)
    for image, kind, (top, left) in zip(x, which, rng.integers(0, SIZE - 8, (count, 2)), strict=True):
        image[:, top : top + 8, left : left + 8] += patterns[kind]
    return x.astype(np.float32), which.astype(np.int64)


def trained(name: str, folder: Path) -> tuple[nn.Module, Path]:
    """The network, and its file in `folder`."""
    torch.manual_seed(0)
    net, path, state = NETWORKS[name](), folder / f"{name}.onnx", folder / f"{name}.pt"
    if not state.exists():
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        for step in range(300):
            x, which = map(torch.from_numpy, images(64, step))
            optimiser.zero_grad()
            F.cross_entropy(net(x), which).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        torch.save(net.state_dict(), state)
    net.load_state_dict(torch.load(state))
    net.eval()
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            axes = {"image": {0: "N"}, "scores": {0: "N"}}
            x = torch.from_numpy(images(2, 0)[0])
            torch.onnx.export(
                net, (x,), str(path), dynamo=False, opset_version=17, input_names=["image"], output_names=["scores"],
                dynamic_axes=axes,
            )  # fmt: skip
    return net, path
