"""Determinants of small matrices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp

_LARGEST = 16
"""Rows of a matrix: the minors of one of n rows hold about n^4 entries."""


@vjp("Det")
def determinant(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """d det / d x_ij = (-1)^(i+j) times the determinant without row i and column j (Jacobi's formula); exact if det is 0, too."""
    n = step.dims(step.x)[-1]
    if n is None or n > _LARGEST:
        raise step.refuse(f"its matrices have more than {_LARGEST} rows")
    dy = op.Unsqueeze(dy, [-2, -1])
    if n == 1:
        return dy
    others = np.array([[i for i in range(n) if i != left] for left in range(n)])  # [n,n-1]
    places = others[:, None, :, None] * n + others[None, :, None, :]  # in the flat matrix, of each minor [n,n]
    batches = [0] * (len(step.dims(step.x)) - 2)  # as they are
    flat = op.Reshape(step.x, [*batches, n * n])
    minors = op.Det(op.Gather(flat, places.reshape(n * n, n - 1, n - 1), axis=-1))  # [..., n*n]
    signs = np.where(np.indices((n, n)).sum(0) % 2, -1.0, 1.0)
    return op.Mul(dy, op.Mul(op.Reshape(minors, [*batches, n, n]), signs))
