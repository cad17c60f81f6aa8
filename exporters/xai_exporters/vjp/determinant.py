"""Determinants of small matrices."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.cofactors import cofactors
from ..graph.emit import Ops
from .table import vjp

_LARGEST = 16
"""Rows of a matrix."""


@vjp("Det")
def determinant(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """d det / d x is the matrix of cofactors (Jacobi's formula); exact if det is 0, too."""
    n = step.dims(step.x)[-1]
    if n is None or n > _LARGEST:
        raise step.refuse(f"its matrices have more than {_LARGEST} rows")
    dy = op.Unsqueeze(dy, [-2, -1])
    return dy if n == 1 else op.Mul(dy, cofactors(op, step.x, n, len(step.dims(step.x))))
