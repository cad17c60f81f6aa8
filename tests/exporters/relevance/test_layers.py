"""Every rule on every linear operator with weights, against the dense oracle: `layer_rules.py`, `layer.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ..vjp.harness import f32, ints, weights
from .dense import Linear, propagate
from .layers import LayerCase, check, rules_of
from .running import Relevance, composite_of

W = weights(3)


def conv(*shape: int, out: int, kernel: tuple[int, ...], bias: bool = True, **attributes: Any) -> LayerCase:
    group = attributes.get("group", 1)
    constants = (W(out, shape[0] // group, *kernel), *([W(out)] if bias else []))
    return LayerCase("Conv", ("N", *shape), constants, attributes)


def transposed(*shape: int, out: int, kernel: tuple[int, ...], bias: bool = True, **attributes: Any) -> LayerCase:
    group = attributes.get("group", 1)
    constants = (W(shape[0], out // group, *kernel), *([W(out)] if bias else []))
    return LayerCase("ConvTranspose", ("N", *shape), constants, attributes)


CASES = [
    conv(2, 5, 6, out=3, kernel=(3, 3), pads=[1] * 4),
    conv(2, 5, 6, out=3, kernel=(3, 3), bias=False),
    conv(2, 7, 5, out=3, kernel=(3, 2), strides=[2, 3], pads=[0, 1, 2, 1]),
    conv(2, 6, 7, out=2, kernel=(3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    conv(2, 6, 7, out=2, kernel=(2, 3), strides=[1, 2], auto_pad="SAME_LOWER"),
    conv(4, 5, 5, out=6, kernel=(3, 3), group=2, pads=[1] * 4),
    conv(4, 5, 5, out=4, kernel=(3, 3), group=4, strides=[2, 2], pads=[1] * 4),  # depthwise
    conv(3, 4, 5, out=6, kernel=(3, 3), group=3, pads=[1] * 4, bias=False),  # two outputs per channel
    conv(2, 7, 7, out=3, kernel=(3, 3), dilations=[2, 2], pads=[2, 1, 0, 2]),
    conv(3, 4, 4, out=3, kernel=(1, 1)),
    conv(3, 5, 5, out=2, kernel=(1, 1), strides=[2, 2]),  # pixels that nothing reads
    conv(3, 9, out=2, kernel=(3,), strides=[2], pads=[1, 1]),
    conv(1, 3, 4, 4, out=2, kernel=(2, 2, 2), strides=[1, 2, 1]),
    transposed(3, 3, 4, out=2, kernel=(3, 3), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    transposed(3, 4, 3, out=2, kernel=(2, 3), bias=False),
    transposed(4, 3, 3, out=6, kernel=(3, 3), group=2, strides=[2, 1], pads=[0, 1, 1, 0]),
    transposed(2, 3, 3, out=2, kernel=(2, 2), strides=[3, 3]),  # outputs that nothing reaches
    LayerCase("Gemm", ("N", 5), (W(5, 4), W(4))),
    LayerCase("Gemm", ("N", 5), (W(5, 4),)),
    LayerCase("Gemm", ("N", 5), (W(4, 5), W(1, 4)), {"transB": 1}),
    LayerCase("Gemm", ("N", 4), (W(4, 4), W(4)), {"transB": 1}),
    LayerCase("Gemm", ("N", 5), (W(5, 4),), added=W(4)),
    LayerCase("Gemm", ("N", 5), (W(4, 5),), {"transB": 1, "alpha": 0.5}, added=W(1, 4)),
    LayerCase("Conv", ("N", 2, 5, 6), (W(3, 2, 3, 3),), {"pads": [1] * 4}, added=W(1, 3, 1, 1)),
    LayerCase("Conv", ("N", 4, 5, 5), (W(4, 1, 3, 3),), {"group": 4}, added=W(4, 1, 1)),
    LayerCase("ConvTranspose", ("N", 4, 3, 3), (W(4, 3, 2, 2),), {"group": 2, "strides": [2, 2]}, added=W(1, 6, 1, 1)),
    LayerCase("MatMul", ("N", 5), (W(5, 4),)),
    LayerCase("MatMul", ("N", 3, 5), (W(5, 4),), added=W(4)),
    LayerCase("MatMul", ("N", 2, 3, 4), (W(4, 4),), added=W(1, 1, 4)),
    LayerCase(
        "MatMul", ("N", 4, 5), (W(5, 3),), added=W(3),
        between=(("Reshape", ints(-1, 2, 2, 3), {}), ("Transpose", None, {"perm": [0, 2, 1, 3]}))),
    LayerCase("MatMul", ("N", 1, 5), (W(5, 3),), added=W(1, 3), between=(("Squeeze", ints(1), {}),)),
    LayerCase("MatMul", ("N", 4, 3), (W(5, 4),), position=1),
    LayerCase("MatMul", ("N", 2, 3, 4), (W(2, 4, 3),)),
    LayerCase("Einsum", ("N", 3, 5), (W(5, 4),), {"equation": "bti,io->bto"}),
    LayerCase("Einsum", ("N", 3, 5), (W(4, 5),), {"equation": "oi,bti->bto"}, position=1, added=W(4)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case: LayerCase) -> None:
    check(case)


SCALED = [
    LayerCase("Gemm", ("N", 5), (W(5, 4), W(4)), {"alpha": 0.5, "beta": 2.0}),
    LayerCase("Gemm", (5, "N"), (W(4, 5), W(4)), {"transA": 1, "transB": 1, "alpha": 1.5}),
    LayerCase("Gemm", (5, "N"), (W(5, 4), W(4)), {"transA": 1, "beta": 0.25}),
]


@pytest.mark.parametrize("case", SCALED, ids=str)
def test_gemm_with_factors(case: LayerCase) -> None:
    check(case)


def test_a_weight_that_is_nowhere_negative() -> None:
    check(LayerCase("Conv", ("N", 2, 5, 5), (np.abs(W(3, 2, 3, 3)), W(3)), {"pads": [1] * 4}))
    check(LayerCase("Gemm", ("N", 5), (np.abs(W(5, 4)),)))


def test_denominators_of_zero() -> None:
    """Shares that cancel exactly, inputs of 0, weights of 0: nothing is shared out there, or epsilon stands alone."""
    w = f32([1, 1, -2, 0, 1], [1, -1, 2, 0, 0], [0, 0, 0, 0, 0])  # inputs (rows) to outputs
    case = LayerCase("Gemm", ("N", 3), (w, f32(0, 0, 0, 0, -1)))
    rules = [rule for rule in rules_of(case) if rule["rule"] != "flat"]  # the oracle tells connections by their weights
    relevance = Relevance(case.network(False), [composite_of({"Gemm": rule}) for rule in rules])
    layer, _ = case.linear(1)
    for x in ([1, -1, 3], [1, 1, 0], [0, 0, 0], [0, 0, 5], [-2, -1, 0.5]):
        image, r = np.array([x], np.float64), np.array([[1.0, -2, 3, 4, 5]])
        for where in ("exact", *relevance.runtimes):
            feeds = {"x": image, "r": r}
            got = relevance.exact(feeds) if where == "exact" else relevance.on(where, feeds)
            for k, rule in enumerate(rules):
                want = propagate(layer, rule, image[0], r[0])[None]
                size = max(float(np.abs(want).max()), 1e-3)
                assert np.abs(got[f"{k}/x"] - want).max() <= 2e-6 * size, f"{x}, {dict(rule)}, {where}"


def test_a_larger_constant_is_no_bias() -> None:
    """[N,1,5] W + a constant [1,4,3] makes four rows of one: R of the row is the sum of what came back, shared without a bias."""
    w, added = W(5, 3), W(1, 4, 3)
    case = LayerCase("MatMul", ("N", 1, 5), (w,), added=added)
    rule = {"rule": "epsilon", "epsilon": 0.1, "bias": "include"}
    relevance = Relevance(case.network(False), [composite_of({"MatMul": rule})])
    x, r = np.random.default_rng(0).standard_normal((2, 1, 5)), np.random.default_rng(1).standard_normal((2, 4, 3))
    layer = Linear(w.T.astype(np.float64), np.zeros(3))
    want = np.stack([propagate(layer, rule, a[0], b.sum(axis=0))[None] for a, b in zip(x, r, strict=True)])
    np.testing.assert_allclose(relevance.exact({"x": x, "r": r})["0/x"], want, rtol=1e-9)
