"""Normalisations."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule


@rule("BatchNormInference")
def batch_norm(op: Ops, layer: Layer) -> ir.Value:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta. The first version has the image as its third input."""
    order = (2, 0, 1, 3, 4) if layer.opset == "opset1" else range(5)
    image, *parts = order
    arrays = [layer.require(i, "statistics").ravel() for i in parts]
    return op.BatchNormalization(layer.x(image), *arrays, epsilon=float(layer.attr("epsilon")))


@rule("MVN")
def mean_variance(op: Ops, layer: Layer) -> ir.Value:
    """(x - mean) / sqrt(variance + eps) over axes: LayerNormalization over the last ones, InstanceNormalization over all positions.

    With `outside_sqrt` it is (x - mean) / (sqrt(variance) + eps).
    """
    rank = len(layer.dims())
    if len(layer) > 1:
        axes = sorted({layer.axis(a) for a in layer.ints(1, "axes")})
    else:
        axes = list(range(1 if layer.attr("across_channels") else 2, rank))
    x, eps = layer.x(), float(layer.attr("eps"))
    inside = str(layer.attr("eps_mode", "INSIDE_SQRT")).upper() == "INSIDE_SQRT"
    if layer.attr("normalize_variance", True) and inside:
        if rank > 3 and axes == list(range(2, rank)) and layer.dims()[1] is not None:
            channels = layer.sizes(0, 1)[0]
            scale = np.ones(channels, np.float32)
            return op.InstanceNormalization(x, scale, np.zeros(channels, np.float32), epsilon=eps)
        if axes == list(range(axes[0], rank)):
            scale = np.ones(layer.sizes(0, axes[0]), np.float32)
            return op.LayerNormalization(x, scale, axis=axes[0], epsilon=eps)
    centred = op.Sub(x, op.ReduceMean(x, np.array(axes)))
    if not layer.attr("normalize_variance", True):
        return centred
    variance = op.ReduceMean(op.Mul(centred, centred), np.array(axes))
    return op.Div(centred, op.Sqrt(op.Add(variance, eps)) if inside else op.Add(op.Sqrt(variance), eps))


@rule("GroupNormalization")
def group_norm(op: Ops, layer: Layer) -> ir.Value:
    """scale (x - mean) / sqrt(variance + epsilon) + bias, with mean and variance of each group of channels."""
    groups = int(layer.attr("num_groups"))
    sizes = layer.sizes(0, 1)
    ones = np.ones(groups, np.float32)
    grouped = op.Reshape(layer.x(), [0, groups, math.prod(sizes) // groups])
    normal = op.InstanceNormalization(grouped, ones, ones * np.float32(0), epsilon=float(layer.attr("epsilon")))
    shape = (-1, *(1,) * (len(sizes) - 1))
    scale, bias = (layer.require(i, "scales").reshape(shape) for i in (1, 2))
    return op.Add(op.Mul(op.Reshape(normal, [0, *sizes]), scale), bias)


@rule("NormalizeL2")
def l2(op: Ops, layer: Layer) -> ir.Value:
    """x / sqrt(sum x^2 + eps), or with `max` x / sqrt(max(sum x^2, eps))."""
    x, eps = layer.x(), float(layer.attr("eps"))
    axes = layer.ints(1, "axes")
    squares = op.Mul(x, x)
    total = op.ReduceSum(squares, np.array(sorted(layer.axis(a) for a in axes))) if axes else squares
    added = str(layer.attr("eps_mode")).lower() == "add"
    return op.Div(x, op.Sqrt(op.Add(total, eps) if added else op.Clip(total, eps)))


@rule("GRN")
def global_response(op: Ops, layer: Layer) -> ir.Value:
    """x / sqrt(sum over channels of x^2 + bias)."""
    x = layer.x()
    total = op.ReduceSum(op.Mul(x, x), np.array([1]))
    return op.Div(x, op.Sqrt(op.Add(total, float(layer.attr("bias")))))


@rule("LRN")
def local_response(op: Ops, layer: Layer) -> ir.Value:
    """x / (bias + alpha / size * sum over neighbouring channels of x^2)^beta (Krizhevsky et al. 2012)."""
    if [layer.axis(a) for a in layer.ints(1, "axes")] != [1]:
        raise layer.refuse("normalises over positions; ONNX's LRN does over channels only")
    numbers = {name: float(layer.attr(name)) for name in ("alpha", "beta", "bias")}
    if numbers["bias"] != 1:
        raise layer.refuse(
            f"has the bias {numbers['bias']:g}, which OpenVINO's CPU takes for 1: the result depends on the device"
        )
    return op.LRN(layer.x(), size=int(layer.attr("size")), **numbers)
