"""Poolings: averages share out in proportion to x+, maxima give all to the winner, norms by what each value adds to them."""

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
    """R_i = x_i (dy/dx_i) R / sum_i x_i (dy/dx_i); by Euler's theorem the sum is k y for a function of degree k: k = 1 for norms,
    2 for the sum of squares. The zero rule is the case of a linear y."""
    degree = 2.0 if step.node.op_type == "ReduceSumSquare" else 1.0
    known = op.Greater(step.y, 1e-20)
    share = op.Where(known, op.Div(r, op.Mul(step.y, degree)), 0.0)
    part = vjp.find(step.node).function(op, step, share)
    assert isinstance(part, ir.Value)
    return op.Mul(step.x, part)
