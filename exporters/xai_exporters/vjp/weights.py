"""Weights that a backward node shares with its forward node."""

from __future__ import annotations

import onnx_ir as ir

from ..graph.emit import Ops
from ..graph.shapes import Dims


def anew(op: Ops, weight: ir.Value, dims: Dims) -> ir.Value:
    """The same weight as another constant: put together from its two halves, which runtimes fold as they load.

    OpenVINO (2026.4) packs a weight once and takes the packed one for every node that reads it, even where one of them
    reads it transposed and both have the same shape: a silently wrong result. So a weight that is read transposed, and is
    as tall as it is wide, has to be another one.
    """
    axis = next((i for i, d in enumerate(dims) if d is not None and d > 1), None)
    if axis is None:
        return weight
    half = (dims[axis] or 0) // 2
    return op.Concat(op.Slice(weight, [0], [half], [axis]), op.Slice(weight, [half], [1 << 62], [axis]), axis=axis)
