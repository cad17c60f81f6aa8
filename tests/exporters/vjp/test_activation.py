"""Activations: `activation.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper

from .harness import (
    Case,
    Free,
    Gradient,
    check,
    check_at,
    double,
    f32,
    forward_model,
    gradient_model,
    graph_model,
    onnxruntime_function,
    torch_gradient,
)

X = Free(("N", 3, 4, 5), "away")
D = Free(("N", 3, 4, 6), "distinct", 4.0)
SLOPE = f32(0.1, 0.3, -0.2).reshape(3, 1, 1)
SELU = (1.67326319217681884765625, 1.05070102214813232421875)


def single(number: float) -> float:
    """As an attribute holds it."""
    return float(np.float32(number))


def selu(x: torch.Tensor, alpha: float = SELU[0], gamma: float = SELU[1]) -> torch.Tensor:
    return single(gamma) * torch.where(x > 0, x, single(alpha) * torch.expm1(x))


CASES = [
    Case("Relu", (X,), torch=F.relu),
    Case("Relu", (Free((7,), "away"),), torch=F.relu),
    Case("LeakyRelu", (X,), torch=lambda x: F.leaky_relu(x, single(0.01))),
    Case("LeakyRelu", (X,), {"alpha": 0.25}, torch=lambda x: F.leaky_relu(x, 0.25)),
    Case("ThresholdedRelu", (D,), {"alpha": 0.25}, torch=lambda x: F.threshold(x, 0.25, 0)),
    Case("ThresholdedRelu", (D,), torch=lambda x: F.threshold(x, 1, 0)),
    Case("Shrink", (D,), torch=lambda x: F.hardshrink(x, 0.5)),
    Case("Shrink", (D,), {"lambd": 0.75, "bias": 0.75}, torch=lambda x: F.softshrink(x, 0.75)),
    Case("Shrink", (D,), {"lambd": 0.75}, torch=lambda x: F.hardshrink(x, 0.75)),
    Case("PRelu", (X, SLOPE), torch=lambda x: F.prelu(x, double(SLOPE).reshape(3))),
    Case("PRelu", (X, Free((3, 1, 1))), torch=lambda x, slope: F.prelu(x, slope.reshape(3))),
    Case("PRelu", (X, Free((1,))), torch=F.prelu),
    Case("PRelu", (X, Free((3, 4, 5)))),
    Case("Elu", (X,), torch=F.elu),
    Case("Elu", (X,), {"alpha": 0.5}, torch=lambda x: F.elu(x, 0.5)),
    Case("Celu", (X,), torch=F.celu),
    Case("Celu", (X,), {"alpha": 0.5}, torch=lambda x: F.celu(x, 0.5)),
    Case("Selu", (X,), torch=selu),
    Case("Selu", (X,), {"alpha": 1.5, "gamma": 0.5}, torch=lambda x: selu(x, 1.5, 0.5)),
    Case("Sigmoid", (X,), torch=torch.sigmoid),
    Case("HardSigmoid", (D,), torch=lambda x: (x / 5 + 0.5).clamp(0, 1), exact=1e-7),  # the default is a float32 0.2
    Case("HardSigmoid", (D,), {"alpha": 0.25, "beta": 0.25}, torch=lambda x: (x / 4 + 0.25).clamp(0, 1)),
    Case("HardSwish", (D,), torch=F.hardswish, exact=1e-7),  # float32 1/6 in torch
    Case("Tanh", (X,), torch=torch.tanh),
    Case("Softplus", (X,), torch=F.softplus),
    Case("Softsign", (X,), torch=F.softsign),
    Case("Mish", (X,), torch=F.mish),
    Case("Swish", (X,), opset=24, torch=F.silu),
    Case("Swish", (X,), {"alpha": 1.5}, opset=24, torch=lambda x: x * torch.sigmoid(1.5 * x)),
    Case("Erf", (X,), torch=torch.erf),
    Case("Gelu", (X,), opset=20, torch=F.gelu),
    Case("Gelu", (X,), {"approximate": "tanh"}, opset=20, torch=lambda x: F.gelu(x, approximate="tanh")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


K = Free((3, 9))
KINKS = [
    Case("Relu", (K,), torch=F.relu),
    Case("LeakyRelu", (K,), {"alpha": 0.25}, torch=lambda x: F.leaky_relu(x, 0.25)),
    Case("ThresholdedRelu", (K,), {"alpha": 3.0}, torch=lambda x: F.threshold(x, 3, 0)),
    Case("Shrink", (K,), {"lambd": 3.0, "bias": 3.0}, torch=lambda x: F.softshrink(x, 3.0)),
    Case("PRelu", (K, f32(0.5)), torch=lambda x: F.prelu(x, double(f32(0.5)))),
    Case("Elu", (K,), {"alpha": 0.5}, torch=lambda x: F.elu(x, 0.5)),
    Case("Celu", (K,), {"alpha": 0.5}, torch=lambda x: F.celu(x, 0.5)),
    Case("HardSigmoid", (K,), {"alpha": 1 / 8, "beta": 0.5}, torch=lambda x: F.hardsigmoid(x * 6 / 8), exact=1e-7),
    Case("HardSwish", (K,), torch=F.hardswish, exact=1e-7),
    Case("Softsign", (K,), torch=F.softsign),
]


@pytest.mark.parametrize("case", KINKS, ids=str)
def test_kinks_are_torchs(case: Case) -> None:
    check_at(case, np.array([[-4, -3, -1, 0, 0, 1, 3, 4, 6], [0] * 9, [-3, 3] * 4 + [0]], np.float64))


@pytest.mark.parametrize("case", [c for c in CASES if not c.skip and len(c.free) == 1 and c.free[0] == 0], ids=str)
def test_large_inputs_have_a_finite_gradient(case: Case) -> None:
    """Neither exponentials that overflow nor 0 x infinity."""
    model = gradient_model(forward_model(case), "x0")
    shape = [3 if d == "N" else int(d) for d in case.inputs[0].shape]  # type: ignore[union-attr]
    x = np.resize(f32(-1e30, -1000, -100, 0, 100, 1000, 1e30), shape)
    assert np.isfinite(onnxruntime_function(model, "dx")({"x0": x, "dy": np.ones_like(x)})).all()


Before = tuple[tuple[str, ...], dict[str, Any], Callable[[torch.Tensor], torch.Tensor]]
BEFORE: dict[str, Before] = {  # function -> its other inputs, its attributes, and the same in torch
    "Relu": ((), {}, F.relu),
    "ThresholdedRelu": ((), {}, lambda x: F.threshold(x, 1, 0)),
    "Clip": (("low", "high"), {}, lambda x: x.clamp(0, 1)),
    "HardSigmoid": ((), {"alpha": 0.5, "beta": 0.25}, lambda x: (x / 2 + 0.25).clamp(0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_an_infinite_gradient_stops_where_the_function_is_constant(name: str) -> None:
    """The square root has an infinite derivative at 0; infinity times 0 would be NaN."""
    bounds, attributes, same = BEFORE[name]
    nodes = [helper.make_node(name, ["x", *bounds], ["h"], **attributes), helper.make_node("Sqrt", ["h"], ["y"])]
    model = graph_model(nodes, {"x": ("N", 6)}, {"low": f32(0).reshape(()), "high": f32(1).reshape(())})
    gradient = Gradient(model, "x", f"{name} before Sqrt")
    x = np.array([[-2, -1, 0.5, 0.25, 1.75, 3], [0.75, -3, 0.125, -0.625, 2.5, 0.5]], np.float64)
    _, want = torch_gradient(lambda v: torch.sqrt(same(v)), [x], None)
    feeds = {"x": x, "dy": np.ones_like(x)}
    assert np.isfinite(want).all()
    with np.errstate(divide="ignore", invalid="ignore"):
        np.testing.assert_allclose(gradient.exact(feeds), want, rtol=1e-7)
        gradient.on_runtimes({"x": x}, np.ones_like(x))


def test_a_finite_gradient_is_multiplied_by_the_mask() -> None:
    """As long as all operators further on keep it finite, no Where is written."""
    chain = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Sigmoid", ["a"], ["y"])]
    kinds = [n.op_type for n in Gradient(graph_model(chain, {"x": ("N", 6)}), "x", "chain").model.graph.node]
    assert "Where" not in kinds
    assert "Cast" in kinds
