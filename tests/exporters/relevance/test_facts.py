"""What is known to be nowhere negative: never said of what can be negative, and said where it spares half of the work."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from xai_exporters.relevance.facts import find_facts, is_nonnegative, is_signal, origin

from ..vjp.harness import evaluate, f32, ints, to_float64
from .test_poolings import Array, draw, net, node

C = {"c": f32(-0.5), "p": f32(0.5), "zero": f32(0.0), "axes": ints(2, 3), "shape": ints(0, -1), "two": f32(2.0)}
PADS = {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)}
UP = {"scales": f32(1, 1, 2, 2)}

POSITIVE: dict[str, dict[str, Any]] = {  # x any, a >= 0
    "Relu x": {}, "Sigmoid x": {}, "HardSigmoid x": {}, "Softplus x": {}, "Exp x": {}, "Abs x": {}, "Softmax x": {},
    "Clip x zero": {}, "Clip x p": {}, "Max x zero": {}, "Max x a": {}, "Sqrt a": {}, "Identity a": {}, "Dropout a": {},
    "Add a a": {}, "Add a p": {}, "Mul a p": {}, "Mul a a": {}, "Div a p": {}, "Sum a a": {}, "Mean a a": {}, "Min a p": {},
    "MaxPool a": {"kernel_shape": [2, 2]}, "AveragePool a": {"kernel_shape": [2, 2]}, "GlobalAveragePool a": {},
    "GlobalMaxPool a": {}, "ReduceMean a axes": {}, "ReduceSum a axes": {}, "ReduceMax a axes": {}, "Reshape a shape": {},
    "Transpose a": {"perm": [0, 2, 3, 1]}, "Concat a a": {"axis": 1}, "Pad a pads": {}, "Pad a pads p": {}, "Flatten a": {},
    "Resize a  scales": {"mode": "linear"}, "Resize a  scales ": {"mode": "nearest"}, "ThresholdedRelu x": {"alpha": 0.5},
    "ReduceL2 x axes": {}, "Cast a": {"to": 1},
}  # fmt: skip
ANY: dict[str, dict[str, Any]] = {
    "LeakyRelu x": {}, "Elu x": {}, "HardSwish x": {}, "Tanh x": {}, "Mish x": {}, "Gelu x": {}, "Erf x": {},
    "Clip x c": {}, "Clip x": {}, "Min x p": {}, "Max x c": {}, "Add a x": {}, "Add a c": {}, "Sub a a": {},
    "Sub a p": {}, "Mul a x": {}, "Mul a c": {}, "Div a c": {}, "Neg a": {}, "Log a": {}, "Sum a x": {},
    "MaxPool x": {"kernel_shape": [2, 2]}, "ReduceMean x axes": {}, "Concat a x": {"axis": 1}, "Pad a pads c": {},
    "Resize a  scales": {"mode": "cubic"}, "Resize x  scales": {"mode": "linear"}, "Pow x two": {},
    "ThresholdedRelu x": {"alpha": -2.0}, "InstanceNormalization a s s": {}, "LogSoftmax x": {}, "Cast x": {"to": 1},
}  # fmt: skip


def network(text: str, attributes: dict[str, Any]) -> onnx.ModelProto:
    op, *names = text.rstrip().split(" ")
    constants = C | PADS | UP | {"s": f32(1, -1)}
    used = {k: v for k, v in constants.items() if k in names}
    opset = 20
    last = helper.make_node(op, names, ["y"], **attributes)
    nodes = ([node("Abs", "x", "a")] if "a" in names else []) + [last]
    model = net(*nodes, **used)
    model.opset_import[0].version = opset
    return model


def fact(model: onnx.ModelProto) -> bool:
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
    find_facts(graph)
    return is_nonnegative(graph.outputs[0])


def least(model: onnx.ModelProto) -> float:
    return float(evaluate(to_float64(model), {"x": draw(3, 2, 3, 4)}, "y").min())


@pytest.mark.parametrize("text", POSITIVE)
def test_known(text: str) -> None:
    model = network(text, POSITIVE[text])
    assert fact(model)
    assert least(model) >= 0


@pytest.mark.parametrize("text", ANY)
def test_not_said(text: str) -> None:
    assert not fact(network(text, ANY[text]))


def test_integers_can_be_negative() -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("Cast", "x", to=TensorProto.FLOAT)], "g", [value("x", TensorProto.INT8, ["N", 3])],
        [value("y", TensorProto.FLOAT, ["N", 3])],
    )  # fmt: skip
    assert not fact(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


def test_inputs_that_are_known() -> None:
    graph = ir.from_proto(net(node("Add", "x b"), inputs={"x": ("N", 3), "b": ("N", 3)})).graph
    for names, want in ((["x", "b"], True), (["x"], False), ([], False)):
        find_facts(graph, frozenset(names))
        assert is_nonnegative(graph.outputs[0]) is want


def test_signals() -> None:
    """What depends on the image's content; not what depends on its shape or on weights alone."""
    nodes = [
        node("Shape", "x", "s"),
        node("Abs", "w", "v"),
        node("Add", "x v", "a"),
        node("Expand", "v s", "e"),
        node("Mul", "a e"),
    ]
    weight: Array = f32(1, 2)
    graph = ir.from_proto(net(*nodes, inputs={"x": ("N", 2)}, w=weight)).graph
    find_facts(graph)
    known = {str(v.name): is_signal(v) for n in graph for v in n.outputs}
    assert known == {"s": False, "v": False, "a": True, "e": False, "y": True}
    assert np.all(weight > 0)


def test_the_origin_of_a_deep_network() -> None:
    """x + relu(x), 1,000 times over: each has two ways to the one before, 2^1000 in all."""
    nodes, last = [node("Transpose", "x", "t")], "t"
    for i in range(1000):
        nodes += [node("Relu", last, f"r{i}"), node("Add", f"{last} r{i}", f"a{i}")]
        last = f"a{i}"
    nodes += [node("MatMul", f"{last} x", "m"), node("Mul", f"{last} m")]
    graph = ir.from_proto(net(*nodes, inputs={"x": (2, 2)})).graph
    find_facts(graph)
    values = {str(v.name): v for n in graph for v in n.outputs}
    assert origin(values[last]) is values["t"]
    assert origin(values["m"]) is values["m"]
    assert origin(values["y"]) is values["y"]
