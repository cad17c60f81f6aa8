"""Convolutions with a residual sum and an activation, and operators on [N,h,w,K]."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule
from .activation import activated

_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def channels_first(op: Ops, x: ir.Value, rank: int) -> ir.Value:
    """[N,h,w,K] to [N,K,h,w]."""
    return op.Transpose(x, perm=[0, rank - 1, *range(1, rank - 1)])


def channels_last(op: Ops, x: ir.Value, rank: int) -> ir.Value:
    """[N,K,h,w] to [N,h,w,K]."""
    return op.Transpose(x, perm=[0, *range(2, rank), 1])


@rule("com.microsoft.FusedConv")
def fused_conv(op: Ops, node: FusedNode) -> ir.Value:
    """activation(Conv(X, W, B) + Z)."""
    y = op.Conv(node.x(), node.x(1), node.optional(2), **node.attributes(*_WINDOW))
    if (z := node.optional(3)) is not None:
        y = op.Add(y, z)
    return activated(op, node, y, _parameters(node))


@rule("com.microsoft.NhwcFusedConv", "com.microsoft.NhwcConv")
def nhwc_fused_conv(op: Ops, node: FusedNode) -> ir.Value:
    """The same on [N,h,w,K]; the weight is as Conv has it, [M,K/group,kh,kw]."""
    rank = node.rank(node.x(1))
    x = channels_first(op, node.x(), rank)
    y = op.Conv(x, node.x(1), node.optional(2), **node.attributes(*_WINDOW))
    if (z := node.optional(3)) is not None:
        y = op.Add(y, channels_first(op, z, rank))
    return channels_last(op, activated(op, node, y, _parameters(node)), rank)


@rule("com.microsoft.NhwcMaxPool")
def nhwc_max_pool(op: Ops, node: FusedNode) -> ir.Value:
    """MaxPool on [N,h,w,K]."""
    rank = len(node.attr("kernel_shape")) + 2
    attributes = node.attributes(*_WINDOW, "ceil_mode")
    return channels_last(op, op.MaxPool(channels_first(op, node.x(), rank), **attributes), rank)


@rule("CausalConvWithState")
def causal_conv(op: Ops, node: FusedNode) -> list[ir.Value | None]:
    """A convolution of each channel along the positions so far (onnx.ai, CausalConvWithState).

    y[n,c,t] = b[c] + sum_k w[c,0,k] x[n,c,t - K + 1 + k], then swish if `activation` says so; x and y [N,C,T], w [C,1,K], b [C].
    Before the first position come the K - 1 last ones of an earlier call, [N,C,K-1], or zeros. The second output holds those of
    this call.
    """
    x, weight = node.x(), node.x(1)
    channels, before = node.dim(weight, 0), node.dim(weight, 2) - 1
    past = node.optional(3)
    whole = op.Pad(x, [0, 0, before, 0, 0, 0], 0.0) if past is None else op.Concat(past, x, axis=2)
    y = op.Conv(whole, weight, node.optional(2), group=channels)
    if node.attr("activation", "none") in ("silu", "swish"):
        y = op.Mul(y, op.Sigmoid(y))
    return [y, op.Slice(whole, [node.dim(x, 2)], [np.iinfo(np.int64).max], [2]) if node.wants(1) else None]


def _parameters(node: FusedNode) -> list[float]:
    return [float(p) for p in node.attr("activation_params", [])]
