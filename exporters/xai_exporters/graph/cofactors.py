"""The cofactors of small matrices: what their determinants' gradients and their inverses are made of."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .emit import Ops


def cofactors(op: Ops, x: ir.Value, n: int, rank: int) -> ir.Value:
    """C_ij = (-1)^(i+j) times the determinant without row i and column j, [..., n, n]; n > 1. It holds n^4 entries a matrix."""
    others = np.array([[i for i in range(n) if i != left] for left in range(n)])  # [n,n-1]
    places = others[:, None, :, None] * n + others[None, :, None, :]  # in the flat matrix, of each minor [n,n]
    batches = [0] * (rank - 2)  # as they are
    flat = op.Reshape(x, [*batches, n * n])
    minors = op.Det(op.Gather(flat, places.reshape(n * n, n - 1, n - 1), axis=-1))  # [..., n*n]
    signs = np.where(np.indices((n, n)).sum(0) % 2, -1.0, 1.0)
    return op.Mul(op.Reshape(minors, [*batches, n, n]), signs)
