"""What is computed but always the same becomes a constant; what depends on image or batch does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.passes.fixed_values import fold_fixed_values


def padded(pads: list[Any], constants: dict[str, Any]) -> ir.Model:
    """image [N,2,4,4] padded by what `pads` compute."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 2, 4, 4])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    nodes = [*pads, helper.make_node("Pad", ["image", "pads"], ["output"], name="pad")]
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [image], [output], weights)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


def pads_of(model: ir.Model) -> Any:
    value = model.graph.outputs[0].producer().inputs[1]  # type: ignore[union-attr]
    assert value is not None
    return None if value.const_value is None else value.const_value.numpy()


def test_pads_made_by_constant_of_shape() -> None:
    zeros = helper.make_node(
        "ConstantOfShape", ["four"], ["zeros"], value=helper.make_tensor("v", TensorProto.INT64, [1], [0])
    )
    joined = helper.make_node("Concat", ["ones", "zeros"], ["pads"], axis=0)
    model = padded([zeros, joined], {"four": np.array([4]), "ones": np.array([0, 0, 1, 1])})
    assert fold_fixed_values(model)
    np.testing.assert_array_equal(pads_of(model), [0, 0, 1, 1, 0, 0, 0, 0])


def test_an_entry_of_a_shape_that_is_not_the_batch() -> None:
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["height"]),
        helper.make_node("Mul", ["height", "mask"], ["pads"]),
    ]
    model = padded(nodes, {"two": np.array([2]), "mask": np.array([0, 0, 1, 0, 0, 0, 0, 1])})
    assert fold_fixed_values(model)
    np.testing.assert_array_equal(pads_of(model), [0, 0, 4, 0, 0, 0, 0, 4])


def test_the_batch_and_the_image_stay() -> None:
    batch = [
        helper.make_node("Shape", ["image"], ["shape"], start=0, end=1),
        helper.make_node("Mul", ["shape", "mask"], ["pads"]),
    ]
    content = [
        helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["integer"], to=TensorProto.INT64),
        helper.make_node("Mul", ["integer", "mask"], ["pads"]),
    ]
    for nodes in (batch, content):
        model = padded(nodes, {"mask": np.array([0, 0, 1, 0, 0, 0, 0, 1])})
        assert not fold_fixed_values(model)
        assert pads_of(model) is None
