"""Graphs for the guard's tests: x [N,3,4,4] -> y, with whatever nodes between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

IMAGE = 3 * 4 * 4 * 4  # bytes


def n(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; names of inputs and outputs separated by spaces, `_` for one that is left out."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def model(
    nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Any] | None = None, opset: int = 18
) -> onnx.ModelProto:
    """A model whose output `y` is declared without sizes."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", [image], [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def ints(*values: int) -> NDArray[np.int64]:
    """A constant."""
    return np.array(values, np.int64)


def floats(*values: float) -> NDArray[np.float32]:
    """A constant."""
    return np.array(values, np.float32)
