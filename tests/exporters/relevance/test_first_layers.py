"""The rules of first layers, in graphs that start at the image: which layers they are, and z-box's bounds of the image."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xai_exporters.errors import RuleError
from xai_exporters.relevance.composite import Composite, parse_composite
from xai_exporters.relevance.graph import relevance_graph

from ..vjp.harness import evaluate, f32, ints, to_float64, weights
from .dense import propagate
from .running import Rule, distance
from .test_batchnorm import linear, net
from .test_poolings import Array, draw, node

W = weights(17)
SHAPE = (3, 4, 5)
BOUNDS = ((-2.0, -1.5, -3.0), (2.5, 2.0, 1.0))
BOX = 'base = "none"\n[ops]\nConv = "z-plus"\nGemm = "z-plus"\n[first]\nConv = {rule = "z-box", low = "input", high = "input"}'
FIRST = node("Conv", "x w b", "a", pads=[1] * 4)
ONE = {"w": W(2, 3, 3, 3), "b": W(2)}


def relevance(model: onnx.ModelProto, composite: Composite, x: Array, r: Array, from_image: bool = True) -> Array:
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
    made = relevance_graph(graph, r.shape[1], composite, from_image, bounds=BOUNDS)
    proto = to_float64(ir.to_proto(ir.Model(made, ir_version=10)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return evaluate(proto, {"x": x, "target": np.full(len(x), -2), "seed": r}, "relevance")


def expected(model: onnx.ModelProto, rule: Rule, x: Array, r: Array) -> Array:
    layer = linear(model, SHAPE)
    channels = np.indices(SHAPE)[0].ravel()
    layer = type(layer)(layer.weight, layer.bias, channels=channels)
    return np.stack([propagate(layer, rule, a.ravel(), b) for a, b in zip(x, r, strict=True)]).reshape(x.shape)


def test_the_images_own_bounds() -> None:
    model = net([FIRST], SHAPE, 40, **ONE)
    x, r = draw(3, *SHAPE), draw(3, 40, seed=1)
    box = {"rule": "z-box", "low": list(BOUNDS[0]), "high": list(BOUNDS[1])}
    assert distance(relevance(model, parse_composite(BOX, "t"), x, r), expected(model, box, x, r)) < 1e-6
    got = relevance(
        model, parse_composite(BOX, "t"), x, r, from_image=False
    )  # from an activation there is no first layer
    assert distance(got, expected(model, {"rule": "z-plus"}, x, r)) < 1e-6


def test_each_images_own_least_and_largest_value() -> None:
    model = net([FIRST], SHAPE, 40, **ONE)
    x, r = draw(3, *SHAPE) * np.array([1, 2, 5]).reshape(3, 1, 1, 1), draw(3, 40, seed=1)
    x = x.astype(np.float32).astype(np.float64)
    box = {"rule": "z-box", "low": "sample", "high": "sample"}
    assert distance(relevance(model, parse_composite("", "t"), x, r), expected(model, box, x, r)) < 1e-6


def test_behind_other_operators_and_in_parallel() -> None:
    """A Transpose and a Cast change no value; both of two parallel layers are first; a layer behind another is not."""
    x, r = draw(2, *SHAPE), draw(2, 80, seed=1)
    constants = {**ONE, "v": W(2, 3, 3, 3)}
    nodes = [
        node("Identity", "x", "i"), node("Conv", "i w b", "p", pads=[1] * 4), node("Conv", "i v", "q", pads=[1] * 4),
        node("Concat", "p q", "z", axis=1),
    ]  # fmt: skip
    both = net(nodes, SHAPE, 80, **constants)
    box = {"rule": "z-box", "low": list(BOUNDS[0]), "high": list(BOUNDS[1])}
    assert distance(relevance(both, parse_composite(BOX, "t"), x, r), expected(both, box, x, r)) < 1e-6
    u = W(2, 2, 2, 2)
    second = net([FIRST, node("Conv", "a u", "z")], SHAPE, 24, u=u, **ONE)
    alone = net([FIRST], SHAPE, 40, **ONE)
    hidden = evaluate(to_float64(alone), {"x": x}, "logits")
    last = net([node("Conv", "x u", "z")], (2, 4, 5), 24, u=u)
    layer, r = linear(last, (2, 4, 5)), draw(2, 24, seed=2)
    between = np.stack([propagate(layer, {"rule": "z-plus"}, h, b) for h, b in zip(hidden, r, strict=True)])
    assert distance(relevance(second, parse_composite(BOX, "t"), x, r), expected(alone, box, x, between)) < 1e-6


@pytest.mark.parametrize("op", ["Sigmoid", "Sub", "Pad"])
def test_bounds_that_are_not_known_behind_an_operator(op: str) -> None:
    constants = {"Sub": {"c": f32(0.5)}, "Pad": {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)}}.get(op, {})
    nodes = [node(op, " ".join(["x", *constants]), "i"), node("Conv", "i w", "z", pads=[0 if op == "Pad" else 1] * 4)]
    model = net(nodes, SHAPE, 40, w=ONE["w"], **constants)
    if op == "Pad":  # zeros are within the bounds of every preprocessing
        relevance(model, parse_composite(BOX, "t"), draw(1, *SHAPE), draw(1, 40))
        return
    with pytest.raises(RuleError, match="the values that reach the first layer 'Conv1' are not the image's own"):
        relevance(model, parse_composite(BOX, "t"), draw(1, *SHAPE), draw(1, 40))
