"""Poolings: averages share out in proportion to x+, maxima give all to the winner, norms share out by what each value adds.

What resamples or averages logits, at the end of segmentation networks, shares a negative one out in proportion to x-: by x+ alone
the negative classes would get nothing, and a contrast of classes would be none.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from ..backward.rules import Result, Step
from ..graph.emit import Ops
from ..graph.shapes import expand
from ..vjp.reduction import kept, reduced
from ..vjp.table import vjp
from .facts import RESAMPLINGS, is_signal
from .fixed_rules import WINNERS, WinnerTakesAll
from .layer import WEIGHTED, Layer
from .layer_rules import Proportional, share, through
from .table import relevance


@relevance(*RESAMPLINGS)
def by_sign(op: Ops, step: Step, r: ir.Value) -> Result:
    """R_i = x_i+ w_i R / sum x+ w where sum x w >= 0, x_i- w_i R / sum x- w elsewhere; w >= 0, see `Layer.term`.

    The larger part divides, so that no share exceeds R in magnitude. For x >= 0 it is the rule `proportional`.
    """

    def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
        [above], below = layer.terms("+", "+"), layer.terms("-", "+")
        if not below:  # x >= 0
            return share(layer, [above], r, 0.0, nonnegative=True)
        positive = op.GreaterOrEqual(op.Add(above.z, below[0].z), 0.0)
        parts = [(above, op.Where(positive, r, 0.0)), (below[0], op.Where(positive, 0.0, r))]
        results = [share(layer, [term], part, 0.0) or [] for term, part in parts]
        return [op.Add(a, b) for a, b in zip(*results, strict=True)]

    return through(op, step, r, shares)


@relevance("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum")
def average(op: Ops, step: Step, r: ir.Value) -> Result:
    """In proportion to x+; after the last layer with weights, where logits are averaged, by the sign of the result."""
    return (Proportional() if _weights_follow(step.y) else by_sign)(op, step, r)


def _weights_follow(value: ir.Value) -> bool:
    """Whether a layer with weights, or a product of signals, reads what is made of a tensor."""
    seen, pending = {value}, [value]
    while pending:
        for node, _ in pending.pop().uses():
            made = [y for y in node.outputs if is_signal(y) and y not in seen]
            if made and node.op_type in WEIGHTED:
                return True
            seen.update(made)
            pending.extend(made)
    return False


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
