"""`auto` cuts in front of a pooling, however it is written, and behind the activations, gates and normalisations before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from .. import cut_nets as c
from ..checks import Array, check_bundle, hooked
from ..running import HEAD_AND_TAIL, both_ways, export_onnx

Function = Callable[[torch.Tensor], torch.Tensor]


def centred(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean((2, 3), keepdim=True)


def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def cube(x: torch.Tensor) -> torch.Tensor:
    return x * x * x


def powers(x: torch.Tensor) -> torch.Tensor:
    """One for each channel."""
    return torch.linspace(1, 3, x.shape[1]).reshape(1, -1, 1, 1)


def softmax(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).softmax(-1).reshape(x.shape)


POOLINGS: dict[str, Function] = {
    "mean": lambda x: x.mean((2, 3)),
    "x^2": lambda x: (x * x).mean((2, 3)).sqrt(),
    "x^3 by products": lambda x: (x.clamp(min=1e-6) * x.clamp(min=1e-6) * x.clamp(min=1e-6)).mean((2, 3)),
    "x^3 of one bound": lambda x: cube(x.clamp(min=1e-6)).mean((2, 3)).pow(1 / 3),
    "x^4 by squares": lambda x: square(square(x)).mean((2, 3)).pow(1 / 4),
    "a power for each channel": lambda x: x.clamp(min=0.1).pow(powers(x)).mean((2, 3)),
    "x^3 by logarithms": lambda x: (x.clamp(min=1e-6).log() * 3).exp().mean((2, 3)).log().div(3).exp(),
    "magnitudes": lambda x: x.abs().mean((2, 3)),
    "Euclidean norm": lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
    "standard deviation by hand": lambda x: (centred(x) ** 2).mean((2, 3)).sqrt(),
    "standard deviation by products": lambda x: square(centred(x)).mean((2, 3)).sqrt(),
    "standard deviation": lambda x: x.std((2, 3)),
    "variance": lambda x: x.var((2, 3)),
    "mean and standard deviation": lambda x: torch.cat([x.mean((2, 3))[:, ::2], x.std((2, 3))[:, 1::2]], 1),
    "log-sum-exp by hand": lambda x: torch.log(torch.exp(x / 8).mean((2, 3))) * 8,
    "log-sum-exp from the largest": lambda x: (x - x.amax((2, 3), keepdim=True)).exp().sum((2, 3)).log() + x.amax((2, 3)),
    "log-sum-exp": lambda x: torch.logsumexp(5 * x, (2, 3)) / 5,
    "weighted with a softmax": lambda x: (x * softmax(x)).sum((2, 3)),
    "weighted with a softmax of a scale": lambda x: (softmax(4 * x) * x).sum((2, 3)),
}  # fmt: skip


class LayerNorm2d(nn.Module):
    """By hand, over channels, with a scale and a shift."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(c.WIDTH, 1, 1) + 0.5), nn.Parameter(torch.randn(c.WIDTH, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(1, keepdim=True)
        return x / (x.pow(2).mean(1, keepdim=True) + 1e-6).sqrt() * self.scale + self.shift


class InstanceNorm(LayerNorm2d):
    """By hand: over positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean((2, 3), keepdim=True)
        return x / (x.pow(2).mean((2, 3), keepdim=True) + 1e-6).sqrt() * self.scale + self.shift


class Excitation(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class SpatialGate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x.mean(1, keepdim=True))


class Applied(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


ENDS: dict[str, Callable[[], nn.Module]] = {
    "SiLU": nn.SiLU,
    "SiLU by hand": lambda: Applied(lambda x: x / (1 + torch.exp(-x))),
    "GELU": nn.GELU,
    "GELU by tanh": lambda: nn.GELU("tanh"),
    "hardswish": nn.Hardswish,
    "Mish": nn.Mish,
    "ReLU6": nn.ReLU6,
    "excitation": Excitation,
    "gate": SpatialGate,
    "layer normalisation": LayerNorm2d,
    "instance normalisation": InstanceNorm,
    "scale and shift": lambda: Applied(lambda x: 2 * x + 1),
    "bound": lambda: Applied(lambda x: x.clamp(min=0.1)),
    "centred": lambda: Applied(centred),
    "residual": lambda: Applied(lambda x: x + F.silu(x)),
}


class Network(nn.Module):
    def __init__(self, end: nn.Module, pool: Function) -> None:
        super().__init__()
        stem = nn.Conv2d(3, c.WIDTH, 3, stride=2, padding=1)
        self.f = nn.Sequential(stem, nn.ReLU(), nn.Conv2d(c.WIDTH, c.WIDTH, 3, padding=1), end)
        self.pool, self.head = pool, nn.Linear(c.WIDTH, c.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(self.head(self.pool(self.f(x))))


def check(folder: Path, end: nn.Module, pool: Function, dynamo: bool) -> None:
    """The activation is what the module in front of the pooling gives."""
    torch.manual_seed(0)
    network = Network(end, pool).eval()
    done = export_onnx(folder, both_ways(network, dynamo, c.SHAPE), roles=HEAD_AND_TAIL)
    assert done.layer_note is None

    def forward(x: Array) -> dict[str, Array]:
        with torch.no_grad():
            return {done.manifest.outputs[0].name: network(torch.from_numpy(x)).numpy()}

    check_bundle(done.path, forward, hooked(network, "f", 0))


@pytest.mark.parametrize("dynamo", [True, False], ids=["torch's exporter", "the older one"])
@pytest.mark.parametrize("pool", POOLINGS)
def test_pooling(tmp_path: Path, pool: str, dynamo: bool) -> None:
    check(tmp_path, nn.SiLU(), POOLINGS[pool], dynamo)


@pytest.mark.parametrize("dynamo", [True, False], ids=["torch's exporter", "the older one"])
@pytest.mark.parametrize("end", ENDS)
def test_end(tmp_path: Path, end: str, dynamo: bool) -> None:
    check(tmp_path, ENDS[end](), POOLINGS["mean"], dynamo)


@pytest.mark.parametrize("dynamo", [True, False], ids=["torch's exporter", "the older one"])
@pytest.mark.parametrize("end", ["ReLU6", "scale of channels"])
def test_end_in_front_of_powers(tmp_path: Path, end: str, dynamo: bool) -> None:
    """An upper bound and a scale of channels are the network's own."""
    made = nn.ReLU6() if end == "ReLU6" else Applied(lambda x: powers(x) * x)
    check(tmp_path, made, POOLINGS["x^3 of one bound"], dynamo)
