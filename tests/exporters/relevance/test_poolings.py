"""Poolings, reductions, resizes and sums of tensors as linear layers, against the dense oracle; maxima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from xai_exporters.relevance.composite import load_composite

from ..vjp.harness import f32, graph_model, ints
from .layers import EXACT, FLOAT32, LayerCase, check
from .running import NOTHING, Relevance, composite_of, distance

Array = NDArray[Any]


def average(*shape: int, **attributes: Any) -> LayerCase:
    return LayerCase("AveragePool", ("N", *shape), (), attributes)


def resize(scales: tuple[float, ...], **attributes: Any) -> LayerCase:
    # the product measures a resize's weights in float32
    return LayerCase("Resize", ("N", 2, 3, 4), (None, f32(*scales)), attributes, exact=1e-6)


POOLINGS = [
    average(2, 5, 6, kernel_shape=[2, 2], strides=[2, 2]),
    average(2, 5, 6, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    average(2, 5, 6, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    average(2, 6, 5, kernel_shape=[3, 2], strides=[2, 1], pads=[0, 1, 1, 0]),
    average(2, 6, 5, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    average(2, 6, 6, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    average(2, 9, kernel_shape=[3], strides=[2]),
    average(2, 3, 5, 4, kernel_shape=[2, 3, 2], strides=[1, 2, 2], pads=[0, 1, 0, 1, 1, 0]),
    LayerCase("GlobalAveragePool", ("N", 3, 2, 3, 4)),
    LayerCase("GlobalAveragePool", ("N", 3, 3, 4)),
    LayerCase("ReduceMean", ("N", 3, 3, 4), (ints(2, 3),), {"keepdims": 0}),
    LayerCase("ReduceMean", ("N", 3, 5), (ints(-1),), {"keepdims": 1}),
    LayerCase("ReduceMean", ("N", 3, 5), (ints(1),), {"keepdims": 0}),
    LayerCase("ReduceSum", ("N", 3, 3, 4), (ints(1, 2),), {"keepdims": 0}),
    resize((1, 1, 2, 2), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    resize((1, 1, 2, 2), mode="linear"),
    resize((1, 1, 2, 1.5), mode="linear", coordinate_transformation_mode="align_corners"),
]


@pytest.mark.parametrize("case", POOLINGS, ids=str)
def test_pooling(case: LayerCase) -> None:
    check(case)


IMAGE: tuple[int | str, ...] = ("N", 2, 3, 4)
SUMS = [
    LayerCase("Add", IMAGE, more=(IMAGE,)),
    LayerCase("Add", IMAGE, more=(("N", 2, 1, 1),)),
    LayerCase("Add", ("N", 1, 4), more=(("N", 3, 4),)),
    LayerCase("Sub", IMAGE, more=(IMAGE,)),
    LayerCase("Sub", ("N", 2, 1, 4), more=(IMAGE,)),
    LayerCase("Sum", IMAGE, more=(IMAGE, ("N", 2, 3, 1), IMAGE)),
    LayerCase("Mean", IMAGE, more=(IMAGE, IMAGE)),
]


@pytest.mark.parametrize("case", SUMS, ids=str)
def test_sum(case: LayerCase) -> None:
    check(case)


def net(*nodes: onnx.NodeProto, inputs: Any = None, **constants: Array) -> onnx.ModelProto:
    return graph_model(nodes, inputs or {"x": IMAGE}, constants)


def node(op: str, inputs: str, out: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), out.split(), **attributes)


def agree(relevance: Relevance, feeds: dict[str, Array], **want: Array) -> None:
    """What arrives at the targets: float64, and both runtimes; each of a list of composites gives the same."""
    for where in ("exact", *relevance.runtimes):
        got = relevance.exact(feeds) if where == "exact" else relevance.on(where, feeds)
        for name, array in want.items():
            for key, value in got.items():
                if key.partition("/")[2] == name:
                    error = distance(value, array)
                    assert error <= (EXACT if where == "exact" else FLOAT32), f"{key}, {where}: differs by {error:.2g}"


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def positive_part(x: Array, r: Array, windows: Callable[[Array], Array]) -> Array:
    """x+ r / sum x+ over each window; `windows` gives a value of a window to each place of x. No positive value: nothing."""
    total = windows(np.maximum(x, 0))
    shared: Array = np.maximum(x, 0) * r / np.where(total == 0, np.inf, total)
    return shared


def of_windows(x: Array) -> Array:
    """The sum over each 2 x 2 window, at each of its places."""
    rows = x.reshape(3, 2, 2, 2, 3, 2)
    return np.broadcast_to(rows.sum(axis=(3, 5), keepdims=True), rows.shape).reshape(x.shape)


def of_all(x: Array) -> Array:
    """The sum over all positions, at each of them."""
    return np.broadcast_to(x.sum(axis=(2, 3), keepdims=True), x.shape)


AVERAGES: dict[str, tuple[onnx.NodeProto, dict[str, Array], Callable[[Array], Array]]] = {
    "AveragePool": (node("AveragePool", "x", "p", kernel_shape=[2, 2], strides=[2, 2]), {}, of_windows),
    "GlobalAveragePool": (node("GlobalAveragePool", "x", "p"), {}, of_all),
    "ReduceMean": (node("ReduceMean", "x axes", "p"), {"axes": ints(2, 3)}, of_all),
    "ReduceSum": (node("ReduceSum", "x axes", "p"), {"axes": ints(2, 3)}, of_all),
}


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("last", [False, True])
def test_averages_are_proportional(name: str, last: bool) -> None:
    """x+ / sum x+ before a layer with weights; after the last one x- / sum x- where the average is negative."""
    pooling, constants, windows = AVERAGES[name]
    x, r = draw(3, 2, 4, 6), draw(3, 2, *((2, 3) if name == "AveragePool" else (1, 1)), seed=1)
    x[0, 0] = -np.abs(x[0, 0])
    # a convolution of 1 x 1 by the unit matrix gives R as it is, by the rule epsilon = 0
    end = node("Relu", "p") if last else node("Conv", "p w")
    unit = {} if last else {"w": np.eye(2, dtype=np.float32)[:, :, None, None]}
    model = net(pooling, end, inputs={"x": ["N", 2, 4, 6]}, **constants, **unit)
    spread = np.repeat(np.repeat(r, 4 // r.shape[2], 2), 6 // r.shape[3], 3)
    want = positive_part(x, spread, windows)
    if last:
        want = np.where(windows(x) >= 0, want, positive_part(-x, spread, windows))
    agree(Relevance(model), {"x": x, "r": r}, x=want)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resized_logits_keep_the_relevance_of_negative_classes(mode: str) -> None:
    """Of each place enlarged R goes to what it was made of, whatever the sign: by the columns of the resize itself."""
    case = resize((1, 1, 2, 2), mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    weight = case.linear(1)[0].weight
    x, r = draw(2, 2, 3, 4), draw(2, 2, 6, 8, seed=1)
    x[:, 0] = -np.abs(x[:, 0])
    rows = []
    for image, given in zip(x.reshape(2, -1), r.reshape(2, -1), strict=True):
        parts = weight * image
        sign = np.where(parts.sum(axis=1, keepdims=True) >= 0, 1, -1)
        part = np.maximum(parts * sign, 0)
        rows.append((part / part.sum(axis=1, keepdims=True)).T @ given)
    found = Relevance(case.network(False)).exact({"x": x, "r": r})["0/x"]
    np.testing.assert_allclose(found, np.stack(rows).reshape(x.shape), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), r.sum(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("kernel", [2, 3])
def test_maxima_take_all(kernel: int) -> None:
    """Also where several composites say so by name; overlapping windows add up; the first of several equal ones wins."""
    x = draw(3, 2, 7, 7)
    x[1, 0] = 1  # ties
    steps = (7 - kernel) // 2 + 1
    r = draw(3, 2, steps, steps, seed=1)
    want = np.zeros_like(x)
    for n, c, i, j in np.ndindex(r.shape):
        window = x[n, c, 2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel]
        a, b = np.unravel_index(window.argmax(), window.shape)
        want[n, c, 2 * i + a, 2 * j + b] += r[n, c, i, j]
    model = net(node("MaxPool", "x", kernel_shape=[kernel] * 2, strides=[2, 2]), inputs={"x": ["N", 2, 7, 7]})
    agree(Relevance(model, [NOTHING, composite_of({"MaxPool": "winner-takes-all"})]), {"x": x, "r": r}, x=want)


@pytest.mark.parametrize("pads", [0, 1])
def test_maxima_in_proportion(pads: int) -> None:
    x, r = draw(3, 2, 7, 7), draw(3, 2, 3 + pads, 3 + pads, seed=1)
    model = net(
        node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[pads] * 4), inputs={"x": ["N", 2, 7, 7]}
    )
    above = np.maximum(np.pad(x, [(0, 0), (0, 0), (pads, pads), (pads, pads)]), 0)
    want = np.zeros_like(above)
    for n, c, i, j in np.ndindex(r.shape):
        here = (n, c, slice(2 * i, 2 * i + 3), slice(2 * j, 2 * j + 3))
        want[here] += above[here] / max(above[here].sum(), 1e-30) * r[n, c, i, j]
    want = want[:, :, pads : 7 + pads, pads : 7 + pads]
    agree(Relevance(model, [composite_of({"MaxPool": "proportional"})]), {"x": x, "r": r}, x=want)


@pytest.mark.parametrize("op", ["GlobalMaxPool", "ReduceMax", "ReduceMin"])
def test_maxima_over_everything(op: str) -> None:
    x, r = draw(3, 2, 3, 4), draw(3, 2, 1, 1, seed=1)
    constants = {"axes": ints(2, 3)} if op != "GlobalMaxPool" else {}
    extreme = (np.min if op == "ReduceMin" else np.max)(x, axis=(2, 3), keepdims=True)
    model = net(node(op, "x axes" if constants else "x"), **constants)
    agree(Relevance(model), {"x": x, "r": r}, x=np.where(x == extreme, r, 0))
    if op != "ReduceMin":
        whole = np.maximum(x, 0)
        want = whole / whole.sum(axis=(2, 3), keepdims=True) * r
        agree(Relevance(model, [composite_of({op: "proportional"})]), {"x": x, "r": r}, x=want)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_the_larger_of_two_tensors_takes_all(op: str) -> None:
    a, b, r = draw(3, 2, 3, 4), draw(3, 2, 3, 1, seed=1), draw(3, 2, 3, 4, seed=2)
    model = net(node(op, "x b"), inputs={"x": IMAGE, "b": ["N", 2, 3, 1]})
    won = a > b if op == "Max" else a < b
    feeds = {"x": a, "b": b, "r": r}
    want = {"x": np.where(won, r, 0), "b": np.where(won, 0, r).sum(axis=3, keepdims=True)}
    agree(Relevance(model, targets=("x", "b")), feeds, **want)
    with_constant = net(node(op, "c x"), c=f32(0.1))  # an activation
    agree(Relevance(with_constant), {"x": a, "r": r}, x=r)


def test_logarithms_of_sums_share_by_their_terms() -> None:
    x, r = np.abs(draw(3, 2, 3, 4)) + 0.1, draw(3, 2, 3, 4, seed=1)[:, :, :1, :1]
    for op, terms in (("ReduceLogSum", x), ("ReduceLogSumExp", np.exp(x))):
        want = r * terms / terms.sum(axis=(2, 3), keepdims=True)
        agree(Relevance(net(node(op, "x axes"), axes=ints(2, 3))), {"x": x, "r": r}, x=want)


def test_a_product_shares_equally() -> None:
    x, r = draw(3, 2, 3, 4), draw(3, 2, 3, 4, seed=1)[:, :, 0]
    want = np.broadcast_to(r[:, :, None] / 3, x.shape)
    agree(Relevance(net(node("ReduceProd", "x axes", keepdims=0), axes=ints(2))), {"x": x, "r": r}, x=want)


def test_a_determinant_shares_by_its_terms() -> None:
    """R_ij = x_ij C_ij R / (n det), with the cofactors C = det x^-T; the shares add up to R."""
    x, r = draw(3, 2, 3, 3), draw(3, 2, seed=1)
    cofactors = np.linalg.det(x)[..., None, None] * np.linalg.inv(x).swapaxes(-1, -2)
    want = x * cofactors * (r / (3 * np.linalg.det(x)))[..., None, None]
    np.testing.assert_allclose(want.sum((-1, -2)), r)
    relevance = Relevance(net(node("Det", "x"), inputs={"x": ["N", 2, 3, 3]}), skip=["openvino"])  # it has no Det
    agree(relevance, {"x": x, "r": r}, x=want)


def test_what_is_selected_takes_all() -> None:
    """TopK, Compress and Trilu keep values as they are; what they drop gets nothing."""
    x, r = draw(3, 2, 3, 4), draw(3, 2, 3, 2, seed=1)
    order = np.argsort(-x, axis=3)[..., :2]
    want = np.zeros_like(x)
    np.put_along_axis(want, order, r, 3)
    agree(Relevance(net(node("TopK", "x k", "y i"), k=ints(2))), {"x": x, "r": r}, x=want)
    want = np.zeros_like(x)
    want[..., [1, 3]] = r
    mask = np.array([False, True, False, True])
    agree(Relevance(net(node("Compress", "x mask", axis=3), mask=mask)), {"x": x, "r": r}, x=want)
    r = draw(3, 2, 3, 4, seed=1)
    agree(Relevance(net(node("Trilu", "x", upper=0))), {"x": x, "r": r}, x=np.tril(r))


@pytest.mark.parametrize("name", ["epsilon-plus", "epsilon-gamma-box", "epsilon-alpha2-beta1"])
def test_a_sum_shares_as_the_average_of_zennits_composites(name: str) -> None:
    """sum x / 12 is the mean of x: R_i = x_i R / (sum x + 1e-6 sign) of either, also of values of both signs."""
    x, r = draw(3, 2, 3, 4), draw(3, 2, 1, 1, seed=1)
    whole = x.sum(axis=(2, 3), keepdims=True)
    written = net(node("ReduceSum", "x axes", "s"), node("Div", "s d", "y"), axes=ints(2, 3), d=f32(12))
    average = net(node("ReduceMean", "x axes"), axes=ints(2, 3))
    for model in (written, average):
        found = Relevance(model, [load_composite(name)]).exact({"x": x, "r": r})["0/x"]
        np.testing.assert_allclose(found, x * r / whole, rtol=1e-4)
