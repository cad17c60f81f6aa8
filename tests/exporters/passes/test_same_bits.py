"""Bits that are read as another type (BitCast of opset 26): constants, there and back; all else has no gradient."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.errors import GraphError
from xai_exporters.passes.clean import clean

from ..checks import close, onnxruntime

IMAGES = np.random.default_rng(0).standard_normal((3, 2, 4, 5)).astype(np.float32)
FACTOR = np.array([0.75], np.float32)


def network(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 2, 4, 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, 4, 5])
    graph = helper.make_graph(nodes, "g", [image], [y], [numpy_helper.from_array(FACTOR.view(np.int32), "bits")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 26)], ir_version=13)


def cast(x: str, y: str, to: int) -> onnx.NodeProto:
    return helper.make_node("BitCast", [x], [y], to=to, name=f"to {y}")


def test_there_and_back_and_a_constant() -> None:
    nodes = [
        cast("image", "codes", TensorProto.INT32),
        cast("codes", "again", TensorProto.FLOAT),
        cast("bits", "factor", TensorProto.FLOAT),
        helper.make_node("Mul", ["again", "factor"], ["y"]),
    ]
    cleaned = ir.to_proto(clean(network(nodes), None).model)
    assert "BitCast" not in {node.op_type for node in cleaned.graph.node}
    close(onnxruntime(cleaned.SerializeToString(), {"image": IMAGES})["y"], IMAGES * FACTOR)


@pytest.mark.parametrize("back", [True, False])
def test_bits_of_the_image(back: bool) -> None:
    """The sign's bit taken away, and the bits as a number."""
    nodes = [cast("image", "codes", TensorProto.INT32), helper.make_node("Abs", ["codes"], ["more"])]
    nodes.append(
        cast("more", "y", TensorProto.FLOAT)
        if back
        else helper.make_node("Cast", ["more"], ["y"], to=TensorProto.FLOAT)
    )
    with pytest.raises(
        GraphError, match=r"^node 'to codes' is BitCast, .*the bits of FLOAT as INT32, which has no gradient; export"
    ):
        clean(network(nodes), None)
