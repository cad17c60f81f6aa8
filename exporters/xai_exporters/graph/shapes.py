"""Shapes whose batch dimension is open, and the changes of shape that rules need."""

from __future__ import annotations

import math
from typing import TypeAlias

import onnx_ir as ir

from .emit import Ops

Dims: TypeAlias = tuple[int | None, ...]
"""A shape; None stands for a dimension that grows with the batch."""


def reshape(op: Ops, value: ir.Value, dims: Dims, like: ir.Value, have: Dims = ()) -> ir.Value:
    """`value` in the shape of `like`, which is `dims`; the shape is a constant, as runtimes prefer, if one entry is open.

    If `have`, the shape of `value`, shows that the first axis stays the batch, it is copied: then runtimes know that two tensors
    are of equal shape, and ONNX Runtime adds them inside a convolution.
    """
    # Reshape takes -1 only once, and reads 0 as "the input's dimension"
    if dims.count(None) > 1 or 0 in dims:
        return op.Reshape(value, op.Shape(like))
    sizes = [math.prod(d for d in given[1:] if d is not None) for given in (have, dims)]
    batch = 0 if have[:1] == dims[:1] == (None,) and None not in have[1:] and sizes[0] == sizes[1] else -1
    return op.Reshape(value, [batch if d is None else d for d in dims])


def expand(op: Ops, value: ir.Value, dims: Dims) -> ir.Value:
    """`value` broadcast to `dims`; along the open dimensions it already has its size."""
    return op.Expand(value, [1 if d is None else d for d in dims])


def unbroadcast(op: Ops, value: ir.Value, have: Dims, want: Dims, like: ir.Value) -> ir.Value:
    """Sum over the axes along which a tensor of the shape `want` was broadcast to `have`: the adjoint of broadcasting."""
    extra = len(have) - len(want)
    # the leading axes that `want` lacks, and its axes of size 1 that were stretched
    axes = [i for i, d in enumerate(have) if i < extra or (want[i - extra] == 1 and d != 1)]
    if axes:
        value = _sum(op, value, have, axes, like)
    return reshape(op, value, want, like) if extra else value


def _sum(op: Ops, value: ir.Value, have: Dims, axes: list[int], like: ir.Value) -> ir.Value:
    """The sum over axes that stay with size 1.

    Over all positions of float32 it is their mean times their number: ONNX Runtime pools in the layout in which it convolves, but
    reorders the whole tensor for ReduceSum (EfficientNet-B0's squeeze-and-excite: 3.07 -> 3.0 times plain inference).
    """
    sizes = have[2:]
    if (
        axes != list(range(2, len(have)))
        or len(sizes) not in (2, 3)
        or None in sizes
        or like.dtype != ir.DataType.FLOAT
    ):
        return op.ReduceSum(value, axes, keepdims=1)
    return op.Mul(op.GlobalAveragePool(value), float(math.prod(size for size in sizes if size is not None)))
