"""Poolings: averages share out in proportion to x+, maxima give all to the winner, norms share out by what each value adds."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..vjp.table import vjp
from .fixed_rules import WINNERS, WinnerTakesAll
from .layer_rules import Proportional
from .table import relevance

relevance("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Resize")(Proportional())
relevance(*WINNERS)(WinnerTakesAll())


@relevance("LpPool", "GlobalLpPool", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def norm(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """R_i = x_i (dy/dx_i) R / sum_i x_i (dy/dx_i).

    By Euler's theorem the sum is k y for a homogeneous function of degree k: k = 1 for norms, 2 for the sum of squares. For a
    linear y this is the zero rule.
    """
    degree = 2.0 if step.node.op_type == "ReduceSumSquare" else 1.0
    known = op.Greater(step.y, 1e-20)  # below it the quotient could overflow
    share = op.Where(known, op.Div(r, op.Mul(step.y, degree)), 0.0)
    part = vjp.find(step.node).function(op, step, share)
    assert isinstance(part, ir.Value)
    return op.Mul(step.x, part)
