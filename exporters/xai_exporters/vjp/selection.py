"""Operators that keep some values and drop the others: dy goes to those that are kept."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import reshape
from .axis import from_positions
from .table import vjp


@vjp("TopK")
def top_k(op: Ops, step: Step, dy: ir.Value | None, _: ir.Value | None) -> ir.Value | None:
    """dy goes back to where the values stood; the operator gives these places as its second output."""
    axis = step.axis(step.attr("axis", -1))
    if step.dims(step.x)[axis] is None:
        raise step.refuse("it sorts the batch: an image's result depends on its neighbours")
    if dy is None:
        return None
    zeros = op.Expand(0.0, op.Shape(step.x))
    return op.ScatterElements(zeros, step.node.outputs[1], dy, axis=axis)


@vjp("Compress")
def compress(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x at the positions along an axis at which the condition holds; without an axis, of x as one row."""
    condition, dims = step.constant(1), step.dims(step.x)
    assert condition is not None
    positions, axis = np.flatnonzero(condition), step.attr("axis")
    if axis is None:
        size = int(np.prod([d or 0 for d in dims]))  # 0 if an open dimension is among them
        rank, at = 1, 0
    else:
        rank, at = len(dims), step.axis(axis)
        size = dims[at] or 0
    if not size:
        raise step.refuse("it selects along the batch")
    return reshape(op, from_positions(op, dy, at, rank, positions, size), dims, step.x)


@vjp("Trilu")
def trilu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """The same triangle of dy."""
    return op.Trilu(dy, step.optional(1), upper=int(step.attr("upper", 1)))


@vjp("Unique")
def unique(op: Ops, step: Step, *dys: ir.Value | None) -> None:
    """Refused."""
    raise step.refuse("how many values it gives depends on the image; export the network without it")
