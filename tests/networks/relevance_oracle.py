"""Relevance-CAM (Lee et al., CVPR 2021) on live torch networks in float64, propagated module by module.

    python -m tests.networks.relevance_oracle [NAME ...]     the map with BatchNorm merged against the map with it kept

Forward hooks record what every module got and gave; the way back is written out for torchvision's ResNet and VGG below, so that
nothing here shares code, graphs or cuts with the product.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from ..support import smaller
from .oracle import calibrate, randomise

Bias = Literal["ignore", "authors"]
CLASSES = 20
Reached = dict[nn.Module | None, Tensor]  # None: the image

# network -> stages: a ResNet's four, what follows each of VGG's poolings
STAGES = {
    "resnet18": ("layer1", "layer2", "layer3", "layer4"),
    "resnet50": ("layer1", "layer2", "layer3", "layer4"),
    "vgg16_bn": ("features.6", "features.13", "features.23", "features.33", "features.43"),
    "vgg16": ("features.4", "features.9", "features.16", "features.23", "features.30"),
}


@dataclass(frozen=True)
class Explained:
    """Maps [n,h,w] of one stage, and the relevance [n,K,h,w] that they come from."""

    maps: NDArray[np.float64]
    relevance: NDArray[np.float64]


class RelevanceOracle:
    """A live network. Images are float64 [N,C,H,W].

    Attributes:
        merged: Each BatchNorm is merged into the convolution before it; otherwise it passes relevance on unchanged.
        bias: Of a convolution: not in Z, or, as the authors have it, added to both halves of Z.
    """

    def __init__(self, network: nn.Module, merged: bool, bias: Bias = "ignore") -> None:
        self.network = copy.deepcopy(network).double().eval()
        self.bias = bias
        self.inputs: dict[nn.Module, Tensor] = {}
        self.outputs: dict[nn.Module, Tensor] = {}
        for module in self.network.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # what came before it is needed
        if merged:
            _merge(self.network)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """[n,classes], as the network gives them."""
        logits: Tensor = self.network(x)
        return logits

    def explain(self, x: Tensor, stages: tuple[str, ...], targets: list[int]) -> dict[str, Explained]:
        """Stage -> its maps; image i explained for targets[i], -1: for the class predicted; "image" is a stage, too."""
        logits = self.logits(x)
        start = torch.full_like(logits, -1 / logits.shape[1])
        for row, y, target in zip(start, logits, targets, strict=True):
            row[y.argmax() if target < 0 else target] = 1
        return self.propagate(x, stages, start)

    @torch.no_grad()
    def propagate(self, x: Tensor, stages: tuple[str, ...], start: Tensor) -> dict[str, Explained]:
        """The same from any start [n,classes]."""
        with self._recorded():
            self.network(x)
        reached: Reached = {}
        reached[None] = self._network(start, reached)
        results = {}
        for stage in stages:
            if stage == "image":
                r = reached[None]
                maps = r.sum(1)
            else:
                module = self.network.get_submodule(stage)
                r, a = reached[module], self.outputs[module]
                maps = (r.mean((2, 3), keepdim=True) * a).sum(1)
            results[stage] = Explained(maps.numpy(), r.numpy())
        return results

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[None]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.inputs[module], self.outputs[module] = inputs[0].clone(), output.clone()

        handles = []
        for module in self.network.modules():
            if isinstance(module, nn.ReLU):  # called several times; the identity rule needs nothing of it
                continue
            handles.append(module.register_forward_hook(record))
        yield
        for handle in handles:
            handle.remove()

    def _network(self, r: Tensor, reached: Reached) -> Tensor:
        """The way back through the whole network, down to the image; `reached` takes the relevance of each module's output."""
        net: Any = self.network
        if isinstance(net, torchvision.models.ResNet):
            back = [
                net.fc,
                net.avgpool,
                net.layer4,
                net.layer3,
                net.layer2,
                net.layer1,
                net.maxpool,
                net.bn1,
                net.conv1,
            ]
        else:
            back = [net.classifier, net.avgpool, *reversed(list(net.features))]
        first = back[-1]
        for module in back[:-1]:
            r = self._through(module, r.reshape(self.outputs[module].shape) if module in self.outputs else r, reached)
        return self._pixels(first, r)

    def _pixels(self, conv: nn.Conv2d, r: Tensor) -> Tensor:
        """z^B with the image's own least and largest value."""
        x, w = self.inputs[conv], conv.weight
        low, high = (torch.ones_like(x) * bound((1, 2, 3), keepdim=True) for bound in (x.amin, x.amax))
        terms = [(1, x, w), (-1, low, w.clamp(min=0)), (-1, high, w.clamp(max=0))]
        s = _divide(r, sum((sign * self._apply(conv, v, part) for sign, v, part in terms), torch.zeros_like(r)))
        back = [sign * v * _vjp(lambda u, part=part: self._apply(conv, u, part), v, s) for sign, v, part in terms]
        return torch.stack(back).sum(0)

    def _through(self, module: nn.Module, r: Tensor, reached: Reached) -> Tensor:
        """Relevance at a module's input from relevance at its output."""
        reached[module] = r
        match module:
            case nn.Sequential():
                for part in reversed(list(module)):
                    r = self._through(part, r, reached)
                return r
            case BasicBlock():
                return self._residual(module, [module.conv1, module.bn1, module.conv2, module.bn2], r, reached)
            case Bottleneck():
                parts = [module.conv1, module.bn1, module.conv2, module.bn2, module.conv3, module.bn3]
                return self._residual(module, parts, r, reached)
            case nn.ReLU() | nn.Dropout() | nn.BatchNorm2d():
                return r
            case nn.Conv2d() | nn.Linear():
                return self._linear(module, r)
            case nn.MaxPool2d():
                return _vjp(module, self.inputs[module], r)
            case nn.AdaptiveAvgPool2d():
                x = self.inputs[module].clamp(min=0)
                return x * _vjp(module, x, _divide(r, module(x)))
        raise AssertionError(f"no way back through {module}")

    def _residual(self, block: BasicBlock | Bottleneck, parts: list[nn.Module], r: Tensor, reached: Reached) -> Tensor:
        """The sum is split by R a / (a + b); what both ways bring to the block's input is added."""
        way = self.outputs[parts[-1]]
        beside = self.inputs[block] if block.downsample is None else self.outputs[block.downsample]
        share = _divide(r, way + beside)
        main, side = way * share, beside * share
        for part in reversed(parts):  # a ReLU in between leaves relevance as it is
            main = self._through(part, main, reached)
        return main + (side if block.downsample is None else self._through(block.downsample, side, reached))

    def _linear(self, module: nn.Conv2d | nn.Linear, r: Tensor) -> Tensor:
        """Z = w+ x+ + w- x-, one denominator for both halves."""
        x, w = self.inputs[module], module.weight
        halves = [(x.clamp(min=0), w.clamp(min=0)), (x.clamp(max=0), w.clamp(max=0))]
        z = sum((self._apply(module, v, half) for v, half in halves), torch.zeros_like(r))
        if self.bias == "authors" and isinstance(module, nn.Conv2d) and module.bias is not None:
            z = z + 2 * module.bias[:, None, None]
        s = _divide(r, z)
        back = [v * _vjp(lambda u, half=half: self._apply(module, u, half), v, s) for v, half in halves]
        return torch.stack(back).sum(0)

    def _apply(self, module: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor) -> Tensor:
        """The layer with another weight and no bias."""
        if isinstance(module, nn.Linear):
            return F.linear(x, weight)
        assert not isinstance(module.padding, str)
        return F.conv2d(x, weight, None, module.stride, module.padding, module.dilation, module.groups)


