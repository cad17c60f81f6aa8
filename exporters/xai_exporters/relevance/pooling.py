"""Poolings: averages share out in proportion to x+, maxima give all to the winner, norms share out by what each value adds."""

from __future__ import annotations

import math

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import expand
from ..vjp.reduction import kept, reduced
from ..vjp.table import vjp
from .facts import RESAMPLINGS
from .fixed_rules import WINNERS, WinnerTakesAll
from .layer_rules import Proportional
from .table import relevance

relevance("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", *RESAMPLINGS)(Proportional())
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


@relevance("ReduceLogSum", "ReduceLogSumExp")
def log_of_sum(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """In proportion to the terms of the sum: R_i = x_i R / sum x, or e^(x_i) R / sum e^x (a softmax, a smooth maximum)."""
    part = vjp.find(step.node).function(op, step, r)
    assert isinstance(part, ir.Value)
    return part if step.node.op_type == "ReduceLogSumExp" else op.Mul(step.x, part)


@relevance("ReduceProd")
def product(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """In equal shares, as for a product of two signals (Achtibat et al. 2024)."""
    dims = step.dims(step.x)
    share = op.Div(r, float(math.prod(dims[a] or 1 for a in reduced(step))))
    return expand(op, kept(op, step, share), dims)


@relevance("Det")
def determinant(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """A sum of products of n entries: each takes x_ij (d det / d x_ij) / (n det). They add up to 1. A det of 0 gives nothing."""
    known = op.Greater(op.Abs(step.y), 1e-20)
    share = op.Where(known, op.Div(r, op.Mul(step.y, float(step.dims(step.x)[-1] or 1))), 0.0)
    part = vjp.find(step.node).function(op, step, share)
    assert isinstance(part, ir.Value)
    return op.Mul(step.x, part)
