"""Matrix products: `linear.py`, `weights.py`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from .harness import RUNTIMES, Array, Case, Free, check, check_graph, double, gradient_model, graph_model, weights

W = weights()
A46, B6, A66 = W(4, 6), W(6), W(6, 6)


def einsum(equation: str, *inputs: Free) -> Case:
    return Case("Einsum", inputs, {"equation": equation}, torch=lambda *t: torch.einsum(equation, *t))


CASES = [
    Case("Gemm", (Free(("N", 4)), A46, B6), torch=lambda a: a @ double(A46) + double(B6)),
    Case("Gemm", (Free(("N", 4)), W(6, 4)), {"transB": 1}),
    Case("Gemm", (Free(("N", 6)), A66, B6), {"transB": 1}, torch=lambda a: a @ double(A66).T + double(B6)),
    Case("Gemm", (Free(("N", 6)), A66)),
    Case("Gemm", (Free(("N", 4)), W(4, 6), W(1, 6)), {"alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (Free((4, 3)), Free((4, 6)), Free((6,))), {"transA": 1, "alpha": 0.5, "beta": 2.0},
         torch=lambda a, b, c: 0.5 * (a.T @ b) + 2 * c),
    Case("Gemm", (Free((4, 3)), Free((6, 4)), Free((3, 1))), {"transA": 1, "transB": 1, "alpha": 0.5},
         torch=lambda a, b, c: 0.5 * (a.T @ b.T) + c),
    Case("Gemm", (Free((3, 4)), Free((6, 4)), Free((1, 6))), {"transB": 1, "alpha": 0.5, "beta": 0.25},
         torch=lambda a, b, c: 0.5 * (a @ b.T) + c / 4),
    Case("Gemm", (Free((3, 4)), Free((4, 6)), Free((3, 6))), {"beta": 0.25}, torch=lambda a, b, c: a @ b + c / 4),
    Case("Gemm", (Free((3, 4)), Free((4, 6)), Free(())), torch=lambda a, b, c: a @ b + c),
    Case("MatMul", (Free(("N", 3, 4)), A46), torch=lambda a: a @ double(A46)),
    Case("MatMul", (Free(("N", 3, 6)), A66), torch=lambda a: a @ double(A66)),
    Case("MatMul", (A66, Free(("N", 6, 3))), torch=lambda b: double(A66) @ b),
    Case("MatMul", (Free(("N", 2, 3, 4)), Free(("N", 2, 4, 5))), torch=torch.matmul),
    Case("MatMul", (Free(("N", 2, 4, 4)), Free(("N", 2, 4, 4))), torch=torch.matmul),
    Case("MatMul", (Free(("N", 2, 3, 4)), Free((4, 5))), torch=torch.matmul),
    Case("MatMul", (Free((3, 4)), Free(("N", 2, 4, 5))), torch=torch.matmul),
    Case("MatMul", (Free(("N", 1, 3, 4)), Free((2, 4, 5))), torch=torch.matmul),
    Case("MatMul", (Free((2, 1, 3, 4)), Free((5, 4, 2))), torch=torch.matmul),
    Case("MatMul", (Free((4,)), Free(("N", 4, 5))), torch=torch.matmul),
    Case("MatMul", (Free(("N", 3, 4)), Free((4,))), torch=torch.matmul),
    Case("MatMul", (Free((4,)), Free((4, 5))), torch=torch.matmul),
    Case("MatMul", (Free((4,)), Free((4,))), torch=torch.matmul),
    Case("MatMul", (W(5, 3), Free(("N", 3, 4)))),
    einsum("bij,bjk->bik", Free(("N", 3, 4)), Free(("N", 4, 5))),
    einsum("bij, bkj -> bik", Free(("N", 3, 4)), Free(("N", 5, 4))),
    einsum("ij,jk", Free((3, 4)), Free((4, 5))),
    einsum("ba,cb", Free((3, 4)), Free((5, 3))),  # implicit: letters sorted
    einsum("...ij,...jk->...ik", Free(("N", 2, 3, 4)), Free(("N", 2, 4, 5))),
    einsum("...ij,jk->...ik", Free(("N", 2, 3, 4)), Free((4, 5))),
    einsum("...ij,...jk", Free(("N", 3, 4)), Free(("N", 4, 5))),
    einsum("...i->...", Free(("N", 3, 4))),
    einsum("bij->bi", Free(("N", 3, 4))),  # a lone letter
    einsum("bij->jb", Free(("N", 3, 4))),
    einsum("ij->", Free((3, 4))),
    einsum("i,j->ij", Free((3,)), Free((4,))),
    einsum("ij,kl,j->ik", Free((3, 4)), Free((5, 6)), Free((4,))),
    einsum("bhid,bhjd->bhij", Free(("N", 2, 3, 4)), Free(("N", 2, 5, 4))),
    einsum("bij,bij->bj", Free(("N", 1, 4)), Free(("N", 3, 4))),  # a broadcast letter
    einsum("bii->bi", Free(("N", 3, 3))),  # diagonals
    einsum("bii->b", Free(("N", 3, 3))),
    einsum("bij,bjj->bi", Free(("N", 2, 3)), Free(("N", 3, 3))),
    einsum("iik,kj->ij", Free((3, 3, 2)), Free((2, 4))),
    einsum("iii->i", Free((3, 3, 3))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_a_square_weight_is_read_both_ways(size: int) -> None:
    """Forward as it is, backward transposed, with the forward result in use: OpenVINO must not mix up the two."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Mul", ["h", "h"], ["s"]),
        helper.make_node("Gemm", ["s", "w", "b"], ["g"]),
        helper.make_node("Mul", ["g", "g"], ["q"]),
        helper.make_node("Einsum", ["q", "v"], ["e"], equation="ni,oi->no"),
        helper.make_node("Mul", ["e", "e"], ["y"]),
    ]
    check_graph(graph_model(nodes, {"x": ["N", size]}, {"w": W(size, size), "v": W(size, size), "b": W(size)}))


