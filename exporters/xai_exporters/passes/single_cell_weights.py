"""Compressed weights of convolutions on a single cell become floats.

OpenVINO 2026.4 writes a 1 x 1 convolution of [N,C,1,1] as a matrix product that reads compressed weights. It then does not compile
the graph if the batch is open and a Reshape or Unsqueeze made the cell ("Accessing out-of-range dimension"). Squeeze-and-excitation
has such convolutions, and TFLite stores their weights in 8 bits. A convolution takes floats if

1. its weights are a DequantizeLinear of constants, and its image is none: it is computed in floats anyway,
2. its image and its kernel have one cell.

The weights are those that DequantizeLinear gives: y = (codes - z) s.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.emit import Emitter
from ..graph.measure import Measured
from ..graph.reading import attribute, constant_of

_DEQUANTIZE = "DequantizeLinear"


def write_single_cell_weights(model: ir.Model, shapes: Measured) -> None:
    """Rewrite the graph in place; a weight's tensor keeps its name where other nodes read it."""
    emit = Emitter(model.graph, "cell")
    for node in list(model.graph):
        if node.op_type != "Conv" or node.domain != "":
            continue
        x, weight = node.inputs[:2]
        assert x is not None
        assert weight is not None
        made, before = weight.producer(), x.producer()
        if made is None or made.op_type != _DEQUANTIZE or (before is not None and before.op_type == _DEQUANTIZE):
            continue
        if any(size != 1 for size in (*shapes.dims(x)[2:], *shapes.dims(weight)[2:])):
            continue
        if (numbers := _numbers(made)) is not None:
            node.replace_input_with(1, emit.constant(numbers, f"{node.name}/weight"))
            if not weight.uses() and not weight.is_graph_output():
                model.graph.remove(made, safe=True)


def _numbers(node: ir.Node) -> NDArray[np.float32] | None:
    """What a DequantizeLinear of constants gives; None if one is computed, or has a scale for each block."""
    codes, scale = (constant_of(value) for value in node.inputs[:2])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = np.zeros((), np.int8) if given is None else constant_of(given)
    if codes is None or scale is None or zero is None or attribute(node, "block_size", 0):
        return None
    if scale.dtype != np.float32 or codes.dtype not in (np.int8, np.uint8):
        return None
    wide = [-1 if i == attribute(node, "axis", 1) % codes.ndim else 1 for i in range(codes.ndim)]
    s, z = (a.reshape(wide) if a.size > 1 else a.reshape(()) for a in (scale, zero))
    numbers: NDArray[np.float32] = (codes.astype(np.float32) - z.astype(np.float32)) * s
    return numbers
