"""Relevance through ONNX Runtime's own operators, once they are written in standard ones: against matrices of its own kernels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from ..passes.test_fused_regions import CASES, embedding, grouped, written
from ..vjp.harness import Array, graph_model, onnxruntime_function, reference, to_float64, weights
from .running import Relevance, composite_of, distance

TOLERANCE = {"reference": 1e-9, "float32": 1e-4}
EPSILON = {"rule": "epsilon", "epsilon": 0.0, "bias": "include"}
LINEAR = composite_of({"MatMul": EPSILON}, base="none")
W = weights(7)


def compare(
    relevance: Relevance, feeds: dict[str, Array], want: Array, exactly: float = TOLERANCE["reference"]
) -> None:
    for where in ("exact", *relevance.runtimes):
        got = (relevance.exact(feeds) if where == "exact" else relevance.on(where, feeds))["0/x"]
        assert distance(got, want) <= (exactly if where == "exact" else TOLERANCE["float32"]), where


@pytest.mark.parametrize("name", ["NF4", "FP4, a block across rows"])
def test_weights_of_four_bits(name: str) -> None:
    """R_i = x_i sum_j w_ij R_j / y_j; w is what ONNX Runtime's kernel does to unit vectors."""
    model = CASES[name]
    kernel = onnxruntime_function(model, "y")
    units = np.eye(33, 32, dtype=np.float32).reshape(11, 3, 32)
    w = kernel({"x": units}).reshape(33, 6)[:32].astype(np.float64)
    x, r = W(2, 3, 32).astype(np.float64), W(2, 3, 6).astype(np.float64)
    y = x @ w
    r = r * np.abs(y)  # nothing divides by what is nearly 0
    want = x * ((r / y) @ w.T)
    compare(Relevance(written(model), [LINEAR]), {"x": x, "r": r}, want, 1e-6)


def test_words_added_to_signals_take_nothing() -> None:
    """y = x e with e of a table: all of it is x's."""
    model = written(embedding(False))
    x, r = W(3, 5, 8).astype(np.float64), W(3, 5, 8).astype(np.float64)
    compare(Relevance(model), {"x": x, "r": r}, r)


def plain_attention(heads: int, shared: int, size: int, given: dict[str, Array]) -> list[onnx.NodeProto]:
    """The same attention in standard operators, written here by hand."""
    nodes: list[onnx.NodeProto] = []
    for name, count in (("q", heads), ("k", shared), ("v", shared)):
        nodes += [
            helper.make_node("MatMul", ["x", f"w{name}"], [f"{name}0"]),
            helper.make_node("Reshape", [f"{name}0", f"s{name}"], [f"{name}1"]),
            helper.make_node("Transpose", [f"{name}1"], [f"{name}2"], perm=[0, 2, 1, 3]),
        ]
        given[f"s{name}"] = np.array([3, 5, count, size])
        if name != "q":
            given["times"] = np.repeat(np.arange(shared), heads // shared)
            nodes.append(helper.make_node("Gather", [f"{name}2", "times"], [f"{name}3"], axis=1))
    given |= {
        "scale": np.array(1 / np.sqrt(size), np.float32),
        "ahead": np.where(np.tri(5, dtype=bool), 0, -1e30).astype(np.float32),
        "out": np.array([3, 5, heads * size]),
    }
    return [
        *nodes,
        helper.make_node("Transpose", ["k3"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q2", "kt"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["s1"]),
        helper.make_node("Add", ["s1", "ahead"], ["s2"]),
        helper.make_node("Softmax", ["s2"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v3"], ["y0"]),
        helper.make_node("Transpose", ["y0"], ["y1"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["y1", "out"], ["y"]),
    ]


@pytest.mark.parametrize(("heads", "shared"), [(4, 2), (2, 2)])
def test_grouped_queries(heads: int, shared: int) -> None:
    """As through the attention of standard operators, and as ONNX Runtime's kernel computes it."""
    model = grouped(heads, shared)
    given = {tensor.name: np.frombuffer(tensor.raw_data, np.float32).reshape(tensor.dims) for tensor in model.graph.initializer
             if tensor.name in ("wq", "wk", "wv")}  # fmt: skip
    plain = graph_model(plain_attention(heads, shared, 16, given), {"x": [3, 5, 6]}, given)
    x = W(3, 5, 6).astype(np.float64)
    kernel = onnxruntime_function(model, "y")({"x": x.astype(np.float32)})
    y = reference(to_float64(plain), "y")({"x": x})
    np.testing.assert_allclose(kernel, y, rtol=0, atol=1e-5 * np.abs(y).max())
    r = W(*y.shape).astype(np.float64) * np.abs(y)
    want = Relevance(plain, [LINEAR]).exact({"x": x, "r": r})["0/x"]
    assert np.abs(want).max() > 1e-3
    compare(Relevance(written(model), [LINEAR]), {"x": x, "r": r}, want, 1e-5)