@pytest.mark.parametrize(("op", "tokens"), [("Gemm", ()), *itertools.product(("MatMul", "Einsum"), ((), (1,), (5,)))])
def test_codes_with_a_scale_for_each_class(op: str, tokens: tuple[int, ...]) -> None:
    """y = x W^T, W = s (q - z) with one s a row: dx = dy W. OpenVINO alone would take the first row's scale for all."""
    rng = np.random.default_rng(0)
    q, z = rng.integers(-127, 128, (4, 6)).astype(np.int8), np.array([0, 3, -5, 0], np.int8)
    s = np.array([0.01, 0.002, 0.05, 0.02], np.float32)
    columns = op == "MatMul"  # W^T is stored
    every: dict[str, dict[str, Any]] = {"Gemm": {"transB": 1}, "MatMul": {}, "Einsum": {"equation": "...i,oi->...o"}}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=int(columns)),
        helper.make_node(op, ["x", "w"], ["y"], **every[op]),
    ]
    constants: dict[str, Array] = {"q": np.ascontiguousarray(q.T) if columns else q, "s": s, "z": z}
    model = gradient_model(graph_model(nodes, {"x": ["N", *tokens, 6]}, constants), "x")
    weight = (q.astype(np.float64) - z[:, None]) * s[:, None]
    for batch, (name, make) in itertools.product((1, 3), RUNTIMES.items()):
        x, dy = (rng.standard_normal((batch, *tokens, d)).astype(np.float32) for d in (6, 4))
        got = make(model, "dx")({"x": x, "dy": dy})
        np.testing.assert_allclose(got, dy @ weight, rtol=0, atol=1e-6 * np.abs(dy @ weight).max(), err_msg=name)


def test_attention() -> None:
    """softmax(Q K^T) V, all three from one tensor."""
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["Q"]),
        helper.make_node("MatMul", ["x", "k"], ["K"]),
        helper.make_node("Transpose", ["K"], ["KT"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["Q", "KT"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["a"], axis=-1),
        helper.make_node("MatMul", ["a", "x"], ["y"]),
    ]
    check_graph(graph_model(nodes, {"x": ["N", 5, 4]}, {"q": W(4, 4), "k": W(4, 4)}))
