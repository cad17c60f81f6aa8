"""Sums along an axis up to each position: the zero rule (Bach et al. 2015, equation 56)."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..vjp.table import vjp
from .table import relevance


@relevance("CumSum")
def cumulative_sum(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """R_i = x_i * sum over j >= i of R_j / y_j; the sum is the gradient's. A y_j of 0 gives nothing."""
    known = op.Greater(op.Abs(step.y), 1e-20)
    back = vjp.find(step.node).function(op, step, op.Where(known, op.Div(r, step.y), 0.0))
    assert isinstance(back, ir.Value)
    return op.Mul(step.x, back)
