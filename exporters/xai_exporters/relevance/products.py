"""Products of two signals, as in attention (Achtibat et al. 2024, AttnLRP, arXiv:2402.05602)."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..vjp.table import vjp

EPSILON = 1e-6


def bilinear(op: Ops, step: Step, r: ir.Value) -> list[ir.Value | None]:
    """y = A B: each factor gets half of the relevance, by the epsilon rule (equation 13).

    R_A = A * (s B^T) / 2, s = R / (y + epsilon sign(y)).
    """
    y = step.y
    s = op.Div(op.Mul(r, 0.5), op.Where(op.Less(y, 0.0), op.Sub(y, EPSILON), op.Add(y, EPSILON)))
    results = vjp.find(step.node).function(op, step, s)
    parts = [results] if isinstance(results, ir.Value) else list(results or [])
    return [None if part is None else op.Mul(step.input(i), part) for i, part in enumerate(parts)]
