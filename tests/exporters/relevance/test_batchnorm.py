"""BatchNormalization merged into the layer before it, against the dense oracle of both as one linear map; and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.relevance.composite import Composite
from xai_exporters.relevance.graph import relevance_graph
from xai_exporters.relevance.merge_batchnorm import merge_batchnorm

from ..vjp.harness import evaluate, reference, to_float64, weights
from .dense import Linear, propagate, well_conditioned
from .running import composite_of, distance
from .test_poolings import Array, draw, node

W = weights(13)
RULES: list[dict[str, Any]] = [
    {"rule": "z-plus"}, {"rule": "z-plus", "bias": "include", "epsilon": 1e-6}, {"rule": "zero", "bias": "include"},
    {"rule": "alpha-beta", "bias": "include"}, {"rule": "generalized-gamma", "bias": "include"},
    {"rule": "w-square", "bias": "include"},
]  # fmt: skip


def net(nodes: list[onnx.NodeProto], shape: tuple[int, ...], classes: int, **constants: Array) -> onnx.ModelProto:
    """x [N,*shape] -> the last node's output, flat, as logits [N,classes]."""
    nodes = [*nodes, node("Flatten", nodes[-1].output[0], "logits")]
    for i, n in enumerate(nodes):
        n.name = f"{n.op_type}{i}"
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def relevance(model: onnx.ModelProto, composite: Composite, x: Array, r: Array, keep: bool = False) -> Array:
    """What the product's graph makes of a seed alone, in float64."""
    forward = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
    names = [node.name for node in forward]
    graph = relevance_graph(forward, r.shape[1], composite, keep_batchnorm=keep)
    assert [node.name for node in forward] == names, "the forward graph was changed"
    proto = to_float64(ir.to_proto(ir.Model(graph, ir_version=10)))
    feeds = {"x": x, "target": np.full(len(x), -2), "seed": r}
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = evaluate(proto, feeds, "logits")
        assert distance(logits, evaluate(to_float64(model), {"x": x}, "logits")) < 1e-6  # merged weights are rounded
        return evaluate(proto, feeds, "relevance")


def linear(model: onnx.ModelProto, shape: tuple[int, ...], convolution: bool = False) -> Linear:
    """The whole network, which is linear, as W and b."""
    f = reference(to_float64(model), "logits")
    size = int(np.prod(shape))
    b = f({"x": np.zeros((1, *shape))})[0]
    w = (f({"x": np.eye(size).reshape(size, *shape)}) - b).T
    w[np.abs(w) < 1e-12] = 0
    return Linear(w, b, convolution=convolution)


def norm(channels: int, draw: Callable[..., Array] = W) -> dict[str, Array]:
    """Scales of both signs, and statistics."""
    scale, offset, mean, variance = (draw(channels) for _ in range(4))
    return {"s": scale, "o": offset, "m": mean, "v": np.abs(variance) + np.float32(0.1)}


IMAGE, VECTOR = (4, 5, 5), (5,)
CONV = node("Conv", "x w", "a", pads=[1] * 4, strides=[2, 2])
MERGED: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], dict[str, Array], int]] = {
    "Conv": ([CONV], IMAGE, {"w": W(6, 4, 3, 3)}, 6),
    "Conv with bias": ([node("Conv", "x w b", "a")], IMAGE, {"w": W(6, 4, 3, 3), "b": W(6)}, 6),
    "grouped Conv": ([node("Conv", "x w b", "a", group=2)], IMAGE, {"w": W(6, 2, 3, 3), "b": W(6)}, 6),
    "depthwise Conv": ([node("Conv", "x w", "a", group=4)], IMAGE, {"w": W(4, 1, 3, 3)}, 4),
    "ConvTranspose": ([node("ConvTranspose", "x w b", "a")], IMAGE, {"w": W(4, 3, 2, 2), "b": W(3)}, 3),
    "grouped ConvTranspose": (
        [node("ConvTranspose", "x w b", "a", group=2, strides=[2, 2])], IMAGE, {"w": W(4, 3, 2, 2), "b": W(6)}, 6),
    "Gemm": ([node("Gemm", "x w b", "a")], VECTOR, {"w": W(5, 4), "b": W(4)}, 4),
    "transposed Gemm": ([node("Gemm", "x w b", "a", transB=1, beta=0.5)], VECTOR, {"w": W(4, 5), "b": W(4)}, 4),
    "Gemm without bias": ([node("Gemm", "x w", "a", transB=1)], VECTOR, {"w": W(4, 5)}, 4),
    "square Gemm": ([node("Gemm", "x w", "a", transB=1, alpha=0.5)], VECTOR, {"w": W(5, 5)}, 5),
}  # fmt: skip


