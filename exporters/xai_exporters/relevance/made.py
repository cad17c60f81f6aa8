"""Operators that make a tensor of a few numbers: a Range, the two values of a OneHot. Limits, depths and indices take nothing."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Result, Step
from ..graph.emit import Ops
from ..vjp.table import vjp
from .facts import is_signal
from .table import relevance


@relevance("Range")
def range_(op: Ops, step: Step, r: ir.Value) -> Result:
    """R_start = sum_i start R_i / z_i, R_delta = sum_i i delta R_i / z_i, y_i = start + i delta (Bach et al. 2015, equation 56).

    r is [n]; start, limit and delta are scalars, and so is what they get. z_i is the sum of the terms that are signals: a constant
    takes nothing, as in other sums. A z of 0 gives nothing. The limit only sets n.
    """
    start, delta = step.x, step.input(2)
    places = op.CastLike(op.Range(0, op.Squeeze(op.Shape(step.y), [0]), 1), r)
    along = op.Mul(places, delta)
    terms = {0: op.Add(op.Mul(places, 0.0), start), 2: along}
    signals = [position for position, x in ((0, start), (2, delta)) if is_signal(x)]
    z = step.y if len(signals) == 2 else terms[signals[0]]
    share = op.Where(op.Greater(op.Abs(z), 1e-20), op.Div(r, z), 0.0)
    return [
        op.ReduceSum(op.Mul(terms[i], share), keepdims=0) if i in signals and i in step.leads else None
        for i in (0, 1, 2)
    ]


@relevance("OneHot")
def one_hot(op: Ops, step: Step, r: ir.Value) -> Result:
    """[..., depth,...] of two values -> [2]: R_off and R_on are the sums of r over the copies of each, as a Gather's are."""
    return vjp.find(step.node).function(op, step, r)
