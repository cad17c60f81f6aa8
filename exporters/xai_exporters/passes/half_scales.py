"""Write quantisers with scales in half precision with scales in float32, between Casts: no opset before 19 has them.

    QuantizeLinear(x, s) = QuantizeLinear(float(x), float(s)),   DequantizeLinear(c, s) = half(DequantizeLinear(c, float(s)))

ONNX Runtime computes both in float32. modelopt and `quantize_static` write such files of networks in float16.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from .rewriting import OURS, Rewriting

_HALF = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
_KINDS = ("QuantizeLinear", "DequantizeLinear")


def widen_scales(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with constant scales of quantisers in float32.

    Returns:
        A copy; None if there are none in half precision.
    """
    if not any(node.op_type in _KINDS for node in model.graph.node):
        return None
    return _Widened(model).run()


class _Widened(Rewriting):
    def run(self) -> onnx.ModelProto | None:
        changed = False
        for node in list(self.graph.node):
            scale = self.value(node.input[1]) if node.op_type in _KINDS and node.domain in OURS else None
            half = None if scale is None else _HALF.get(scale.dtype.name)
            if scale is None or half is None:
                self.nodes.append(node)
                continue
            changed, name = True, node.output[0]
            node.input[1] = self.constant(scale.astype(np.float32), f"{name}/scale")
            if node.op_type == "QuantizeLinear":
                node.input[0] = self.add("Cast", [node.input[0]], name, to=TensorProto.FLOAT)
                self.nodes.append(node)
            else:
                node.output[0] = self.name(f"{name}/floats")
                self.nodes.append(node)
                self.add("Cast", [node.output[0]], name, name, to=half)
        return self.finish() if changed else None
