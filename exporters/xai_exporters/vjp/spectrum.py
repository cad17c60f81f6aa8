"""The discrete Fourier transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp


@vjp("DFT")
def dft(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = M x along an axis and the last one, which holds real and imaginary parts: dx = M^T dy, as one matrix product."""
    step.only_first()
    dims, result = step.dims(step.x), step.dims(step.y)
    rank, given = len(dims), step.constant(2)
    # opset 17 has the axis as an attribute, opset 20 as an input
    axis = step.axis(int(given.item()) if given is not None else int(step.attr("axis", -2 if _since_20(step) else 1)))
    size, count, parts = dims[axis], result[axis], dims[-1]
    if size is None or count is None or parts is None:
        raise step.refuse("it transforms the batch")
    given = step.constant(1)
    length = int(given.item()) if given is not None else size
    inverse = bool(step.attr("inverse", 0))
    to_reals = inverse and step.attr("onesided", 0)
    matrix = _to_reals(size, count) if to_reals else _matrix(size, parts, count, length, inverse)
    perm = [*(i for i in range(rank - 1) if i != axis), axis, rank - 1]
    back = [int(i) for i in np.argsort(perm)]
    others = [dims[i] for i in perm[:-2]]
    if others.count(None) > 1:
        raise step.refuse("a size other than the batch is open")
    shape = [-1 if d is None else d for d in others]
    rows = op.Reshape(op.Transpose(dy, perm=perm), [*shape, count * (result[-1] or 2)])
    return op.Transpose(op.Reshape(op.MatMul(rows, matrix), [*shape, size, parts]), perm=back)


def _since_20(step: Step) -> bool:
    return step.node.graph is not None and step.node.graph.opset_imports.get("", 18) >= 20


def _matrix(size: int, parts: int, count: int, length: int, inverse: bool) -> NDArray[Any]:
    """M^T, [2 count, parts size]: y_k = sum over t of x_t e^(-2 pi i k t / length); with + and 1 / length if it is inverse.

    Only the first `length` values of x are read; missing ones are 0.
    """
    turn = 2 * np.pi * np.outer(np.arange(count), np.arange(size)) / length
    used = (np.arange(size) < length) / (length if inverse else 1)
    real, imaginary = np.cos(turn) * used, np.sin(turn) * used * (1 if inverse else -1)
    # of (a + b i)(real + imaginary i) the parts [k, (re,im), t, (a,b)]
    whole = np.stack([np.stack([real, -imaginary], -1), np.stack([imaginary, real], -1)], 1)
    return whole[..., :parts].reshape(2 * count, size * parts)


def _to_reals(size: int, count: int) -> NDArray[Any]:
    """M^T, [count, 2 size], of half a spectrum x_k = a_k + i b_k to the `count` real values whose spectrum it is:

    y_t = 1/count times the sum over k of c_k (a_k cos(2 pi k t / count) - b_k sin(2 pi k t / count)); c_k is 2 for the k that stand
    for -k, too, and 1 for k = 0 and k = count / 2.
    """
    k, t = np.arange(size), np.arange(count)
    weight = np.where((k == 0) | (2 * k == count), 1, 2) * (2 * k <= count) / count
    turn = 2 * np.pi * np.outer(t, k) / count
    return np.stack([np.cos(turn) * weight, -np.sin(turn) * weight], -1).reshape(count, 2 * size)
