"""A layer of weights in 8 bits on an input of floats: OpenVINO would quantise that input too, unless told not to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def compressed() -> tuple[bytes, NDArray[np.float64]]:
    """A file that computes y = x W^T, x [N,64,1,1] and y [N,96]; and W [96,64]."""
    rng = np.random.default_rng(0)
    codes, scale = rng.integers(-127, 128, (96, 64)).astype(np.int8), (rng.random(96) / 100).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["weight"], axis=0),
        helper.make_node("Gemm", ["flat", "weight"], ["y"], transB=1),
    ]
    shapes: dict[str, list[Any]] = {"x": ["N", 64, 1, 1], "y": ["N", 96]}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    weights = [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(scale, "scale")]
    graph = helper.make_graph(nodes, "compressed", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    weight: NDArray[np.float64] = codes.astype(np.float64) * scale[:, None]
    return model.SerializeToString(), weight
