"""Tensors made out of a few numbers: a Range is a sum of two terms, a OneHot copies two values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from ..vjp.harness import f32
from .running import Relevance
from .test_poolings import Array, agree, draw, net, node

INDICES = np.array([[0, 2, -1], [1, 3, 0]])


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("batch", [1, 3])
def test_one_hot_copies_its_values(axis: int, batch: int) -> None:
    """y = B v with B a matrix of zeros and ones: R_v = v B^T (R / y), the zero rule of a dense layer, and nothing is lost."""
    x, indices = np.array([0.7, -1.3]), np.repeat(INDICES[None], batch, 0)
    model = net(node("OneHot", "indices depth x", axis=axis), inputs={"x": [2]}, indices=indices, depth=np.array(4))
    on = np.moveaxis(np.eye(4)[indices % 4], -1, axis)
    matrix = np.stack([1 - on.reshape(-1), on.reshape(-1)], axis=1)
    r = draw(*on.shape, seed=1)
    want = x * (matrix.T @ (r.reshape(-1) / (matrix @ x)))
    np.testing.assert_allclose(want.sum(), r.sum())
    agree(Relevance(model), {"x": x, "r": r}, x=want)


def test_indices_take_nothing() -> None:
    """Classes chosen by the image: all relevance is the values'."""
    nodes = [node("ArgMax", "x", "i", axis=1, keepdims=0), node("OneHot", "i depth v")]
    model = net(*nodes, inputs={"x": ["N", 4], "v": [2]}, depth=np.array(4))
    x, v, r = draw(3, 4), np.array([0.5, 2.0]), draw(3, 4, seed=1)
    on = np.eye(4)[x.argmax(1)]
    agree(
        Relevance(model, targets=("v",)), {"x": x, "v": v, "r": r}, v=np.array([(r * (1 - on)).sum(), (r * on).sum()])
    )


def span(start: float, delta: float, limit: float, free: tuple[str, ...]) -> onnx.ModelProto:
    """A Range of 4 values whose start and step are constants, or an input of 0 more than that: its length is measured at 0."""
    given = {"start": start, "delta": delta, "limit": limit}
    nodes = [node("Add", f"more_{name} least_{name}", name) for name in free]
    constants = {f"least_{name}" if name in free else name: np.array(v, np.float32) for name, v in given.items()}
    ends = node("Range", "start limit delta")
    return net(*nodes, ends, inputs={f"more_{name}": [] for name in free}, **constants)


def shares(terms: dict[str, Array], r: Array) -> dict[str, Array]:
    """R_i = sum of z_i R / sum z: the zero rule of a dense layer."""
    total = sum(terms.values())
    return {name: np.where(total == 0, 0, z * r / np.where(total == 0, 1, total)).sum() for name, z in terms.items()}


NONE = {"more_start": np.array(0.0), "more_delta": np.array(0.0)}


def test_a_range_shares_by_its_terms() -> None:
    """start 0.5, a step of 0.75: both of them signals, and each alone."""
    places, r = np.arange(4.0), draw(4, seed=3)
    terms = {"start": np.full(4, 0.5), "delta": places * 0.75}
    both = shares(terms, r)
    np.testing.assert_allclose(both["start"] + both["delta"], r.sum())  # conserved
    feeds, numbers = {**NONE, "r": r}, (0.5, 0.75, 3.4)
    agree(Relevance(span(*numbers, free=("start", "delta")), targets=("start", "delta")), feeds, **both)
    agree(Relevance(span(*numbers, free=("start",)), targets=("start",)), feeds, start=r.sum())
    alone = shares({"delta": terms["delta"]}, r)  # the first value does not depend on the step
    np.testing.assert_allclose(alone["delta"], r[1:].sum())
    agree(Relevance(span(*numbers, free=("delta",)), targets=("delta",)), feeds, **alone)


def test_a_value_of_0_gives_nothing() -> None:
    """start -1.5, a step of 0.75: the third value is 0."""
    r = draw(4, seed=3)
    want = shares({"start": np.full(4, -1.5), "delta": np.arange(4) * 0.75}, r)
    assert np.isfinite(list(want.values())).all()
    both = ("start", "delta")
    agree(Relevance(span(-1.5, 0.75, 1.4, free=both), targets=both), {**NONE, "r": r}, **want)


def test_a_constant_one_hot_beside_the_image_takes_nothing() -> None:
    """y = x OneHot(i): all of it is the image's."""
    nodes = [node("OneHot", "i depth values", "e"), node("Mul", "x e")]
    model = net(*nodes, inputs={"x": ["N", 3, 4]}, i=np.array([2, 0, 3]), depth=np.array(4), values=f32(0.5, 2))
    x, r = draw(3, 3, 4), draw(3, 3, 4, seed=1)
    agree(Relevance(model), {"x": x, "r": r}, x=r)
