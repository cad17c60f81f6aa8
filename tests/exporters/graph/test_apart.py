"""A factor of each position before a convolution as large as the map: OpenVINO moves it into the weights; a Clip stops that."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from xai_exporters.graph.writing import make_model

from ..checks import close, onnxruntime, open_vino

SIDE = 5
IMAGES = np.random.default_rng(0).standard_normal((3, 4, SIDE, SIDE)).astype(np.float32)


def scaled(op: str, factor: tuple[int, ...], group: int, pads: int = 2, between: str | None = None) -> onnx.ModelProto:
    draw = np.random.default_rng(1)
    constants = {
        "factor": draw.random(factor) + 0.5,
        "weight": draw.standard_normal((4, 4 // group, SIDE, SIDE)),
        "again": np.full(1, 2.5),
    }
    nodes = [helper.make_node(op, ["factor", "image"] if between == "turned" else ["image", "factor"], ["scaled"])]
    nodes.append(
        helper.make_node(
            "Mul" if between == "again" else "Identity", ["scaled"] + ["again"] * (between == "again"), ["x"]
        )
    )
    nodes.append(helper.make_node("Conv", ["x", "weight"], ["y"], pads=[pads] * 4, group=group))
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", *IMAGES.shape[1:]])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [image], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


CASES: dict[str, tuple[Any, ...]] = {
    "mean of windows": ("Div", (SIDE, SIDE), 1),
    "depthwise": ("Mul", (1, 4, SIDE, SIDE), 4),
    "of rows, in groups": ("Mul", (SIDE, 1), 2),
    "scaled again": ("Mul", (SIDE,), 1, 2, "again"),
    "the factor first": ("Mul", (4, SIDE, SIDE), 1, 2, "turned"),
}


@pytest.mark.parametrize("name", CASES)
def test_both_runtimes_agree(name: str) -> None:
    source = scaled(*CASES[name])
    want = onnxruntime(source.SerializeToString(), {"image": IMAGES})["y"]
    made = ir.to_proto(make_model(ir.from_proto(source).graph)).SerializeToString()
    for run in (onnxruntime, open_vino):
        close(run(made, {"image": IMAGES})["y"], want)


@pytest.mark.parametrize("case", [("Mul", (4, 1, 1), 1), ("Mul", (SIDE, SIDE), 1, 0), ("Add", (SIDE, SIDE), 1)])
def test_only_what_needs_it_is_changed(case: tuple[Any, ...]) -> None:
    graph = make_model(ir.from_proto(scaled(*case)).graph).graph
    assert [node.op_type for node in graph if node.op_type == "Clip"] == []
