"""Coordinates of an affine grid: the zero rule (Bach et al. 2015, equation 56)."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .cumulative import cumulative_sum
from .table import relevance


@relevance("AffineGrid")
def affine_grid(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """y_j = sum of w_ji theta_i, a sum with constant weights like a cumulative one: the same rule with this operator's gradient."""
    return cumulative_sum(op, step, r)
