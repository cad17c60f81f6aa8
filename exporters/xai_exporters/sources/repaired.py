"""Mend what converters leave wrong in ONNX files: runtimes refuse them, though only one meaning is possible.

1. Operators of a domain without an import of it: NNCF's `compress_weights` (MatMulNBits of com.microsoft), brevitas' first exports
   (Quant of onnx.brevitas). Such domains had one version then, 1.
2. Its scales and zero points of a convolution's weight [O,I,h,w] have shape [O,1,1]. ONNX wants a vector along the axis: [O].
3. tf2onnx leaves TensorFlow's Erfc (Keras' gelu), which ONNX does not have: erfc(x) = 1 - erf(x), to 6e-8. So gelu,
   x erfc(-x / sqrt(2)) / 2, is exact to 3e-8 |x|.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from ..graph.emit import unique
from ..graph.reading import opset_of
from ..passes.rewriting import attribute_of

_CAST_LIKE = 15  # the first opset that has it


def repair(model: onnx.ModelProto) -> None:
    """Mend a model in place."""
    known = {entry.domain for entry in model.opset_import} | {"", "ai.onnx", "ai.onnx.ml"}
    for domain in sorted({node.domain for node in model.graph.node} - known):
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
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
    if any(node.op_type == "Erfc" and node.domain == "" and len(node.input) == 1 for node in model.graph.node):
        _write_erfc(model)


def _write_erfc(model: onnx.ModelProto) -> None:
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    one = unique("erfc/one", taken)
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((), np.float32), one))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Erfc" or node.domain or len(node.input) != 1:
            nodes.append(node)
            continue
        erf, minuend = unique(f"{node.output[0]}/Erf", taken), one
        nodes.append(onnx.helper.make_node("Erf", node.input, [erf], erf))
        if opset_of(model) >= _CAST_LIKE:  # half precision, double
            minuend = unique(f"{node.output[0]}/one", taken)
            nodes.append(onnx.helper.make_node("CastLike", [one, erf], [minuend], minuend))
        nodes.append(onnx.helper.make_node("Sub", [minuend, erf], node.output, node.name))
    del graph.node[:]
    graph.node.extend(nodes)
