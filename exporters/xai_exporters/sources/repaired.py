"""Mend what NNCF's `compress_weights` leaves wrong in ONNX files: runtimes refuse them, though only one meaning is possible.

1. It writes operators of com.microsoft (MatMulNBits) without an import of that domain.
2. Scales and zero points of a convolution's weight [O,I,h,w] have shape [O,1,1]. ONNX wants a vector along the axis: [O].
"""

from __future__ import annotations

import math

import onnx

from ..passes.rewriting import attribute_of


def repair(model: onnx.ModelProto) -> None:
    """Mend a model in place."""
    known = {entry.domain for entry in model.opset_import}
    if "com.microsoft" not in known and any(node.domain == "com.microsoft" for node in model.graph.node):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        codes = weights.get(node.input[0]) if node.input else None
        if node.op_type != "DequantizeLinear" or codes is None or attribute_of(node, "block_size", 0):
            continue
        axis = int(attribute_of(node, "axis", 1))
        length = codes.dims[axis] if -len(codes.dims) <= axis < len(codes.dims) else 0
        for name in node.input[1:]:
            tensor = weights.get(name)
            if tensor is not None and len(tensor.dims) > 1 and math.prod(tensor.dims) == max(tensor.dims) == length:
                del tensor.dims[:]
                tensor.dims.append(length)
