"""Tiny torch networks for the exporters' tests; `onnx_nets` has those made of ONNX nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

SIZE = (16, 20)  # of the images; no two sizes are equal, so that a swapped axis shows
SHAPE = (3, *SIZE)
CLASSES = 5


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, statistics, scales (some negative) and biases that hide no factor of one and no term of zero."""
    generator = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d)):
            assert m.running_mean is not None
            assert m.running_var is not None
            m.running_mean.copy_(torch.randn(m.num_features, generator=generator) * 0.3)
            m.running_var.copy_(torch.rand(m.num_features, generator=generator) + 0.5)
        if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm)):
            with torch.no_grad():
                m.weight.copy_(torch.randn(m.weight.shape, generator=generator) + 0.5)
                m.weight[0] = -0.8
                m.bias.copy_(torch.randn(m.bias.shape, generator=generator) * 0.3)
        elif isinstance(m, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            with torch.no_grad():
                m.weight.copy_(torch.randn(m.weight.shape, generator=generator) / m.weight[0].numel() ** 0.5)
                if m.bias is not None:
                    m.bias.copy_(torch.randn(m.bias.shape, generator=generator))
    for m in module.modules():  # last, so that the other layers keep the numbers that tests were written with
        if isinstance(m, nn.ConvTranspose2d):
            with torch.no_grad():
                m.weight.copy_(torch.randn(m.weight.shape, generator=generator) / m.weight.shape[0] ** 0.5)
                if m.bias is not None:
                    m.bias.copy_(torch.randn(m.bias.shape, generator=generator))
    return module.eval()


class Plain(nn.Module):
    """Convolutions, a BatchNorm that exporters fold, an in-place ReLU, Dropout; global pooling and one linear layer."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return torch.Tensor(self.fc(self.pool(self.drop(self.conv2(x))).flatten(1)))


class Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, planes: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(planes, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = nn.Conv2d(planes, out, 1, stride=stride) if planes != out else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return torch.Tensor(self.relu(y + (x if self.downsample is None else self.downsample(x))))


class Residual(nn.Module):
    """A stem and two residual blocks, the second with a projection."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.layer1 = nn.Sequential(Block(4, 4, 1))
        self.layer2 = nn.Sequential(Block(4, 6, 2))
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3))))


class Dense(nn.Module):
    """Each layer reads all before it: cuts have several side tensors. BatchNorms come before the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 2 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(4 + 2 * i, 2, 3, padding=1, bias=False) for i in range(3))
        self.fc = nn.Linear(10, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [self.conv0(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(torch.relu(norm(torch.cat(features, 1)))))
        return torch.Tensor(self.fc(torch.relu(torch.cat(features, 1)).mean((2, 3))))


class ChannelsLast(nn.Module):
    """A ConvNeXt-like network: LayerNorm and linear layers over the channels of [N,h,w,K]."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.norm1 = nn.LayerNorm(6)
        self.wide = nn.Linear(6, 8)
        self.narrow = nn.Linear(8, 6)
        self.norm2 = nn.LayerNorm(6)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        x = x + self.narrow(nn.functional.gelu(self.wide(self.norm1(x))))
        return torch.Tensor(self.fc(self.norm2(x).mean((1, 2))))


class Pair(nn.Module):
    """Gives a tuple."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x * 2


class Odd(nn.Module):
    """One ReLU called twice, a module that gives a tuple, one that is never called, Dropout on the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Dropout()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.pair = Pair()
        self.unused = nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv1(self.first(x)))
        a, b = self.pair(self.relu(self.conv2(x)))
        return torch.Tensor(self.fc((a + b).mean((2, 3))))


class Outputs(nn.Module):
    """Several outputs: the logits, the features they come from, and one made beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.beside = nn.Conv2d(4, 3, 1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = torch.relu(self.conv1(x))
        features = self.conv2(x)
        return {"scores": self.fc(features.mean((2, 3))), "features": features, "beside": self.beside(x).mean((2, 3))}


class ImageAgain(nn.Module):
    """The image is read again behind the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(7, 6, 3, stride=2)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(self.fc(self.conv2(torch.cat([self.conv1(x), x], 1)).mean((2, 3))))


class Text(nn.Module):
    """No output tensor at all."""

    def forward(self, x: torch.Tensor) -> str:
        return "text"


class Scriptable(nn.Module):
    """What torch.jit.script compiles without further ado."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))
        return self.fc(self.conv2(x).mean((2, 3)))  # type: ignore[no-any-return]


class Branching(Scriptable):
    """Takes a branch by what the image holds, which torch.export refuses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if float(x.sum()) > 0 else -x)


class Branched(nn.Module):
    """Layers one after the other (a, b, then c or d), beside each other (c, d), and paths past them (a to the gate of b)."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.gate = nn.Conv2d(4, 4, 1)
        self.c = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU())
        self.d = nn.Sequential(nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU())
        self.e = nn.Sequential(nn.Conv2d(11, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        b = self.b(a)
        both = torch.cat([self.c(a + torch.sigmoid(self.gate(a)) * b), self.d(b)], 1)
        return torch.Tensor(self.fc(self.e(both).mean((2, 3))))


def plain() -> nn.Module:
    """Takes no `num_classes`, as many people's builders do."""
    return Plain()


def not_a_module() -> dict[str, Any]:
    """A builder that gives no network."""
    return {}


def broken() -> nn.Module:
    """A builder that fails."""
    raise RuntimeError("no such dataset")


NOT_CALLABLE = 3


def save(module: nn.Module, path: Path) -> Path:
    """The module's state dict in a file."""
    torch.save(module.state_dict(), path)
    return path


def arch(cls: type[nn.Module] | str) -> str:
    """--arch for something of this module."""
    return f"{__name__}:{cls if isinstance(cls, str) else cls.__name__}"
