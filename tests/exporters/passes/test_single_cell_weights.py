"""Compressed weights of squeeze-and-excitation, on OpenVINO with an open batch, against ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from xai_exporters.passes.clean import clean

from ..checks import close, onnxruntime, open_vino, reference

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((3, 8, 5, 6)).astype(np.float32)


def squeeze(how: str, kind: Any, per_channel: bool, axis: int = 0) -> onnx.ModelProto:
    """The mean of an image, made a cell of [N,8,1,1], through a 1 x 1 convolution of codes, times the image."""
    nodes = [helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0)]
    if how == "Reshape":
        nodes.append(helper.make_node("Reshape", ["mean", "cell"], ["x"]))
    elif how == "Unsqueeze":
        nodes.append(helper.make_node("Unsqueeze", ["mean", "axes"], ["x"]))
    else:
        nodes += [
            helper.make_node("Reshape", ["mean", "last"], ["nhwc"]),
            helper.make_node("Transpose", ["nhwc"], ["x"], perm=[0, 3, 1, 2]),
        ]
    nodes += [
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["weight"], axis=axis, name="dequantized"),
        helper.make_node("Conv", ["x", "weight"], ["c"], name="conv"),
        helper.make_node("Add", ["c", "bias"], ["b"]),
        helper.make_node("Sigmoid", ["b"], ["gate"]),
        helper.make_node("Mul", ["image", "gate"], ["y"]),
    ]
    sizes = 8 if per_channel else ()
    weights = {
        "axes": np.array([2, 3]), "cell": np.array([-1, 8, 1, 1]), "last": np.array([-1, 1, 1, 8]),
        "codes": RNG.integers(0, 127, (8, 8, 1, 1)).astype(kind), "scale": (RNG.random(sizes) + 0.5).astype(np.float32) / 99,
        "zero": RNG.integers(0, 9, sizes).astype(kind), "bias": RNG.random((1, 8, 1, 1)).astype(np.float32),
    }  # fmt: skip
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 8, 5, 6])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 8, 5, 6])
    graph = helper.make_graph(
        nodes, "g", [image], [y], [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


@pytest.mark.parametrize(
    ("how", "kind", "per_channel", "axis"),
    [("Reshape", np.int8, True, 0), ("Unsqueeze", np.uint8, True, 1), ("Transpose", np.int8, False, 0)],
)
def test_open_batch(how: str, kind: Any, per_channel: bool, axis: int) -> None:
    model = squeeze(how, kind, per_channel, axis)
    again = ir.to_proto(clean(model, None).model).SerializeToString()
    for images in (IMAGES[:1], IMAGES):
        want = reference(model, {"image": images})["y"]
        close(onnxruntime(again, {"image": images})["y"], want)
        close(open_vino(again, {"image": images})["y"], want)


def test_codes_of_a_map_stay() -> None:
    """A convolution of a whole map keeps its codes."""
    model = squeeze("Reshape", np.int8, True)
    model.graph.node[-3].input[0] = "c"
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.input[0] = "image"
    assert "DequantizeLinear" in {node.op_type for node in clean(model, None).model.graph}
