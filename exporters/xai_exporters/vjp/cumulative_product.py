"""Products along an axis up to each position."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp


@vjp("CumProd")
def cumulative_product(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y_j = product of x_i over i <= j: dx_i = (sum of dy_j y_j over j >= i) / x_i; x must not be 0."""
    axis = step.constant(1)
    assert axis is not None
    if step.dims(step.x)[step.axis(axis.item())] is None:
        raise step.refuse("it multiplies over the batch: an image's result depends on its neighbours")
    options = {"exclusive": step.attr("exclusive", 0), "reverse": 1 - step.attr("reverse", 0)}
    return op.Div(op.CumSum(op.Mul(dy, step.y), step.input(1), **options), step.x)
