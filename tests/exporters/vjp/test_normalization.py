"""Normalisations: `normalization.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from .harness import Array, Case, Free, Gradient, check, check_at, double, weights

W = weights()
X = Free(("N", 6, 4, 5))
S5, B5, S45, B45, S6, B6, S3, B3 = (W(*s) for s in ((5,), (5,), (4, 5), (4, 5), (6,), (6,), (3,), (3,)))
MEAN, VAR = W(6), np.abs(W(6)) + np.float32(0.5)
EPSILON = float(np.float32(1e-5))


def batch_norm(x: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    return F.batch_norm(x, double(MEAN), double(VAR), double(S6), double(B6), False, 0.0, epsilon)


def standardise(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """MeanVarianceNormalization's formula; its 1e-9 is 1e-9 of the result, and left out of the derivative."""
    return (x - x.mean(axes, keepdim=True)) / x.std(axes, correction=0, keepdim=True)


def group(scale: Array, bias: Array, groups: int) -> Case:
    return Case(
        "GroupNormalization", (X, scale, bias), {"num_groups": groups, "epsilon": 0.015625}, opset=21,
        torch=lambda x: F.group_norm(x, groups, double(scale), double(bias), 0.015625),
    )  # fmt: skip


CASES = [
    Case("BatchNormalization", (X, S6, B6, MEAN, VAR), torch=batch_norm),
    Case("BatchNormalization", (X, S6, B6, MEAN, VAR), {"epsilon": 0.125}, torch=lambda x: batch_norm(x, 0.125)),
    Case("BatchNormalization", (Free(("N", 6)), S6, B6, MEAN, VAR), torch=batch_norm),
    Case("BatchNormalization", (Free(("N", 6, 3)), S6, B6, MEAN, VAR), torch=batch_norm),
    Case("LayerNormalization", (X, S5, B5), torch=lambda x: F.layer_norm(x, [5], double(S5), double(B5), EPSILON)),
    Case("LayerNormalization", (X, S5), torch=lambda x: F.layer_norm(x, [5], double(S5), None, EPSILON)),
    Case("LayerNormalization", (X, S45, B45), {"axis": 2, "epsilon": 0.015625},
         torch=lambda x: F.layer_norm(x, [4, 5], double(S45), double(B45), 0.015625)),
    Case("LayerNormalization", (X, W(6, 4, 5), W(6, 4, 5)), {"axis": -3}),
    Case("InstanceNormalization", (X, S6, B6), {"epsilon": 0.015625},
         torch=lambda x: F.instance_norm(x, None, None, double(S6), double(B6), eps=0.015625)),
    Case("InstanceNormalization", (Free(("N", 3, 7)), S3, B3),
         torch=lambda x: F.instance_norm(x, None, None, double(S3), double(B3), eps=EPSILON)),
    group(S6, B6, 3),
    group(S6, B6, 1),
    group(S6, B6, 6),
    Case("RMSNormalization", (X, S5), {"epsilon": 0.015625}, opset=23,
         torch=lambda x: F.rms_norm(x, [5], double(S5), 0.015625)),
    Case("RMSNormalization", (X, S45), {"axis": 2}, opset=23, torch=lambda x: F.rms_norm(x, [4, 5], double(S45), EPSILON)),
    Case("MeanVarianceNormalization", (X,), {"axes": [2, 3]}, torch=lambda x: standardise(x, (2, 3)), exact=1e-8),
    Case("MeanVarianceNormalization", (X,), {"axes": [1]}, torch=lambda x: standardise(x, (1,)), exact=1e-8),
    Case("MeanVarianceNormalization", (Free((3, 2, 4, 5)),), {"axes": [0, 2, 3]},
         torch=lambda x: standardise(x, (0, 2, 3)), exact=1e-8),
    Case("LpNormalization", (X,), {"axis": 1}, torch=lambda x: F.normalize(x, dim=1)),
    Case("LpNormalization", (X,), torch=lambda x: F.normalize(x, dim=-1)),
    Case("LpNormalization", (Free(("N", 6, 4), "away"),), {"axis": -1, "p": 1}, torch=lambda x: F.normalize(x, 1, -1)),
    Case("LRN", (X,), {"size": 3, "alpha": 0.5, "beta": 0.625, "bias": 1.5},
         torch=lambda x: F.local_response_norm(x, 3, 0.5, 0.625, 1.5)),
    Case("LRN", (X,), {"size": 5}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("read", ["mean", "inverse deviation", "all"])
@pytest.mark.parametrize("axis", [-1, 2])
def test_what_is_read_of_the_mean_and_the_deviation(read: str, axis: int) -> None:
    """LayerNormalization's further outputs, alone and beside its result."""
    last = {
        "mean": [helper.make_node("Mul", ["m", "m"], ["out"])],
        "inverse deviation": [helper.make_node("Exp", ["r"], ["out"])],
        "all": [helper.make_node("Mul", ["y", "m"], ["p"]), helper.make_node("Add", ["p", "r"], ["out"])],
    }[read]
    nodes = [helper.make_node("LayerNormalization", ["x0", "s"], ["y", "m", "r"], axis=axis, epsilon=0.25), *last]
    scale = numpy_helper.from_array(S5 if axis == -1 else S45, "s")
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x0", X.shape), ("out", None))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [scale])
    gradient = Gradient(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), "x0", read
    )
    rng = np.random.default_rng(0)
    feeds = {"x0": X.sample(3, rng)}
    dy = rng.standard_normal(gradient.f(feeds).shape).astype(np.float32).astype(np.float64)
    gradient.on_runtimes(feeds, dy)
    gradient.against_central_differences(feeds, dy, rng)


@pytest.mark.parametrize("p", [1, 2])
def test_zeros_are_not_normalised(p: int) -> None:
    """A norm of 0 divides nothing: the gradient is 0 there, not a NaN (torch divides by its epsilon)."""
    x = np.zeros((2, 3, 4))
    x[0, 0] = [1, -2, 0, 3]
    case = Case("LpNormalization", (Free((2, 3, 4)),), {"axis": -1, "p": p}, torch=lambda v: _normalised(v, p))
    check_at(case, x)


def _normalised(x: torch.Tensor, p: int) -> torch.Tensor:
    norm = torch.linalg.vector_norm(x, p, -1, keepdim=True)
    return torch.where(norm > 0, x / torch.where(norm > 0, norm, 1.0), 0.0)