def _divide(r: Tensor, z: Tensor) -> Tensor:
    """R / Z, 0 where Z is 0."""
    return torch.where(z == 0, 0, r / torch.where(z == 0, 1, z))


def _vjp(function: Any, x: Tensor, r: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x), x, r)[0]


def _merge(network: nn.Module) -> None:
    """w * scale, (b - mean) * scale + shift, in pairs of a convolution and the BatchNorm that follows it."""
    modules = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    for conv, norm in pairwise(modules):  # torchvision defines them in the order of their calls
        if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = torch.zeros_like(norm.bias) if conv.bias is None else conv.bias
        conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
        conv.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
        norm.running_mean, norm.running_var, norm.eps = torch.zeros_like(scale), torch.ones_like(scale), 0.0
        norm.weight, norm.bias = nn.Parameter(torch.ones_like(scale)), nn.Parameter(torch.zeros_like(scale))


def build(name: str, size: int, narrow: bool = False) -> tuple[nn.Module, Tensor]:
    """A seeded network with randomised BatchNorms, and two images [2,3,size,size] in float64.

    Its weights are raised to the ninth power: a trained network's units are choosy. Among weights drawn evenly the relevance of
    every class spreads alike, and the contrast of one class with the others is no more than float32's rounding. VGG's dense
    layers are narrow (120 million weights otherwise); if asked, the convolutions are, too.
    """
    torch.manual_seed(0)
    network: Any = smaller.narrow(name, CLASSES) if narrow else None
    if network is None:
        network = torchvision.models.get_model(name, weights=None, num_classes=CLASSES)
    if not narrow and isinstance(network, torchvision.models.VGG):
        parts = [nn.Linear(512 * 49, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, CLASSES)]
        network.classifier = nn.Sequential(*parts)
    randomise(network)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                choosy = module.weight**9
                module.weight.copy_(choosy * (module.weight.std() / choosy.std()))
                if module.bias is not None:  # VGG's are zero at first; below zero, the authors' Z passes through 0
                    module.bias.uniform_(0, 0.1)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    calibrate(network, x.float())
    return network.requires_grad_(False), x


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's, of two maps."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def table(names: list[str], size: int) -> str:
    """Correlation of the two forms' maps, of the relevance they come from, and of their channels' weights alpha."""
    rows = ["| Network | Stage | Map, image 1 | Map, image 2 | Relevance | alpha |", "|-|-|-|-|-|-|"]
    for name in names:
        network, x = build(name, size)
        stages = STAGES[name]
        merged, kept = (RelevanceOracle(network, form).explain(x, stages, [7, -1]) for form in (True, False))
        for stage in stages:
            one, other = merged[stage], kept[stage]
            cells = [correlation(a, b) for a, b in zip(one.maps, other.maps, strict=True)]
            cells.append(correlation(one.relevance, other.relevance))
            cells.append(correlation(one.relevance.mean((2, 3)), other.relevance.mean((2, 3))))
            rows.append(f"| {name} | {stage} | {' | '.join(f'{cell:.4f}' for cell in cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    sys.stdout.write(table(options.networks or ["resnet18", "resnet50", "vgg16_bn"], options.size) + "\n")


if __name__ == "__main__":
    main()
