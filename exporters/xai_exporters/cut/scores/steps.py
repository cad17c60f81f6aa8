"""The step between two values of the logits in a network of integers."""

from __future__ import annotations

import onnx_ir as ir

from ...graph.reading import constant_of
from .logits import VIEWS


def quantisation_step(graph: ir.Graph, logits: ir.Value) -> float | None:
    """The step between two codes of the logits; 0 in a network of floats, None if only tensors before them are quantised."""
    kinds = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
    if not any(node.op_type in kinds and constant_of(node.inputs[0]) is None for node in graph):
        return 0.0
    value: ir.Value | None = logits
    while value is not None:
        readers = [node for node, position in value.uses() if node.op_type == "QuantizeLinear" and position == 0]
        made = value.producer()
        if made is not None and made.op_type == "DequantizeLinear":
            readers.append(made)
        for node in readers:
            scale = constant_of(node.inputs[1])
            if scale is not None:
                return float(scale.max())
        if made is None or made.op_type not in VIEWS:
            return None
        value = made.inputs[0]
    return None
