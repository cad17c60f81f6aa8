"""State the zero point of each QuantizeLinear that leaves it out.

It is 0 then, and the codes have the type `output_dtype`, or else uint8 (ONNX operator specification, QuantizeLinear-10 and -21).
Stated, one reading of the codes' type and range serves every pass.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .rewriting import OURS, Rewriting, attribute_of


def state_zero_points(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with the zero points of quantisers of constant scales.

    Returns:
        A copy; None if none was left out.
    """
    missing = [node for node in model.graph.node if _is_missing(node)]
    return _Stated(model).run() if missing else None


def _is_missing(node: onnx.NodeProto) -> bool:
    return node.op_type == "QuantizeLinear" and node.domain in OURS and (len(node.input) < 3 or not node.input[2])


class _Stated(Rewriting):
    def run(self) -> onnx.ModelProto:
        self.nodes = list(self.graph.node)
        for node in filter(_is_missing, self.nodes):
            scale = self.value(node.input[1])
            if scale is None:
                continue
            kind = attribute_of(node, "output_dtype", 0) or TensorProto.UINT8
            zero = np.zeros(scale.shape, helper.tensor_dtype_to_np_dtype(kind))
            tensor = numpy_helper.from_array(zero, self.name(f"{node.output[0]}/zero"))
            self.graph.initializer.append(tensor)
            del node.input[2:]
            node.input.append(tensor.name)
        return self.finish()
