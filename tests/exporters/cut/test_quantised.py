"""`auto` cuts the quantised form of a network where it cuts its float form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn
from xai_exporters.cut.auto import auto_layer
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.graph.reading import before_rounding, numbers_of
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


class Scored(nn.Module):
    """Scores of a pooled map, by a function that has constants: they are stored in codes in the quantised form."""

    def __init__(self, end: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.end, self.features, self.scores = end, nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.scores(torch.relu(self.features(x)).mean((2, 3))))


SCORES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str, str]] = {
    "softmax of a temperature": (lambda x: torch.softmax(x * 0.5, 1), "softmax", "probabilities"),
    "shares of 4": (lambda x: torch.softmax(x, 1) * 4.0, "softmax", "derived"),
    "sigmoids of 2": (lambda x: torch.sigmoid(x) * 2.0, "sigmoid", "derived"),
    "a temperature": (lambda x: x * 0.5, "none", "logits"),
}


@pytest.mark.parametrize("name", SCORES)
def test_the_same_scores(name: str) -> None:
    """A factor counts as the constant that it is, whether it is stored in floats or in codes (also as Q and DQ of floats)."""
    torch.manual_seed(0)
    end, activation, kind = SCORES[name]
    model = both_ways(Scored(end).eval(), False, c.SHAPE)
    found = [find_scores(clean(m, c.SHAPE), None, None) for m in (model, quantised(model))]
    assert [(one.activation, one.kind, one.classes) for one in found] == [(activation, kind, 5)] * 2
    assert len({before_rounding(one.value).name for one in found}) == 1


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_numbers_in_codes(written: bool, axis: int | None) -> None:
    """What DequantizeLinear gives of a constant's codes, as ONNX's reference evaluator computes it."""
    rng = np.random.default_rng(0)
    several = axis is not None
    scale = rng.uniform(0.1, 1, (2, 3)[axis or 0] if several else ()).astype(np.float32)
    zero = rng.integers(-9, 9, scale.shape).astype(np.int8)
    pair, more = ["scale", "zero"], dict[str, Any](axis=axis) if several else {}
    values = (
        rng.standard_normal((2, 3)).astype(np.float32) * 90
        if written
        else rng.integers(-99, 99, (2, 3)).astype(np.int8)
    )
    nodes = [helper.make_node("QuantizeLinear", ["w", *pair], ["codes"], **more)] if written else []
    nodes.append(helper.make_node("DequantizeLinear", ["codes" if written else "w", *pair], ["y"], **more))
    weights = [numpy_helper.from_array(a, n) for a, n in ((values, "w"), (scale, "scale"), (zero, "zero"))]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", 1, [2, 3])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    [want] = np.asarray(ReferenceEvaluator(model).run(None, {}))
    got = numbers_of(ir.from_proto(model).graph.outputs[0])
    assert got is not None
    np.testing.assert_allclose(got, want, rtol=1e-6)


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
