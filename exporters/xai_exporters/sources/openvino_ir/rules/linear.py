"""Matrix products and attention."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ....graph.emit import Ops
from ..layer import Layer, rule


@rule("MatMul")
def matmul(op: Ops, layer: Layer) -> ir.Value:
    """a b; Gemm if both are matrices and one is transposed, else a transposed constant, or Transpose."""
    flips = [bool(layer.attr(f"transpose_{side}")) and len(layer.dims(i)) > 1 for i, side in enumerate("ab")]
    ranks = [len(layer.dims(i)) for i in (0, 1)]
    if ranks == [2, 2] and any(flips):
        parts = layer.weights(op, 0), layer.weights(op, 1)
        return op.Gemm(*parts, transA=int(flips[0]), transB=int(flips[1]))
    return op.MatMul(*(_flipped(op, layer, i) if flips[i] else layer.weights(op, i) for i in (0, 1)))


def _flipped(op: Ops, layer: Layer, i: int) -> ir.Value:
    codes = layer.codes(i)
    if codes is not None:
        return codes.transposed().emit(op)
    array = layer.constant(i)
    if array is not None:
        return op.emit.constant(np.ascontiguousarray(np.swapaxes(array, -1, -2)), f"{layer.name}/transposed")
    rank = len(layer.dims(i))
    return op.Transpose(layer.x(i), perm=[*range(rank - 2), rank - 1, rank - 2])


def product_along(op: Ops, x: ir.Value, axis: int, rank: int, matrix: NDArray[np.float32]) -> ir.Value:
    """The vectors along an axis, each times a matrix [before, after]."""
    if axis == rank - 1:
        return op.MatMul(x, matrix)
    order = [*range(rank)]
    order[axis], order[-1] = rank - 1, axis
    return op.Transpose(op.MatMul(op.Transpose(x, perm=order), matrix), perm=order)


@rule("Einsum")
def einsum(op: Ops, layer: Layer) -> ir.Value:
    """Einstein's sum."""
    return op.Einsum(*(layer.x(i) for i in range(len(layer))), equation=str(layer.attr("equation")))


@rule("ScaledDotProductAttention")
def attention(op: Ops, layer: Layer) -> ir.Value:
    """softmax(scale q k^T + mask) v (Vaswani et al. 2017); scale = 1 / sqrt(last size of q), unless it is given.

    OpenVINO fuses networks of torch's TorchScript exporter to it, whose scale is computed from the sizes of q.
    """
    if len(layer) > 5:
        raise layer.refuse("attention with sinks is not known here")
    rank = len(layer.dims(1))
    scale: float | ir.Value = 1 / math.sqrt(layer.sizes(0, len(layer.dims(0)) - 1)[0])
    if len(layer) > 4:
        given = layer.constant(4)
        scale = layer.x(4) if given is None else float(given.ravel()[0])
    keys = op.Transpose(layer.x(1), perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = op.MatMul(op.Mul(layer.x(0), scale), keys)
    if layer.attr("causal", False):
        rows, columns = layer.sizes(0, rank - 2)[0], layer.sizes(1, rank - 2)[0]
        scores = op.Where(np.tri(rows, columns, dtype=bool), scores, -math.inf)
    elif len(layer) > 3 and layer.dims(3) != []:
        boolean = layer.kind(3).kind == "b"
        scores = op.Where(layer.x(3), scores, -math.inf) if boolean else op.Add(scores, layer.x(3))
    return op.MatMul(op.Softmax(scores, axis=-1), layer.x(2))
