"""Softmax and its logarithm."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp


@vjp("Softmax", finite=True)
def softmax(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = y (dy - sum(dy y))."""
    axis = [step.axis(step.attr("axis", -1))]
    return op.Mul(step.y, op.Sub(dy, op.ReduceSum(op.Mul(dy, step.y), axis, keepdims=1)))


@vjp("LogSoftmax")
def log_softmax(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy - softmax(x) sum(dy), softmax(x) = e^y."""
    axis = [step.axis(step.attr("axis", -1))]
    return op.Sub(dy, op.Mul(op.Exp(step.y), op.ReduceSum(dy, axis, keepdims=1)))
