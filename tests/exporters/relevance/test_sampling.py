"""Operators that add up values of other places: GridSample, Col2Im; products of more than two operands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ..vjp.harness import Array, f32, ints, weights
from .layers import LayerCase, check
from .running import Relevance, composite_of
from .test_poolings import agree, draw, net, node

PLACES = weights(3)(1, 2, 3, 2)
RULES = [{"rule": name} for name in ("zero", "z-plus", "proportional", "gamma", "alpha-beta")]
LINEAR = [
    LayerCase("GridSample", (1, 2, 3, 4), (PLACES,), {"mode": "bilinear", "padding_mode": "border"}),
    LayerCase("Col2Im", ("N", 8, 6), (ints(3, 4), ints(2, 2))),
]


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_as_a_dense_layer(case: LayerCase) -> None:
    check(case, rules=RULES)


@pytest.mark.parametrize("op", ["GridSample", "Resize"])
def test_a_cubic_kernel_shares_positive_values_as_a_linear_one(op: str) -> None:
    """Its weights of both signs would make the sum that is divided by as small as it likes."""
    x = np.maximum(draw(1, 2, 3, 4), 0)
    if op == "Resize":
        linear, cubic = (node(op, "x roi scales", mode=mode) for mode in ("linear", "cubic"))
        constants: dict[str, Array] = {"roi": f32(), "scales": f32(1, 1, 2, 2)}
    else:
        linear, cubic = (node(op, "x grid", mode=mode) for mode in ("bilinear", "bicubic"))
        constants = {"grid": PLACES}
    r = draw(1, 2, *((6, 8) if op == "Resize" else (2, 3)), seed=1)
    feeds, inputs = {"x": x, "r": r}, {"x": [1, 2, 3, 4]}
    want = Relevance(net(linear, inputs=inputs, **constants)).exact(feeds)["0/x"]
    agree(Relevance(net(cubic, inputs=inputs, **constants)), feeds, x=want)


def test_places_take_nothing() -> None:
    """A grid computed from the image decides where, and is no part of the sum: all relevance is the sampled values'."""
    x, g, r = np.abs(draw(3, 2, 3, 4)) + 0.1, draw(3, 2, 3, 2, seed=1), draw(3, 2, 2, 3, seed=2)
    grid, values = torch.from_numpy(np.tanh(g)), torch.from_numpy(x).requires_grad_()
    y = F.grid_sample(values, grid, align_corners=False, padding_mode="border")
    y.backward(torch.from_numpy(r) / y.detach())  # type: ignore[no-untyped-call]
    assert values.grad is not None
    want = x * values.grad.numpy()
    np.testing.assert_allclose(want.sum((1, 2, 3)), r.sum((1, 2, 3)))  # conserved
    nodes = [node("Tanh", "g", "grid"), node("GridSample", "x grid", padding_mode="border")]
    model = net(*nodes, inputs={"x": ["N", 2, 3, 4], "g": ["N", 2, 3, 2]})
    agree(
        Relevance(model, [composite_of({}), composite_of({}, base="relevance-cam")]), {"x": x, "g": g, "r": r}, x=want
    )


def test_a_product_of_three_shares_by_three() -> None:
    a, b, c, r = (draw(3, 4, seed=i) for i in range(4))
    a, b, c = (np.abs(v) + 0.1 for v in (a, b, c))
    model = net(node("Einsum", "x b c", equation="ni,ni,ni->ni"), inputs={"x": ["N", 4], "b": ["N", 4], "c": ["N", 4]})
    share: Array = r * a * b * c / (a * b * c + 1e-6) / 3  # the epsilon rule
    agree(Relevance(model, targets=("x", "b", "c")), {"x": a, "b": b, "c": c, "r": r}, x=share, b=share, c=share)


def test_a_signal_times_two_weights_takes_all() -> None:
    x, r, W = np.abs(draw(3, 4)), draw(3, 2, seed=1), weights(1)
    v, w = np.abs(W(4, 5)), np.abs(W(5, 2))
    model = net(node("Einsum", "x v w", equation="ni,ij,jk->nk"), inputs={"x": ["N", 4]}, v=v, w=w)
    whole = v.astype(np.float64) @ w
    agree(Relevance(model), {"x": x, "r": r}, x=x * ((r / (x @ whole + 1e-6)) @ whole.T))


def test_a_diagonal_is_a_sum_of_one_operand() -> None:
    x, r = np.abs(draw(3, 4, 4)) + 0.1, draw(3, seed=1)
    diagonal = x * np.eye(4)
    want = diagonal / diagonal.sum((1, 2), keepdims=True) * r[:, None, None]
    agree(Relevance(net(node("Einsum", "x", equation="nii->n"), inputs={"x": ["N", 4, 4]})), {"x": x, "r": r}, x=want)


PLACES_ALONG = ints([0, 0, 2], [1, 3, 3])


@pytest.mark.parametrize("constant", ["", "x", "u"])
def test_added_values_share(constant: str) -> None:
    """Two of the updates are added at one place; what is a constant takes nothing."""
    x, u, r = np.abs(draw(2, 4)) + 0.1, np.abs(draw(2, 3, seed=1)) + 0.1, draw(2, 4, seed=2)
    onto = np.zeros((2, 3, 4))  # onto[n,i] is where update i goes
    onto[np.arange(2)[:, None], np.arange(3), PLACES_ALONG] = 1
    added = np.einsum("ni,nij->nj", u, onto)
    total = added + (0 if constant == "x" else x)
    share = np.divide(r, total, out=np.zeros_like(r), where=total != 0)
    want = {"x": x * share, "u": u * np.einsum("nj,nij->ni", share, onto)} if constant != "u" else {"x": r}
    want.pop(constant, None)
    feeds = {"x": x, "u": u, "r": r}
    given = {} if not constant else {constant: feeds.pop(constant).astype(np.float32)}
    inputs: dict[str, list[int]] = {key: value for key, value in (("x", [2, 4]), ("u", [2, 3])) if key != constant}
    model = net(node("ScatterElements", "x i u", axis=1, reduction="add"), inputs=inputs, i=PLACES_ALONG, **given)
    agree(Relevance(model, targets=tuple(want)), feeds, **want)
