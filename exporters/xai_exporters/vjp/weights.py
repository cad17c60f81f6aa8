"""Weights that a backward node shares with its forward node."""

from __future__ import annotations

import onnx_ir as ir

from ..graph.emit import Ops
from ..graph.reading import constant_of
from ..graph.shapes import Dims

_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")


def apart(op: Ops, weight: ir.Value, dims: Dims) -> ir.Value:
    """A matrix of weights for transposed use: another constant if OpenVINO would compute with the wrong one, see `duplicate`.

    That is so for a square matrix. It is so, too, for a matrix in codes of 8 bits with a scale for each row: read transposed, the
    scales lie along the axis that is summed. OpenVINO (2026.4) then takes the first scale for all rows if the other operand is a
    matrix (or has tokens of number 1): the result is silently wrong.
    """
    square = len(dims) > 1 and dims[-1] == dims[-2]
    return duplicate(op, weight, dims) if square or has_scales(weight) else weight


def has_scales(weight: ir.Value) -> bool:
    """Whether a tensor is made of codes with several scales."""
    node = weight.producer()
    while node is not None and node.op_type in _MOVES:
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return False
    scale = constant_of(node.inputs[1])
    return scale is None or scale.size > 1


def duplicate(op: Ops, weight: ir.Value, dims: Dims) -> ir.Value:
    """The same weight as another constant: the Concat of its two halves, which runtimes fold when they load the graph.

    OpenVINO (2026.4) packs a weight once and uses the packed copy for every node that reads it. It does so even if one of the
    nodes reads it transposed and both forms have the same shape: the result is silently wrong. Therefore a square weight that
    is read transposed has to be another constant. OpenVINO does not keep such a constant in codes of 8 bits either.
    """
    axis = next((i for i, d in enumerate(dims) if d is not None and d > 1), None)
    if axis is None:
        return weight
    half = (dims[axis] or 0) // 2
    return op.Concat(op.Slice(weight, [0], [half], [axis]), op.Slice(weight, [half], [1 << 62], [axis]), axis=axis)
