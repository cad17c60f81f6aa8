"""Normalisations y = scale * xhat + bias, xhat = (x - mean) / deviation."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import reshape
from .table import vjp


@vjp("BatchNormalization", finite=True)
def batch_normalization(op: Ops, step: Step, dy: ir.Value, *_: ir.Value | None) -> ir.Value:
    """Inference: mean and variance are constants, dx = dy scale / sqrt(var + eps)."""
    step.only_first()
    if step.attr("training_mode", 0):
        raise step.refuse("it is in training mode; export the network in evaluation mode")
    kind = int(ir.DataType.from_numpy(op.floats))  # parameters may be float32 beside a float16 image
    scale, variance = (op.Cast(step.input(i), to=kind) for i in (1, 4))
    factor = op.Div(scale, op.Sqrt(op.Add(variance, float(step.attr("epsilon", 1e-5)))))
    return op.Mul(dy, op.Reshape(factor, [-1, *[1] * (len(step.dims(step.x)) - 2)]))


@vjp("LayerNormalization")
def layer_normalization(
    op: Ops, step: Step, dy: ir.Value | None, of_mean: ir.Value | None = None, of_inverse: ir.Value | None = None
) -> ir.Value:
    """Over the axes from `axis` on; see `_normalised`. Its further outputs are the mean m and r = 1/sqrt(variance + eps).

    With n numbers along the axes dm/dx = 1/n, dr/dx = -r^3 (x - m)/n.
    """
    step.only_first()
    x, epsilon = step.x, float(step.attr("epsilon", 1e-5))
    axes = list(range(step.axis(step.attr("axis", -1)), len(step.dims(x))))
    parts = [] if dy is None else [_normalised(op, x, op.Mul(dy, step.input(1)), axes, epsilon)]
    if of_mean is not None or of_inverse is not None:
        sizes = [step.dims(x)[axis] for axis in axes]
        if None in sizes:
            raise step.refuse("it normalises over the batch: an image's result depends on its neighbours")
        kind = int(ir.DataType.from_numpy(op.floats))  # the further outputs may be float32 beside a float16 image
        each = 1 / math.prod(size for size in sizes if size is not None)
        if of_mean is not None:
            parts.append(op.Expand(op.Mul(op.Cast(of_mean, to=kind), each), op.Shape(x)))
        if of_inverse is not None:
            centred, r = _centred(op, x, axes, epsilon)
            cubed = op.Mul(op.Mul(r, r), r)
            parts.append(op.Mul(op.Mul(op.Mul(op.Cast(of_inverse, to=kind), cubed), -each), centred))
    return functools.reduce(op.Add, parts)


@vjp("RMSNormalization")
def rms_normalization(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = scale x r, r = 1/sqrt(mean(x^2) + eps): with g = dy scale, dx = r (g - x r^2 mean(g x))."""
    step.only_first()
    x, g = step.x, op.Mul(dy, step.input(1))
    axes = list(range(step.axis(step.attr("axis", -1)), len(step.dims(x))))
    mean_square = op.ReduceMean(op.Mul(x, x), axes, keepdims=1)
    r = op.Reciprocal(op.Sqrt(op.Add(mean_square, float(step.attr("epsilon", 1e-5)))))
    xhat = op.Mul(x, r)
    return op.Mul(r, op.Sub(g, op.Mul(xhat, op.ReduceMean(op.Mul(g, xhat), axes, keepdims=1))))


