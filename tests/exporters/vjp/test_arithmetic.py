"""Elementwise arithmetic, with broadcasting: `arithmetic.py`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx.reference import ReferenceEvaluator
from xai_exporters.backward.walker import propagate
from xai_exporters.graph.measure import measure
from xai_exporters.vjp.table import vjp

from .harness import (
    Case,
    Free,
    Given,
    Gradient,
    check,
    check_at,
    check_graph,
    double,
    f32,
    graph_model,
    ints,
    torch_gradient,
)

X, P = Free(("N", 3, 4, 5), "away"), Free(("N", 3, 4, 5), "positive")
D = Free(("N", 3, 4), "distinct")
A, B = X, P
MASK = np.array([[True], [False], [True]])
LOW, HIGH = np.array(-0.4, np.float32), np.array(0.3, np.float32)
POWERS = ints(2, 3, 1, 2, 4)

CASES = [
    Case("Add", (A, B), torch=torch.add),
    Case("Add", (A, Free((4, 1))), torch=torch.add),
    Case("Add", (Free((5,)), A), torch=torch.add),
    Case("Add", (A, Free(())), torch=torch.add),
    Case("Add", (Free((2, 1, 3)), Free((4, 1, 5, 1))), torch=torch.add),
    Case("Sub", (A, B), torch=torch.sub),
    Case("Sub", (Free(("N", 1, 4, 1)), Free(("N", 3, 1, 5))), torch=torch.sub),
    Case("Sub", (Free(()), A), torch=torch.sub),
    Case("Mul", (A, B), torch=torch.mul),
    Case("Mul", (A, Free(("N", 3, 1, 1))), torch=torch.mul),
    Case("Mul", (Free((1, 1, 5)), Free(("N", 4, 1))), torch=torch.mul),
    Case("Mul", (A, f32(2.5)), torch=lambda x: x * 2.5),
    Case("Div", (A, B), torch=torch.div),
    Case("Div", (Free(("N", 3, 1, 5)), Free((4, 5), "positive")), torch=torch.div),
    Case("Div", (f32(2.5), P), torch=lambda x: 2.5 / x),
    Case("Pow", (P, f32(2.0)), torch=lambda x: x**2),
    Case("Pow", (X, f32(3.0)), torch=lambda x: x**3),
    Case("Pow", (P, f32(0.5)), torch=lambda x: x**0.5),
    Case("Pow", (P, f32(1.0)), torch=lambda x: x**1),
    Case("Pow", (P, np.array(-1.5, np.float32)), torch=lambda x: x**-1.5),
    Case("Pow", (P, f32(2.0).reshape(1, 1, 1, 1, 1)), torch=lambda x: x[None] ** 2),
    Case("Pow", (X, np.array(2, np.int64)), torch=lambda x: x**2),
    Case("Pow", (X, POWERS), torch=lambda x: x ** double(POWERS)),
    Case("Pow", (P, Free((4, 5))), torch=torch.pow),
    Case("Pow", (P, Free(("N", 3, 1, 1))), torch=torch.pow),
    Case("Sqrt", (P,), torch=torch.sqrt),
    Case("Reciprocal", (P,), torch=torch.reciprocal),
    Case("Exp", (X,), torch=torch.exp),
    Case("Log", (P,), torch=torch.log),
    Case("Mod", (X, f32(0.7)), {"fmod": 1}, torch=lambda x: torch.fmod(x, double(f32(0.7)))),
    Case("Mod", (X, Free((4, 1), "positive")), {"fmod": 1}, torch=torch.fmod),
    Case("Mod", (f32(9.5), P), {"fmod": 1}, torch=lambda x: torch.fmod(double(f32(9.5)), x)),
    Case("Abs", (X,), torch=torch.abs),
    Case("Neg", (X,), torch=torch.neg),
    Case("Sum", (A, B, Free((5,))), torch=lambda a, b, c: a + b + c),
    Case("Sum", (A,), torch=lambda a: a * 1),
    Case("Mean", (A, B, Free((5,))), torch=lambda a, b, c: (a + b + c) / 3),
    Case("Mean", (A,), torch=lambda a: a * 1),
    Case("Min", (D, D), torch=torch.minimum),
    Case("Min", (A, Free((3, 1, 5), "away"), Free(("N", 1, 4, 1)), f32(0.5)),
         torch=lambda a, b, c: functools.reduce(torch.minimum, [a, b, c, double(f32(0.5))])),
    Case("Max", (D, Free((3, 1), "away")), torch=torch.maximum),
    Case("Max", (A, Free(("N", 1, 4, 1)), Free((5,))), torch=lambda *all: functools.reduce(torch.maximum, all)),
    Case("Max", (A, f32(0.0)), torch=F.relu),
    Case("Max", (A,), torch=lambda a: a * 1),
    Case("Clip", (D, LOW, HIGH), torch=lambda x: x.clamp(float(LOW), float(HIGH))),
    Case("Clip", (D, None, HIGH), torch=lambda x: x.clamp(max=float(HIGH))),
    Case("Clip", (D, LOW), torch=lambda x: x.clamp(min=float(LOW))),
    Case("Clip", (D,), torch=lambda x: x * 1),
    Case("Where", (np.array([True, False, True, True]), Free(("N", 3, 4)), Free((3, 1))),
         torch=lambda a, b: torch.where(torch.tensor([True, False, True, True]), a, b)),
    Case("Where", (MASK, Free(("N", 1, 4)), Free(("N", 3, 4))), torch=lambda a, b: torch.where(torch.tensor(MASK), a, b)),
    Case("Where", (Given(MASK), Free((4,)), Free(())), torch=lambda a, b: torch.where(torch.tensor(MASK), a, b)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


K = Free((3, 5))
TIES = np.array([[0, 0, 1, 2, 2], [1, 0, 1, 0, 2], [0, 0, 0, 0, 0]], np.float64)
OTHER = np.array([[0, 1, 1, 2, 0], [1, 1, 0, 0, 2], [0, 1, 0, 1, 0]], np.float64)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_ties_are_shared_as_torch_shares_them(op: str) -> None:
    function = torch.maximum if op == "Max" else torch.minimum
    check_at(Case(op, (K, K), torch=function), TIES, OTHER)
    check_at(Case(op, (K, f32(1.0)), torch=lambda x: function(x, torch.ones((), dtype=torch.float64))), TIES)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_a_tie_of_three_is_shared_by_three(op: str) -> None:
    """torch has no such function; amax over a stack shares alike."""
    choose = torch.amax if op == "Max" else torch.amin
    check_at(Case(op, (K, K, K), torch=lambda *all: choose(torch.stack(all), 0)), TIES, OTHER, TIES * 0 + 1)


def test_clip_at_its_bounds_is_relu6() -> None:
    x = np.array([[-1, 0, 0, 3, 6], [6, 6, 7, 0, -2], [5.9, 6.1, 0.1, -0.1, 0]], np.float32).astype(np.float64)
    check_at(Case("Clip", (K, np.array(0, np.float32), np.array(6, np.float32)), torch=F.relu6), x)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, 1.5])
def test_powers_of_zero(power: float) -> None:
    check_at(Case("Pow", (K, f32(power)), torch=lambda x: x**power), TIES)


def test_abs_at_zero() -> None:
    check_at(Case("Abs", (K,), torch=torch.abs), TIES - 1)


@pytest.mark.parametrize("order", [("x", "s"), ("s", "x")], ids="".join)
@pytest.mark.parametrize("shape", [("N", 7), ("N", 3, 5, 4), ("N", 16, 3, 3)], ids=str)
def test_a_swish_of_two_operators_has_one_way_back(order: Sequence[str], shape: tuple[int | str, ...]) -> None:
    model = graph_model(
        [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", order, ["y"])], {"x": shape}
    )
    check_graph(model)
    gradient, size = Gradient(model, "x", "swish"), [3, *shape[1:]]
    x = np.random.default_rng(0).standard_normal(size) * 4  # type: ignore[arg-type]
    _, want = torch_gradient(F.silu, [x], None)
    np.testing.assert_allclose(gradient.same({"x": x, "dy": np.ones_like(x)}), want, rtol=1e-12, atol=1e-12)
    assert [n.op_type for n in gradient.model.graph.node].count("Mul") == 3  # y itself, and two of its gradient


def test_a_gate_that_is_read_elsewhere_too() -> None:
    """The sigmoid's other reader sends its own part back."""
    nodes = [
        helper.make_node(*of)
        for of in (("Sigmoid", ["x"], ["s"]), ("Mul", ["x", "s"], ["m"]), ("Add", ["m", "s"], ["y"]))
    ]
    model, x = graph_model(nodes, {"x": ("N", 6)}), np.random.default_rng(0).standard_normal((3, 6))
    _, want = torch_gradient(lambda v: F.silu(v) + torch.sigmoid(v), [x], None)
    np.testing.assert_allclose(Gradient(model, "x", "gate").same({"x": x, "dy": np.ones_like(x)}), want, rtol=1e-12)


def test_a_target_at_the_gate_gets_its_own_part() -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    model = ir.from_proto(onnx.shape_inference.infer_shapes(graph_model(nodes, {"x": (2, 6)})))
    graph, shapes = model.graph, measure(model)
    dy = ir.Value(name="dy", shape=ir.Shape([2, 6]), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(dy)
    gate = next(value for node in graph for value in node.outputs if value.name == "s")
    graph.outputs.extend(propagate(graph, graph.outputs[0], dy, [gate, graph.inputs[0]], vjp, shapes))
    x = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    results: Any = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x, "dy": np.ones_like(x)})
    at_gate, at_x = (np.asarray(result) for result in results[1:])
    np.testing.assert_allclose(at_gate, x)
    _, want = torch_gradient(F.silu, [x.astype(np.float64)], None)
    np.testing.assert_allclose(at_x, want, rtol=1e-5, atol=1e-6)
