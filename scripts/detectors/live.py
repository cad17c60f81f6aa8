"""A live detector as the comparison sees it: its file, and activations and gradients of one row's score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from xai_deploy import Explanation

Maps = NDArray[Any]


@dataclass(frozen=True)
class Explained:
    """One row of a live network.

    Attributes:
        levels: Activation and gradient [K,h,w] of each level; the gradient's zeros where the row does not read a level.
        value: The number explained: the row's logit, or its probability.
    """

    levels: list[tuple[Maps, Maps]]
    value: float


class Live(Protocol):
    """A detector that is exported, and asked for autograd's own gradients."""

    def write(self, folder: Path) -> tuple[Path, dict[str, Any]]:
        """The file, and what `Request` has to be told beside it."""

    def images(self, count: int) -> torch.Tensor:
        """Inputs [count,3,H,W], float32."""

    def explained(self, x: torch.Tensor, got: Explanation, wide: bool) -> Explained:
        """The row that an explanation of x [1,3,H,W] is about, in float64 or in float32."""


def take_statistics(network: torch.nn.Module, forward: Callable[[torch.Tensor], object], size: int) -> None:
    """Give the batch norms the statistics of noise: without them a deep network of random weights hardly depends on its image."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
        norm.reset_running_stats()
        norm.train()
    with torch.no_grad():
        for _ in range(3):
            forward(torch.rand(4, 3, size, size))
    network.eval()


@torch.no_grad()
def fold_norms(network: torch.nn.Module) -> None:
    """Give convolutions the scales of the batch norms behind them, as exporters do: rounded, they make another network."""
    for parent in network.modules():
        for conv, norm in pairwise(parent.children()):
            if not isinstance(conv, torch.nn.Conv2d) or not isinstance(norm, torch.nn.BatchNorm2d):
                continue
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            shift = norm.bias.double() - norm.running_mean.double() * scale
            if conv.bias is not None:
                shift += conv.bias.double() * scale
                conv.bias.zero_()
            conv.weight.mul_(scale[:, None, None, None])
            norm.running_mean.zero_()
            norm.running_var.fill_(1)
            norm.weight.fill_(1)
            norm.bias.copy_(shift)
            norm.eps = 0.0


def differentiate(value: torch.Tensor, maps: Sequence[torch.Tensor], shown: float) -> Explained:
    """The gradients of a number at maps [1,K,h,w].

    Args:
        value: The number.
        maps: One of each level.
        shown: Its value to compare.
    """
    grads = torch.autograd.grad(value, list(maps), allow_unused=True)
    levels = [
        (a[0].detach().numpy(), (torch.zeros_like(a) if g is None else g)[0].numpy())
        for a, g in zip(maps, grads, strict=True)
    ]
    return Explained(levels, shown)


def nearest(apart: torch.Tensor) -> int:
    """The row that is a detection without doubt.

    Args:
        apart: Its distance from each row [R], infinite for rows of other classes.
    """
    first, second = apart.topk(2, largest=False)[0].tolist()
    said = f"the nearest box of its class is {first:.2g} pixels away, the next {second:.2g}"
    assert 10 * first < second, f"no row is the detection without doubt: {said}"
    return int(apart.argmin())