@vjp("InstanceNormalization")
def instance_normalization(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Over the positions of each channel."""
    step.only_first()
    rank = len(step.dims(step.x))
    scale = op.Reshape(step.input(1), [-1, *[1] * (rank - 2)])
    return _normalised(op, step.x, op.Mul(dy, scale), list(range(2, rank)), float(step.attr("epsilon", 1e-5)))


@vjp("GroupNormalization")
def group_normalization(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Over the channels and positions of each group; scale per channel, or per group (before opset 21)."""
    step.only_first()
    dims, groups = step.dims(step.x), int(step.attr("num_groups"))
    channels = dims[1] or 1
    ones = [1] * (len(dims) - 2)
    scale = step.input(1)
    if step.dims(scale) == (groups,):
        scale = op.Expand(op.Reshape(scale, [groups, 1]), [groups, channels // groups])
    g = op.Mul(dy, op.Reshape(scale, [channels, *ones]))
    # [N,groups,channels/group * positions]; in Reshape 0 keeps the size of the batch
    x, g = (op.Reshape(v, [0, groups, -1]) for v in (step.x, g))
    return reshape(op, _normalised(op, x, g, [2], float(step.attr("epsilon", 1e-5))), dims, step.x)


@vjp("MeanVarianceNormalization")
def mean_variance_normalization(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = (x - mean) / (deviation + 1e-9), as the operator is defined; the 1e-9 is left out of the derivative."""
    axes = [int(a) for a in step.attr("axes", [0, 2, 3])]
    if step.axis(0) in [step.axis(a) for a in axes] and step.dims(step.x)[0] is None:
        raise step.refuse("it normalises over the batch: an image's result depends on its neighbours")
    # 1e-18 is the square of 1e-9: it keeps the result finite for a constant input
    return _normalised(op, step.x, dy, axes, 1e-18)


@vjp("LpNormalization")
def lp_normalization(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x / n, n = (sum |x|^p)^(1/p): dx = (dy - s sum(dy y)) / n, with s = y for p = 2 and sign(x) for p = 1."""
    axis, p = [step.axis(step.attr("axis", -1))], int(step.attr("p", 2))
    norm = (op.ReduceL2 if p == 2 else op.ReduceL1)(step.x, axis, keepdims=1)
    inner = op.ReduceSum(op.Mul(dy, step.y), axis, keepdims=1)
    direction = step.y if p == 2 else op.Sign(step.x)
    # the inner Where avoids 0/0, the outer one gives 0 for x = 0
    dx = op.Div(op.Sub(dy, op.Mul(direction, inner)), op.Where(op.Greater(norm, 0.0), norm, 1.0))
    return op.Where(op.Greater(norm, 0.0), dx, 0.0)


@vjp("LRN")
def lrn(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x s^-b, s = bias + alpha/size W(x^2); W sums over a window of channels.

    dx = dy s^-b - 2 b alpha/size x W^T(dy x s^(-b-1)). W is a 1x1 convolution with a banded matrix.
    """
    x, size = step.x, int(step.attr("size"))
    alpha, beta, bias = (float(step.attr(*a)) for a in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    dims = step.dims(x)
    index = np.arange(dims[1] or 1)
    distance = index[None, :] - index[:, None]  # window of channel c: c - floor((size-1)/2) ... c + ceil((size-1)/2)
    band = ((distance >= -((size - 1) // 2)) & (distance <= size // 2)).astype(op.floats)
    kernel = [1] * (len(dims) - 2)
    s = op.Add(op.Mul(op.Conv(op.Mul(x, x), band.reshape(*band.shape, *kernel)), alpha / size), bias)
    direct = op.Mul(dy, op.Pow(s, -beta))
    around = op.Conv(op.Div(op.Mul(direct, x), s), band.T.reshape(*band.shape, *kernel))
    return op.Sub(direct, op.Mul(op.Mul(x, around), 2 * beta * alpha / size))


def _normalised(op: Ops, x: ir.Value, g: ir.Value, axes: Sequence[int], epsilon: float) -> ir.Value:
    """dL/dx for xhat = (x - mean) r, r = 1/sqrt(variance + eps), over `axes`, from g = dL/dxhat.

    dx = r (g - mean(g) - xhat mean(g xhat)).
    """
    centred, r = _centred(op, x, axes, epsilon)
    xhat = op.Mul(centred, r)
    inner = op.ReduceMean(op.Mul(g, xhat), list(axes), keepdims=1)
    return op.Mul(r, op.Sub(op.Sub(g, op.ReduceMean(g, list(axes), keepdims=1)), op.Mul(xhat, inner)))


def _centred(op: Ops, x: ir.Value, axes: Sequence[int], epsilon: float) -> tuple[ir.Value, ir.Value]:
    """x - mean and 1/sqrt(variance + eps)."""
    centred = op.Sub(x, op.ReduceMean(x, list(axes), keepdims=1))
    variance = op.ReduceMean(op.Mul(centred, centred), list(axes), keepdims=1)
    return centred, op.Reciprocal(op.Sqrt(op.Add(variance, epsilon)))
