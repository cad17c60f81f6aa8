"""Keep ONNX Runtime from computing a Softmax on codes.

Between DequantizeLinear and QuantizeLinear its optimiser (seen in 1.31) makes a QLinearSoftmax, which gives some 5 % of the codes
one off. A transformer's layers after it make up to 20 % of the largest logit of that. A Clip before the Softmax that lets every
number pass stops it. Behind the last layer a Softmax stays: its input is the scores, which are explained before it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.reading import descendants

_LAYERS = ("Conv", "Einsum", "Gemm", "MatMul")


def separate_softmaxes(model: ir.Model) -> bool:
    """Rewrite the graph in place, its element types known; tensors keep their names. Returns whether anything was rewritten."""
    emit, changed = Emitter(model.graph, "softmax"), False
    for node in list(model.graph):
        read = node.inputs[0] if node.op_type == "Softmax" and node.domain == "" else None
        if read is None or read.dtype != ir.DataType.FLOAT or not _gives(read, "DequantizeLinear"):
            continue
        if not any(user.op_type == "QuantizeLinear" for user, _ in node.outputs[0].uses()):
            continue
        if not any(user.op_type in _LAYERS for value in descendants([node.outputs[0]]) for user, _ in value.uses()):
            continue
        bound = np.finfo(np.float32).max
        bounds = [emit.constant(np.array(limit, np.float32), "bound") for limit in (-bound, bound)]
        clipped = emit.node("Clip", [read, *bounds], "clipped")
        clipped.type = read.type
        node.replace_input_with(0, clipped)
        changed = True
    if changed:
        model.graph.sort()
    return changed


def _gives(value: ir.Value, op: str) -> bool:
    node = value.producer()
    return node is not None and node.op_type == op