def built(name: str) -> tuple[onnx.ModelProto, tuple[int, ...], int, dict[str, Array]]:
    nodes, shape, constants, channels = MERGED[name]
    constants = constants | norm(channels)
    batch = node("BatchNormalization", "a s o m v", "z", epsilon=1e-3)
    sized = net([*nodes, batch], shape, 1, **constants)
    classes = evaluate(to_float64(sized), {"x": np.zeros((1, *shape))}, "logits").shape[1]
    return net([*nodes, batch], shape, classes, **constants), shape, classes, constants


@pytest.mark.parametrize("name", MERGED)
def test_merged(name: str) -> None:
    model, shape, classes, _ = built(name)
    layer = linear(model, shape, "Conv" in name)
    x, r = draw(3, *shape), draw(3, classes, seed=1)
    kind = model.graph.node[0].op_type
    for rule in RULES:
        if rule["rule"] == "w-square" and "square" in name:
            continue  # alpha: see test_layers
        rs = [np.where(well_conditioned(layer, rule, a.ravel()), b, 0) for a, b in zip(x, r, strict=True)]
        got = relevance(model, composite_of({kind: rule}), x, np.stack(rs))
        want = np.stack([propagate(layer, rule, a.ravel(), b) for a, b in zip(x, rs, strict=True)]).reshape(x.shape)
        assert distance(got, want) < 5e-6, f"{name}, {rule}"  # weights are merged in the network's own precision


@pytest.mark.parametrize("name", MERGED)
def test_kept(name: str) -> None:
    """R passes the BatchNormalization, and is shared out by the layer's own weights."""
    model, shape, classes, constants = built(name)
    alone = net(MERGED[name][0], shape, classes, **constants)
    layer = linear(alone, shape)
    x, r = draw(3, *shape), draw(3, classes, seed=1)
    kind = model.graph.node[0].op_type
    got = relevance(model, composite_of({kind: "z-plus"}), x, r, keep=True)
    rows = [propagate(layer, {"rule": "z-plus"}, a.ravel(), b) for a, b in zip(x, r, strict=True)]
    assert distance(got, np.stack(rows).reshape(x.shape)) < 1e-9
    assert distance(got, relevance(model, composite_of({kind: "z-plus"}), x, r)) > 0.1


