"""The step between two values of the logits in a network of integers."""

from __future__ import annotations

import onnx_ir as ir

from ...graph.reading import STRAIGHT, constant_of
from .logits import VIEWS


def quantisation_step(graph: ir.Graph, logits: ir.Value) -> float | None:
    """The step between two codes of the logits; 0 in a network of floats, None if only tensors before them are quantised.

    Codes of 16 bits, and quantisers of other kinds, are written as floats: a marked Round between Div and Mul.
    """
    if not any(_rounds(node) and constant_of(node.inputs[0]) is None for node in graph):
        return 0.0
    value: ir.Value | None = logits
    while value is not None:
        readers = [node for node, position in value.uses() if node.op_type == "QuantizeLinear" and position == 0]
        made = value.producer()
        if made is not None and (
            made.op_type == "DequantizeLinear" or (made.op_type == "Mul" and _holds_codes(made.inputs[0]))
        ):
            readers.append(made)
        readers += [
            node for node, position in value.uses() if node.op_type == "Div" and position == 0 and _is_coded(node)
        ]
        for node in readers:
            scale = constant_of(node.inputs[1])
            if scale is not None:
                return float(scale.max())
        if made is None or made.op_type not in VIEWS:
            return None
        value = made.inputs[0]
    return None


def _rounds(node: ir.Node) -> bool:
    """Whether a node gives codes."""
    kinds = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
    return node.op_type in kinds or (node.op_type == "Round" and STRAIGHT in node.metadata_props)


def _is_coded(division: ir.Node) -> bool:
    """Whether what a Div gives is rounded to codes."""
    return any(node.op_type == "Round" and _rounds(node) for node, _ in division.outputs[0].uses())


def _holds_codes(value: ir.Value | None) -> bool:
    """Whether a tensor holds codes as floats, or codes less their zero point."""
    while value is not None and (made := value.producer()) is not None and made.op_type in ("Sub", "Clip", "Add"):
        value = made.inputs[0]
    made = None if value is None else value.producer()
    return made is not None and made.op_type == "Round" and _rounds(made)
