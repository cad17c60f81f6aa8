"""Matrix products with transposes, a factor and an activation."""

from __future__ import annotations

import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule
from .activation import activated


@rule("com.microsoft.FusedMatMul", "com.microsoft.TransposeMatMul", "com.microsoft.FusedMatMulActivation")
def fused_matmul(op: Ops, node: FusedNode) -> ir.Value:
    """activation(alpha A' B'), where A' and B' are A and B with axes swapped; see `_turned`."""
    a, b = (_turned(op, node, position, letter) for position, letter in ((0, "A"), (1, "B")))
    y, alpha = op.MatMul(a, b), float(node.attr("alpha", 1.0))
    y = y if alpha == 1.0 else op.Mul(y, alpha)
    return activated(op, node, y, _parameters(node))


def _turned(op: Ops, node: FusedNode, position: int, letter: str) -> ir.Value:
    """A factor with its axes in the order of MatMul.

    `transBatchA` moves the first axis to the last but one: [b0,b1,..,m,k] stands in the file as [m,b0,b1,..,k]. `transA` then swaps
    the last two axes. A vector has nothing to swap.
    """
    x, batch, matrix = node.x(position), node.attr(f"transBatch{letter}", 0), node.attr(f"trans{letter}", 0)
    if not batch and not matrix:
        return x
    rank = node.rank(x)
    if rank < 2:
        return x
    axes = [*range(1, rank - 1), 0, rank - 1] if batch else list(range(rank))
    if matrix:
        axes[-2:] = axes[:-3:-1]
    return op.Transpose(x, perm=axes)


@rule("com.microsoft.FusedGemm")
def fused_gemm(op: Ops, node: FusedNode) -> ir.Value:
    """activation(Gemm(A, B, C))."""
    y = op.Gemm(node.x(), node.x(1), node.optional(2), **node.attributes("alpha", "beta", "transA", "transB"))
    return activated(op, node, y, _parameters(node))


def _parameters(node: FusedNode) -> list[float]:
    """Alpha and beta of the activation, as far as they are there."""
    given = node.attributes("activation_alpha", "activation_beta")
    return [float(given[name]) for name in ("activation_alpha", "activation_beta") if name in given]
