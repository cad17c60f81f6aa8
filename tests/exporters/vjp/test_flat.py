"""Operators listed as flat stop the walk: of y = x * f(x) only the direct path is differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from xai_exporters.vjp.table import vjp

from .harness import RUNTIMES, Array, evaluate, f32, gradient_model, graph_model, reference

X = f32([0.3, -1.7, 2.6, -0.9], [1.5, 0.2, -2.2, 0.7], [-0.4, 1.1, 0.6, -3.1])
FLOAT = {"to": TensorProto.FLOAT}


def node(op: str, *inputs: str, out: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [out], **attributes)


def truth(op: str, *others: str) -> list[onnx.NodeProto]:
    return [node(op, "x", *others, out="b"), node("Cast", "b", out="f", **FLOAT)]


def logic(op: str, *others: str) -> list[onnx.NodeProto]:
    steps = [node("Greater", "x", "half", out="p"), node(op, "p", *others, out="b")]
    return [*steps, node("Cast", "b", out="f", **FLOAT)]


def scalar(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Integers of any shape, summed up to one number."""
    return [*nodes, node("Cast", "i", out="n", **FLOAT), node("ReduceSum", "n", out="f", keepdims=0)]


def bits(op: str, *others: str, **attributes: Any) -> list[onnx.NodeProto]:
    """Codes of 8 bits, bit by bit."""
    codes = [node("Abs", "x", out="a"), node("Cast", "a", out="c", to=TensorProto.UINT8)]
    return [*codes, node(op, "c", *others, out="b", **attributes), node("Cast", "b", out="f", **FLOAT)]


GRAPHS: dict[str, list[onnx.NodeProto]] = {
    **{op: [node(op, "x", out="f")] for op in ("Floor", "Ceil", "Round", "Sign", "Hardmax")},
    **{op: bits(op, "three") for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    "BitwiseNot": bits("BitwiseNot"),
    "BitShift": bits("BitShift", "three", direction="LEFT"),
    "NonMaxSuppression": scalar(
        node("Unsqueeze", "x", "axis", out="boxes"),
        node("NonMaxSuppression", "boxes", "scores", "most", "bound", "bound", out="i"),
    ),
    **{op: truth(op, "half") for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{op: truth(op) for op in ("IsNaN", "IsInf")},
    **{op: logic(op, "mask") for op in ("And", "Or", "Xor")},
    "Not": logic("Not"),
    **{op: scalar(node(op, "x", out="i", axis=1)) for op in ("ArgMax", "ArgMin")},
    **{op: scalar(node(op, "x", out="i")) for op in ("Shape", "Size", "NonZero")},
    "EyeLike": [node("EyeLike", "x", out="f")],
    "ConstantOfShape": [node("Shape", "x", out="s"), node("ConstantOfShape", "s", out="f")],
}


def model(op: str) -> onnx.ModelProto:
    constants: dict[str, Array] = {
        "half": np.array(0.5, np.float32), "mask": np.array([True, False, True, False]), "zero": np.array(0, np.int64),
        "three": np.array(3, np.uint8), "axis": np.array([0]), "scores": np.full((1, 1, 3), 0.5, np.float32),
        "most": np.array([3]), "bound": f32(0.5), "one": np.array(1, np.int64), "depth": np.array(4, np.int64), "values": f32(0, 1),
    }  # fmt: skip
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in GRAPHS[op]]
    nodes.append(node("Mul", "x", "f", out="y"))
    used = {name for n in nodes for name in n.input}
    return graph_model(nodes, {"x": [3, 4]}, {k: v for k, v in constants.items() if k in used})


def test_every_flat_operator_is_here() -> None:
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert {op for op in standard if vjp.stops(ir.node(op, []).outputs[0], ())} == set(GRAPHS)


@pytest.mark.parametrize("op", GRAPHS)
def test_only_the_direct_path_counts(op: str) -> None:
    forward = model(op)
    gradient = gradient_model(forward, "x")
    added = [n.op_type for n in gradient.graph.node[len(forward.graph.node) :]]
    assert added == ["Mul", "Identity"], "something goes through it"
    dy = np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)
    f = evaluate(forward, {"x": X}, "y") / X
    wanted = dy * f
    for name, make in {**RUNTIMES, "reference": reference}.items():
        np.testing.assert_allclose(make(gradient, "dx")({"x": X, "dy": dy}), wanted, atol=1e-5, err_msg=name)
