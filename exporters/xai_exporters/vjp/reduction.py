"""Reductions over axes: dy goes back to all values that were reduced."""

from __future__ import annotations

import math

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import expand
from .table import vjp


def kept(op: Ops, step: Step, value: ir.Value) -> ir.Value:
    """A tensor of the output's shape with the reduced axes put back, of size 1."""
    axes = reduced(step)
    return value if step.attr("keepdims", 1) or not axes else op.Unsqueeze(value, axes)


def reduced(step: Step) -> list[int]:
    """The axes, counted from the front.

    Raises:
        RuleError: The batch is among them.
    """
    # newer opsets have the axes as an input, older ones as an attribute
    given = step.constant(1) if len(step.node.inputs) > 1 else step.attr("axes")
    dims = step.dims(step.x)
    if given is None or len(given) == 0:
        axes = [] if step.attr("noop_with_empty_axes", 0) else list(range(len(dims)))
    else:
        axes = sorted(int(a) % len(dims) for a in given)
    if any(dims[a] is None for a in axes):
        raise step.refuse("it reduces over the batch: an image's result depends on its neighbours")
    return axes


@vjp("ReduceSum", finite=True)
def reduce_sum(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy everywhere."""
    return expand(op, kept(op, step, dy), step.dims(step.x))


@vjp("ReduceMean", finite=True)
def reduce_mean(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy / n everywhere."""
    dims = step.dims(step.x)
    count = math.prod(dims[a] or 1 for a in reduced(step))
    return expand(op, kept(op, step, op.Div(dy, float(count))), dims)


@vjp("ReduceMax", "ReduceMin")
def reduce_extremum(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dy in equal shares to all that equal the extremum (as torch.amax)."""
    axes = reduced(step)
    if not axes:  # nothing is reduced; ReduceSum would take no axes for all axes
        return dy
    equal = op.Equal(step.x, kept(op, step, step.y))
    one = op.Where(equal, 1.0, 0.0)
    return op.Mul(one, op.Div(kept(op, step, dy), op.ReduceSum(one, axes, keepdims=1)))


@vjp("ReduceL1")
def reduce_l1(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy sign(x)."""
    return op.Mul(op.Sign(step.x), kept(op, step, dy))


@vjp("ReduceL2")
def reduce_l2(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = sqrt(sum x^2): dx = dy x / y; 0 where y = 0."""
    positive = op.Greater(step.y, 0.0)
    share = op.Where(positive, op.Div(dy, op.Where(positive, step.y, 1.0)), 0.0)
    return op.Mul(step.x, kept(op, step, share))


@vjp("ReduceSumSquare")
def reduce_sum_square(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = 2 x dy."""
    return op.Mul(step.x, kept(op, step, op.Mul(dy, 2.0)))


@vjp("ReduceLogSum")
def reduce_log_sum(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = log(sum x): dx = dy / e^y."""
    return expand(op, kept(op, step, op.Div(dy, op.Exp(step.y))), step.dims(step.x))


@vjp("ReduceLogSumExp")
def reduce_log_sum_exp(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = log(sum e^x): dx = dy e^(x - y)."""
    return op.Mul(op.Exp(op.Sub(step.x, kept(op, step, step.y))), kept(op, step, dy))


@vjp("ReduceProd")
def reduce_prod(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy times the product of the others: y / x if none is 0; a single 0 gets the product of the rest, and the others 0."""
    axes = reduced(step)
    if not axes:  # nothing is reduced
        return dy
    zero = op.Equal(step.x, 0.0)
    rest = op.Where(zero, 1.0, step.x)
    zeros = op.ReduceSum(op.Where(zero, 1.0, 0.0), axes, keepdims=1)
    others = op.Div(op.ReduceProd(rest, axes, keepdims=1), rest)
    # the zeros among the others: all of them, without the value itself
    alone = op.Equal(op.Sub(zeros, op.Where(zero, 1.0, 0.0)), 0.0)
    return op.Mul(op.Where(alone, others, 0.0), kept(op, step, dy))
