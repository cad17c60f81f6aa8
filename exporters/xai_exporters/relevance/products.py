"""Products of two signals, as in attention (Achtibat et al. 2024, AttnLRP, arXiv:2402.05602)."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..vjp.table import vjp
from .facts import is_signal

EPSILON = 1e-6


def bilinear(op: Ops, step: Step, r: ir.Value) -> list[ir.Value | None]:
    """y = A B: each factor gets half of the relevance, by the epsilon rule (equation 13); each of n signals gets R / n.

    R_A = A * (s B^T) / n, s = R / (y + epsilon sign(y)).
    """
    y, operands = step.y, step.node.inputs if step.node.op_type == "Einsum" else step.node.inputs[:2]
    signals = sum(x is not None and is_signal(x) for x in operands)
    s = op.Div(op.Mul(r, 1 / signals), op.Where(op.Less(y, 0.0), op.Sub(y, EPSILON), op.Add(y, EPSILON)))
    results = vjp.find(step.node).function(op, step, s)
    parts = [results] if isinstance(results, ir.Value) else list(results or [])
    return [None if part is None else op.Mul(step.input(i), part) for i, part in enumerate(parts)]
