"""Weights that a backward node shares with its forward node."""

from __future__ import annotations

import onnx_ir as ir

from ..graph.emit import Ops
from ..graph.shapes import Dims


def duplicate(op: Ops, weight: ir.Value, dims: Dims) -> ir.Value:
    """The same weight as another constant: the Concat of its two halves, which runtimes fold when they load the graph.

    OpenVINO (2026.4) packs a weight once and uses the packed copy for every node that reads it. It does so even if one of the
    nodes reads it transposed and both forms have the same shape: the result is silently wrong. Therefore a square weight that
    is read transposed has to be another constant.
    """
    axis = next((i for i, d in enumerate(dims) if d is not None and d > 1), None)
    if axis is None:
        return weight
    half = (dims[axis] or 0) // 2
    return op.Concat(op.Slice(weight, [0], [half], [axis]), op.Slice(weight, [half], [1 << 62], [axis]), axis=axis)