V = weights(17)
CHANNELS, STATISTICS = {"c": V(1, 6, 1, 1), "d": V(6, 1, 1)}, np.abs(V(6, 1, 1)) + np.float32(0.5)
BEFORE = {"w": V(6, 4, 3, 3)}
DENSE, ROW = {"w": V(5, 4), "b": V(4)}, {"c": V(1, 4), "d": V(4)}
NORM = node("BatchNormalization", "a s o m v", "z")
WRITTEN: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], dict[str, Array]]] = {
    "scale and shift": ([CONV, node("Mul", "c a", "e"), node("Add", "e d", "z")], IMAGE, BEFORE | CHANNELS),
    "whole formula": (
        [CONV, node("Sub", "a c", "e"), node("Div", "e f", "g"), node("Mul", "g d", "h"), node("Add", "c h", "z")],
        IMAGE, BEFORE | CHANNELS | {"f": STATISTICS}),
    "bias before the norm": (
        [node("Conv", "x w", "y"), node("Add", "y d", "a"), NORM], IMAGE, BEFORE | CHANNELS | norm(6, V)),
    "ConvTranspose": (
        [node("ConvTranspose", "x w", "a"), node("Mul", "a c", "e"), node("Add", "d e", "z")],
        IMAGE, {"w": V(4, 6, 2, 2)} | CHANNELS),
    "Gemm": ([node("Gemm", "x w b", "a"), node("Mul", "a c", "e"), node("Sub", "e d", "z")], VECTOR, DENSE | ROW),
    "MatMul": ([node("MatMul", "x w", "a"), NORM], VECTOR, DENSE | norm(4, V)),
    "MatMul with bias": ([node("MatMul", "x w", "y"), node("Add", "b y", "a"), NORM], VECTOR, DENSE | norm(4, V)),
    "MatMul, written": ([node("MatMul", "x w", "a"), node("Mul", "a c", "e"), node("Add", "d e", "z")], VECTOR, DENSE | ROW),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_merged_as_written(name: str) -> None:
    nodes, shape, constants = WRITTEN[name]
    sized = net(nodes, shape, 1, **constants)
    classes = evaluate(to_float64(sized), {"x": np.zeros((1, *shape))}, "logits").shape[1]
    model = net(nodes, shape, classes, **constants)
    layer = linear(model, shape)
    x, r = draw(3, *shape), draw(3, classes, seed=1)
    for rule in RULES:
        rs = [np.where(well_conditioned(layer, rule, a.ravel()), b, 0) for a, b in zip(x, r, strict=True)]
        got = relevance(model, composite_of({nodes[0].op_type: rule}), x, np.stack(rs))
        want = np.stack([propagate(layer, rule, a.ravel(), b) for a, b in zip(x, rs, strict=True)]).reshape(x.shape)
        assert distance(got, want) < 5e-6, f"{name}, {rule}"


def test_what_scales_no_channels_stays() -> None:
    """A number for all channels, one for each position, and tokens, whose channels are the last axis."""
    scalar = net([CONV, node("Mul", "a c", "z")], IMAGE, 54, w=V(6, 4, 3, 3), c=V(1))
    places = net([CONV, node("Mul", "a c", "z")], IMAGE, 54, w=V(6, 4, 3, 3), c=V(6, 3, 3))
    tokens = net([node("MatMul", "x w", "a"), node("Mul", "a c", "z")], (3, 3), 9, w=V(3, 3), c=V(3))
    shifted = net([CONV, node("Add", "a c", "z")], IMAGE, 54, w=V(6, 4, 3, 3), c=V(6, 1, 1))
    for model in (scalar, places, tokens, shifted):
        graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
        assert merge_batchnorm(graph) == 0
        assert [n.op_type for n in graph] == [n.op_type for n in model.graph.node]


def test_what_is_not_merged() -> None:
    """One before its convolution, one whose layer is used twice, one whose layer's output is an output."""
    constants = {"w": W(4, 4, 3, 3)} | norm(4)
    batch = node("BatchNormalization", "x s o m v", "a")
    before = net([batch, node("Conv", "a w", "z")], IMAGE, 36, **constants)
    conv = node("Conv", "x w", "a")
    twice = net([conv, node("BatchNormalization", "a s o m v", "b"), node("Add", "a b", "z")], IMAGE, 36, **constants)
    shown = net([conv, node("BatchNormalization", "a s o m v", "z")], IMAGE, 36, **constants)
    shown.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    computed = net([conv, node("Abs", "s", "t"), node("BatchNormalization", "a t o m v", "z")], IMAGE, 36, **constants)
    for model in (before, twice, shown):
        graph = ir.from_proto(model).graph
        assert merge_batchnorm(graph) == 0
        assert [n.op_type for n in graph] == [n.op_type for n in model.graph.node]
    assert merge_batchnorm(ir.from_proto(computed).graph) in (0, 1)
    layer = linear(net([node("Conv", "x w", "z")], IMAGE, 36, w=constants["w"]), IMAGE)
    x, r = draw(2, *IMAGE), draw(2, 36, seed=1)
    scales = norm(4)
    model = net([batch, node("Conv", "a w", "z")], IMAGE, 36, w=constants["w"], **scales)
    after = evaluate(to_float64(net([batch], IMAGE, 100, **scales)), {"x": x}, "logits")
    rows = [propagate(layer, {"rule": "z-plus"}, a, b) for a, b in zip(after, r, strict=True)]
    got = relevance(model, composite_of({"Conv": "z-plus"}), x, r)
    assert distance(got, np.stack(rows).reshape(x.shape)) < 1e-9
