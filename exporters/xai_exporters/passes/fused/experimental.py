"""Operators of ONNX's first opsets that were experimental: Core ML's and Caffe2's converters wrote them, ONNX Runtime runs them.

Their definitions are those of ONNX's Changelog.md before opset 10 and of ONNX Runtime's kernels.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("com.microsoft.Affine")
def affine(op: Ops, node: FusedNode) -> ir.Value:
    """alpha x + beta."""
    return op.Add(op.Mul(node.x(), float(node.attr("alpha", 1.0))), float(node.attr("beta", 0.0)))


@rule("com.microsoft.Scale")
def scale(op: Ops, node: FusedNode) -> ir.Value:
    """x times a factor."""
    return op.Mul(node.x(), float(node.attr("scale", 1.0)))


@rule("com.microsoft.ImageScaler")
def image_scaler(op: Ops, node: FusedNode) -> ir.Value:
    """x times a factor, plus a bias for each channel of [N,C,h,w]."""
    bias = np.array(node.attr("bias", [0.0]), np.float32).reshape(-1, 1, 1)
    return op.Add(op.Mul(node.x(), float(node.attr("scale", 1.0))), bias)


@rule("com.microsoft.ScaledTanh")
def scaled_tanh(op: Ops, node: FusedNode) -> ir.Value:
    """alpha tanh(beta x)."""
    return op.Mul(op.Tanh(op.Mul(node.x(), float(node.attr("beta", 0.5)))), float(node.attr("alpha", 0.5)))


@rule("com.microsoft.ParametricSoftplus")
def parametric_softplus(op: Ops, node: FusedNode) -> ir.Value:
    """alpha log(1 + e^(beta x))."""
    return op.Mul(op.Softplus(op.Mul(node.x(), float(node.attr("beta", 0.5)))), float(node.attr("alpha", 0.5)))


@rule("com.microsoft.ThresholdedRelu")
def thresholded_relu(op: Ops, node: FusedNode) -> ir.Value:
    """ThresholdedRelu as of opset 10."""
    return op.ThresholdedRelu(node.x(), **node.attributes("alpha"))


@rule("com.microsoft.MeanVarianceNormalization")
def mean_variance_normalization(op: Ops, node: FusedNode) -> ir.Value:
    """Before opset 9: over all images, and the positions of each channel or of all; without `normalize_variance` the mean alone."""
    axes = [0, 1, 2, 3] if node.attr("across_channels", 0) else [0, 2, 3]
    if node.attr("normalize_variance", 1):
        return op.MeanVarianceNormalization(node.x(), axes=axes)
    return op.Sub(node.x(), op.ReduceMean(node.x(), axes, keepdims=1))


@rule("com.microsoft.Crop")
def crop(op: Ops, node: FusedNode) -> ir.Value:
    """[N,C,h,w] without a border (left, top, right, bottom); with `scale` that height and width from there on."""
    x, (left, top, right, bottom) = node.x(), map(int, node.attr("border"))
    height, width = node.attr("scale", None) or (node.dim(x, 2) - top - bottom, node.dim(x, 3) - left - right)
    return op.Slice(x, [top, left], [top + int(height), left + int(width)], [2, 3])


@rule("com.microsoft.DynamicSlice")
def dynamic_slice(op: Ops, node: FusedNode) -> ir.Value:
    """Slice as of opset 10, without steps."""
    return op.Slice(node.x(), node.x(1), node.x(2), node.optional(3))
