"""A Gather that counts through its data is a Reshape; any other stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.graph.measure import measure
from xai_exporters.passes.clean import clean
from xai_exporters.passes.counted_gather import reduce_counted_gathers


def counting(step: int = 1, from_content: bool = False) -> Any:
    """[N,3,2,2] -> flat -> picked at step * (0, 1, 2, ...), as torch's as_strided is exported -> [N,12]."""
    n = helper.make_node
    nodes = [
        n("Reshape", ["image", "flat_shape"], ["flat"]),
        n("Shape", ["image"], ["batch"], start=0, end=1),
        n("Squeeze", ["batch"], ["count"]),
        n("Range", ["zero", "count", "one"], ["rows"]),
        n("Mul", ["rows", "twelve"], ["starts"]),
        n("Unsqueeze", ["starts", "axis"], ["column"]),
        n("Add", ["column", "offsets"], ["indices"]),
    ]
    if from_content:
        nodes += [
            n("ReduceMax", ["image"], ["top"], keepdims=0), n("Cast", ["top"], ["integer"], to=TensorProto.INT64),
            n("Mul", ["integer", "zero"], ["nothing"]), n("Add", ["indices", "nothing"], ["shifted"]),
        ]  # fmt: skip
    nodes.append(n("Gather", ["flat", "shifted" if from_content else "indices"], ["output"], name="as_strided"))
    constants = {
        "flat_shape": np.array([-1]), "zero": np.array(0), "one": np.array(1), "twelve": np.array(12),
        "axis": np.array([1]), "offsets": np.arange(12)[::step],
    }  # fmt: skip
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 2, 2])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [image], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_counting_becomes_a_reshape() -> None:
    graph = clean(counting(), None)
    assert {node.op_type for node in graph.graph} == {"Reshape"}
    assert graph.shapes.per_image("output") == (12,)


@pytest.mark.parametrize(("step", "from_content"), [(-1, False), (1, True)])
def test_other_gathers_stay(step: int, from_content: bool) -> None:
    model = ir.from_proto(counting(step, from_content))
    assert not reduce_counted_gathers(model, measure(model))
    assert "Gather" in {node.op_type for node in model.graph}
