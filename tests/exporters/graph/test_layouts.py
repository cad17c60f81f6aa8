"""Layouts that operators show: `layouts.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.graph.layouts import find_layout


def resized(scales: list[float] | None, sizes: list[int] | None, perm: list[int] | None) -> ir.Value:
    """The input [N,33,41,3] or [N,3,33,41] of a Resize, which a Transpose follows."""
    constants = [numpy_helper.from_array(np.array(scales or sizes, np.float32 if scales else np.int64), "c")]
    nodes = [helper.make_node("Resize", ["x", "", "c"] if scales else ["x", "", "", "c"], ["y"])]
    nodes += [helper.make_node("Transpose", ["y"], ["z"], perm=perm)] if perm else []
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 33, 41, 3])
    end = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph(nodes, "net", [x], [end], constants)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    onnx.checker.check_model(ir.to_proto(model))
    return model.graph.inputs[0]


@pytest.mark.parametrize(("perm", "layout"), [((0, 3, 1, 2), "NHWC"), ((0, 2, 3, 1), "NCHW"), ((0, 2, 1, 3), None)])
@pytest.mark.parametrize("op", ["Slice", "Pad", "Gather"])
def test_parts_of_an_axis(op: str, perm: tuple[int, ...], layout: str | None) -> None:
    """Three of four colours, a border, colours in another order: what follows shows the layout."""
    given: dict[str, np.ndarray] = {
        "Slice": {"a": np.array([0]), "b": np.array([3]), "c": np.array([3])},
        "Pad": {"a": np.array([0, 1, 1, 0, 0, 1, 1, 0])},
        "Gather": {"a": np.array([2, 1, 0])},
    }[op]
    options: dict[str, Any] = {"axis": 3} if op == "Gather" else {}
    nodes = [
        helper.make_node(op, ["x", *given], ["y"], **options),
        helper.make_node("Transpose", ["y"], ["z"], perm=perm),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 33, 41, 4])
    end = helper.make_tensor_value_info("z", TensorProto.FLOAT, [None] * 4)
    constants = [numpy_helper.from_array(value, name) for name, value in given.items()]
    graph = helper.make_graph(nodes, "net", [x], [end], constants)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert find_layout(model.graph.inputs[0]) == layout


@pytest.mark.parametrize(
    ("scales", "sizes", "perm", "layout"),
    [
        ([1, 2, 2, 1], None, None, "NHWC"),
        ([1, 1, 2, 2], None, None, "NCHW"),
        (None, [1, 66, 82, 3], None, "NHWC"),
        (
            [1, 1, 2, 1],
            None,
            [0, 3, 1, 2],
            "NHWC",
        ),  # the sides of one, or the middle of the other: what follows shows it
        ([1, 1, 2, 1], None, [0, 2, 3, 1], "NCHW"),
        ([1, 1, 2, 1], None, None, None),
    ],
)
def test_a_resize(
    scales: list[float] | None, sizes: list[int] | None, perm: list[int] | None, layout: str | None
) -> None:
    """The axis that is not resized is that of the channels."""
    assert find_layout(resized(scales, sizes, perm)) == layout
