"""A pooling whose window is larger than its input has the input's size afterwards, and gives the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from xai_exporters.passes.clean import clean

from ..checks import close, onnxruntime, open_vino

SIZE = (5, 6)
IMAGES = np.random.default_rng(0).random((3, 2, *SIZE)).astype(np.float32) + 0.5
CEIL: dict[str, Any] = {"kernel_shape": [9, 640], "strides": [9, 640], "ceil_mode": 1}


def pooling(op: str, opset: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    nodes = [
        helper.make_node(op, ["image"], ["pooled"], name="pool", **attributes),
        helper.make_node("Neg", ["pooled"], ["y"]),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 2, *SIZE])
    graph = helper.make_graph(nodes, "g", [image], [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "as transformers": ("AveragePool", CEIL),
    "padding counts": ("AveragePool", {**CEIL, "count_include_pad": 1}),
    "with padding": ("AveragePool", {**CEIL, "pads": [1, 0, 2, 3]}),
    "with padding that counts": ("AveragePool", {**CEIL, "pads": [1, 0, 2, 3], "count_include_pad": 1}),
    "one axis": ("AveragePool", {**CEIL, "kernel_shape": [9, 2], "strides": [9, 1]}),
    "one axis, padding counts": (
        "AveragePool",
        {"kernel_shape": [7, 3], "strides": [7, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "SAME_UPPER": ("AveragePool", {"kernel_shape": [9, 9], "strides": [9, 9], "auto_pad": "SAME_UPPER"}),
    "SAME_LOWER, padding counts": (
        "AveragePool",
        {"kernel_shape": [8, 9], "strides": [9, 9], "auto_pad": "SAME_LOWER", "count_include_pad": 1},
    ),
    "maximum": ("MaxPool", CEIL),
    "maximum along one axis": ("MaxPool", {"kernel_shape": [7, 2], "pads": [1, 0, 1, 0], "strides": [1, 2]}),
    "norm": ("LpPool", {"kernel_shape": [9, 9], "pads": [2, 2, 2, 1], "p": 3}),
}


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("name", CASES)
def test_same_result(name: str, opset: int) -> None:
    op, attributes = CASES[name]
    model = pooling(op, opset, attributes)
    graph = clean(model, None).graph
    for node in graph:
        kernel = node.attributes["kernel_shape"].as_ints() if "kernel_shape" in node.attributes else ()
        assert all(k <= size for k, size in zip(kernel, SIZE, strict=False))
    again = ir.to_proto(clean(model, None).model).SerializeToString()
    for images in (IMAGES[:1], IMAGES):
        want = onnxruntime(model.SerializeToString(), {"image": images})["y"]
        close(onnxruntime(again, {"image": images})["y"], want)
        if op != "LpPool":  # OpenVINO has none for a symbolic batch
            close(open_vino(again, {"image": images})["y"], want)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [5, 6]},  # it fits
        {"kernel_shape": [7, 6], "pads": [2, 0, 2, 0]},  # several windows
        {"kernel_shape": [6, 6], "pads": [3, 0, 0, 0], "strides": [4, 1]},  # it leaves inputs out
    ],
)
def test_others_stay(attributes: dict[str, Any]) -> None:
    graph = clean(pooling("AveragePool", 18, attributes), None).graph
    assert [node.op_type for node in graph] == ["AveragePool", "Neg"]
    assert list(graph[0].attributes["kernel_shape"].as_ints()) == attributes["kernel_shape"]


def test_a_file_without_element_types() -> None:
    """Files state them for inputs and outputs alone; OpenVINO's IR becomes such a file."""
    model = pooling(
        "AveragePool", 18, {"kernel_shape": [9, 9], "strides": [9, 9], "pads": [2] * 4, "count_include_pad": 1}
    )
    model.graph.node.insert(0, helper.make_node("Abs", ["image"], ["positive"]))
    model.graph.node[1].input[0] = "positive"
    got = ir.to_proto(clean(model, None).model).SerializeToString()
    close(onnxruntime(got, {"image": IMAGES})["y"], -IMAGES.sum((2, 3), keepdims=True) / 81)


@pytest.mark.parametrize("size", [3, 5, 2001])
def test_a_window_of_channels(size: int) -> None:
    """LRN over more channels than there are: the sum is that of all."""
    node = helper.make_node("LRN", ["image"], ["y"], size=size, alpha=0.7, beta=0.6, bias=1.5)
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 2, *SIZE])
    graph = helper.make_graph([node], "g", [image], [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)])
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    [kept] = clean(source, None).graph
    assert kept.attributes["size"].as_int() == 3
    again = ir.to_proto(ir.Model(clean(source, None).graph, ir_version=8))
    got = onnxruntime(again.SerializeToString(), {"image": IMAGES})["y"]
    squares = IMAGES.astype(np.float64) ** 2
    below, above = (size - 1) // 2, -(-(size - 1) // 2)
    sums = np.stack([squares[:, max(c - below, 0) : c + above + 1].sum(1) for c in range(2)], axis=1)
    close(got, IMAGES / (1.5 + 0.7 / size * sums) ** 0.6, 1e-6)
