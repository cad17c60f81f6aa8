"""Inverses of small matrices, and distances between rows."""

from __future__ import annotations

import onnx_ir as ir

from ...graph.cofactors import cofactors
from ...graph.emit import Ops
from ..fused_node import FusedNode, rule

_LARGEST = 4
"""Rows of a matrix whose inverse is made of cofactors: float32 loses more with each row."""


@rule("com.microsoft.Inverse")
def inverse(op: Ops, node: FusedNode) -> ir.Value:
    """The transposed cofactors divided by the determinant (Cramer's rule)."""
    x = node.x()
    rank, n = node.rank(x), node.dim(x, -1)
    if n > _LARGEST:
        raise node.refuse(f"its matrices have {n} rows, more than {_LARGEST}")
    if n == 1:
        return op.Reciprocal(x)
    adjugate = op.Transpose(cofactors(op, x, n, rank), perm=[*range(rank - 2), rank - 1, rank - 2])
    return op.Div(adjugate, op.Unsqueeze(op.Det(x), [-2, -1]))


@rule("com.microsoft.CDist")
def distances(op: Ops, node: FusedNode) -> ir.Value:
    """[m,n]: the distances between the rows of [m,k] and of [n,k], or their squares."""
    metric = node.attr("metric", "sqeuclidean")
    if metric not in ("euclidean", "sqeuclidean"):
        raise node.refuse(f"its metric {metric!r} is not known")
    apart = op.Sub(op.Unsqueeze(node.x(), [1]), op.Unsqueeze(node.x(1), [0]))
    squares = op.ReduceSum(op.Mul(apart, apart), [2], keepdims=0)
    return op.Sqrt(squares) if metric == "euclidean" else squares
