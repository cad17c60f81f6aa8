"""`auto` cuts the quantised form of a network where it cuts its float form."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
import torch
from torch import nn
from xai_exporters.cut.auto import auto_layer
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.graph.reading import before_rounding
from xai_exporters.passes.clean import clean

from .. import cut_nets as c
from ..running import both_ways
from .quantised import quantised
from .test_pooling import ENDS, POOLINGS, Applied, Network
from .test_tokens import Vit, WrittenOut


def written(kind: str) -> nn.Module:
    network = Vit(1)
    for block in network.blocks:
        block.ln_1, block.ln_2 = WrittenOut(kind), WrittenOut(kind)
    return network


class TwoScales(nn.Module):
    """As CrossViT: two branches of patches, whose logits are stacked and averaged; the batch is the second axis of the stack."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = Vit(1), Vit(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = [self.small(x), self.large(x.flip(-1))]
        return torch.stack(logits).mean(0)


class Segments(nn.Module):
    """Dense scores: the coarsest maps end in a linear layer after their last activation."""

    def __init__(self, end: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.end = end
        self.stem, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.scores, self.fine = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.end(self.stem(x))
        coarse = nn.functional.interpolate(self.scores(self.end(self.deep(a))), scale_factor=2.0)
        return torch.Tensor(self.fine(a + coarse))


def pooled(pool: str) -> Callable[[], nn.Module]:
    return lambda: Network(nn.SiLU(), POOLINGS[pool])


def ended(end: str) -> Callable[[], nn.Module]:
    return lambda: Network(ENDS[end](), POOLINGS["x^3 of one bound"])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{f"pooled, {name}": (pooled(name), c.SHAPE) for name in POOLINGS},
    **{f"end, {name}": (ended(name), c.SHAPE) for name in ("ReLU6", "bound", "centred")},
    "tokens": (lambda: Vit(1), (3, 12, 16)),
    "norm, twice": (lambda: written("twice"), (3, 12, 16)),
    "two scales": (TwoScales, (3, 12, 16)),
    "dense, ReLU": (lambda: Segments(torch.relu), (3, 16, 16)),
    "dense, tanh": (lambda: Segments(torch.tanh), (3, 16, 16)),
    "scaled": (lambda: Network(Applied(lambda x: 2 * x + 1), POOLINGS["mean"]), c.SHAPE),
}


def cut(model: onnx.ModelProto, shape: tuple[int, ...]) -> str:
    graph = clean(model, shape)
    layer, _ = auto_layer(graph, find_scores(graph, None, None))
    return str(before_rounding(layer).name)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_cut(name: str) -> None:
    """Also if each reader has a pair of its own, for some."""
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model = both_ways(make().eval(), False, shape)
    wanted = cut(model, shape)
    for apart in (False, True)[: 2 if name in ("pooled, x^2", "norm, twice", "dense, ReLU") else 1]:
        assert cut(quantised(model, apart), shape) == wanted
