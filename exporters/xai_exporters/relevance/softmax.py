"""Softmax (Achtibat et al. 2024, AttnLRP, equation 12)."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import relevance


@relevance("Softmax")
def softmax(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """R_i = x_i (R_i - s_i sum_j R_j), s = softmax(x): the gradient times x, for a Taylor expansion at x."""
    axis = [step.axis(step.attr("axis", -1))]
    return op.Mul(step.x, op.Sub(r, op.Mul(step.y, op.ReduceSum(r, axis, keepdims=1))))
