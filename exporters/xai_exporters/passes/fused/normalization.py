"""Normalisations: with a residual sum before them, an activation after them, or without a mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import OLD_GROUPS, FusedNode, rule


def rms(op: Ops, x: ir.Value, axes: Sequence[int], epsilon: float) -> ir.Value:
    """x / sqrt(mean(x^2) + epsilon). As a quotient all relevance goes to x, as through a LayerNormalization."""
    return op.Div(x, op.Sqrt(op.Add(op.ReduceMean(op.Mul(x, x), list(axes), keepdims=1), epsilon)))


@rule("SimplifiedLayerNormalization", "RMSNormalization")
def rms_normalization(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """scale rms(x), over the axes from `axis` on."""
    node.without({}, {1: "inv_std_var"})
    axis = int(node.attr("axis", -1))
    axes = range(axis, 0) if axis < 0 else range(axis, node.rank(node.x()))
    return [op.Mul(rms(op, node.x(), list(axes), float(node.attr("epsilon", 1e-5))), node.x(1))]


@rule("com.microsoft.SkipLayerNormalization", "com.microsoft.SkipSimplifiedLayerNormalization")
def skip_layer_normalization(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """The normalisation of s = input + skip + bias; s is the fourth output."""
    node.without({}, {1: "mean", 2: "inv_std_var"})
    epsilon, gamma = float(node.attr("epsilon", 1e-12)), node.x(2)
    simple = node.node.op_type == "SkipSimplifiedLayerNormalization"
    bias = node.optional(3 if simple else 4)
    s = op.Add(node.x(), node.x(1))
    s = s if bias is None else op.Add(s, bias)
    if simple:
        return [op.Mul(rms(op, s, [-1], epsilon), gamma), None, None, s]
    beta = node.optional(3)
    return [op.LayerNormalization(s, gamma, beta, axis=-1, epsilon=epsilon), None, None, s]


@rule("com.microsoft.GatedRMSNorm")
def gated_rms(op: Ops, node: FusedNode) -> ir.Value:
    """scale rms(x) silu(gate), or sigmoid(gate), over each run of the last axis that is as long as the scale."""
    x, gate, size = node.x(), node.x(2), node.dim(node.x(1), 0)
    rank = node.rank(x)
    runs = op.Reshape(x, [*[0] * (rank - 1), node.dim(x, -1) // size, size])
    y = op.Reshape(op.Mul(rms(op, runs, [-1], float(node.attr("epsilon", 1e-5))), node.x(1)), op.Shape(x))
    weight = op.Sigmoid(gate)
    return op.Mul(y, weight if node.attr("activation", "silu") == "sigmoid" else op.Mul(gate, weight))


@rule("com.microsoft.BranchwiseRMSNorm")
def branchwise_rms(op: Ops, node: FusedNode) -> ir.Value:
    """scale rms(x) of each branch: [..., branches, size], or side by side along the last axis."""
    x, scale, branches = node.x(), node.optional(1), int(node.attr("num_branches", 0))
    rank = node.rank(x)
    given, size = x, node.dim(x, -1) // (branches or 1)
    if branches:
        x = op.Reshape(x, [*[0] * (rank - 1), branches, size])
    y = rms(op, x, [-1], float(node.attr("epsilon", 1e-5)))
    if scale is not None:
        whole = node.rank(scale) == 1 and node.dim(scale, 0) != size  # one entry for each branch and position
        y = op.Mul(y, op.Reshape(scale, [-1, size]) if whole else scale)
    return op.Reshape(y, op.Shape(given)) if branches else y


@rule("com.microsoft.GroupNorm", "com.microsoft.SkipGroupNorm")
def group_norm(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """gamma xhat + beta over groups of channels, of x or of s = x + skip + bias; then SiLU if `activation` is 1."""
    x, gamma, beta, skip = node.x(), node.x(1), node.x(2), node.optional(3)
    last, rank = bool(node.attr("channels_last", 1)), node.rank(node.x())
    groups = int(node.attr("groups"))
    if skip is not None:
        if node.rank(skip) == 2:  # one value per image and channel
            skip = op.Unsqueeze(skip, list(range(1, rank - 1) if last else range(2, rank)))
        x = op.Add(x, skip)
        if (bias := node.optional(4)) is not None:
            x = op.Add(x, bias if last else op.Reshape(bias, [-1, *[1] * (rank - 2)]))
    s = x
    if last:
        x = op.Transpose(x, perm=[0, rank - 1, *range(1, rank - 1)])
    ones, zeros = np.ones(groups, op.floats), np.zeros(groups, op.floats)
    xhat = _normalised(op, node, x, groups, ones, zeros)
    kind = int(ir.DataType.from_numpy(op.floats))  # the kernel takes float32 parameters beside a float16 image
    gamma, beta = (op.Reshape(op.Cast(v, to=kind), [-1, *[1] * (rank - 2)]) for v in (gamma, beta))
    y = op.Add(op.Mul(xhat, gamma), beta)
    if node.attr("activation", 0):
        y = op.Mul(y, op.Sigmoid(y))
    if last:
        y = op.Transpose(y, perm=[0, *range(2, rank), 1])
    return [y, s if skip is not None else None]


@rule(OLD_GROUPS)
def old_group_normalization(op: Ops, node: FusedNode) -> ir.Value:
    """scale xhat + bias, with a scale and a bias for each group."""
    return _normalised(op, node, node.x(), int(node.attr("num_groups")), node.x(1), node.x(2))


def _normalised(op: Ops, node: FusedNode, x: ir.Value, groups: int, scale: Any, bias: Any) -> ir.Value:
    """Group normalisation of [N,K,...]: each group is a channel of [N,groups,K/groups * positions]."""
    epsilon = float(node.attr("epsilon", 1e-5))
    y = op.InstanceNormalization(
        op.Reshape(x, [0, groups, -1]), scale, bias, epsilon=epsilon
    )  # 0 keeps the batch's size
    return op.Reshape(y, op.Shape(x))
