"""Sums along an axis up to each position."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp


@vjp("CumSum")
def cumulative_sum(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y_j = sum of x_i over i <= j: dx_i = sum of dy_j over j >= i, the same sum from the other end."""
    axis = step.constant(1)
    assert axis is not None
    if step.dims(step.x)[step.axis(axis.item())] is None:
        raise step.refuse("it sums over the batch: an image's result depends on its neighbours")
    return op.CumSum(dy, step.input(1), exclusive=step.attr("exclusive", 0), reverse=1 - step.attr("reverse", 0))
