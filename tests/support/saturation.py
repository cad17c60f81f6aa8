"""Whether ONNX Runtime saturates sums of products of 8-bit numbers on this processor (x86 without VNNI)."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


@cache
def saturates() -> bool:
    """MatMulInteger of four times 255 and 127 by the runtime's defaults."""
    shapes = (("x", TensorProto.UINT8, (1, 4)), ("y", TensorProto.INT32, (1, 1)))
    given, result = (helper.make_tensor_value_info(*shape) for shape in shapes)
    weight = numpy_helper.from_array(np.full((4, 1), 127, np.int8), "w")
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "g", [given], [result], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"x": np.full((1, 4), 255, np.uint8)})
    return bool(found != 4 * 255 * 127)
