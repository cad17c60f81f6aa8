"""Sums with a bias and a residual, and a softmax of a sum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("com.microsoft.BiasAdd")
def bias_add(op: Ops, node: FusedNode) -> ir.Value:
    """X + bias + skip."""
    return op.Add(op.Add(node.x(), node.x(1)), node.x(2))


@rule("com.microsoft.BiasDropout", "com.microsoft.BitmaskBiasDropout")
def bias_dropout(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """data + bias + residual; without training nothing is dropped."""
    _require_inference(node, 4)
    y = op.Add(node.x(), node.x(1))
    return [y if node.optional(2) is None else op.Add(y, node.x(2))]


@rule("com.microsoft.BitmaskDropout")
def dropout(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """The data; without training nothing is dropped."""
    _require_inference(node, 2)
    return [op.Identity(node.x())]


def _require_inference(node: FusedNode, position: int) -> None:
    """Check that `training_mode`, an input, is left out or False, and that nothing reads the mask."""
    node.without({}, {1: "mask"})
    training = node.constant(position)
    if node.optional(position) is not None and (training is None or bool(np.any(training))):
        raise node.refuse("it is in training mode; export the network in evaluation mode")


@rule("com.microsoft.GatedAdd")
def gated_add(op: Ops, node: FusedNode) -> ir.Value:
    """X + Y gate."""
    return op.Add(node.x(), op.Mul(node.x(1), node.x(2)))


@rule("com.microsoft.BiasSoftmax")
def bias_softmax(op: Ops, node: FusedNode) -> ir.Value:
    """softmax(data + bias), over all axes from `axis` on.

    With `is_inner_broadcast` the bias is repeated along the axes just before `axis`: its shape is that of the data with 1 there.
    Otherwise it is repeated along the first axes, as numpy does it.
    """
    x, bias = node.x(), node.x(1)
    rank = node.rank(x)
    axis = int(node.attr("axis", 1)) % rank
    if node.rank(bias) < rank and node.attr("is_inner_broadcast", 0):
        missing = rank - node.rank(bias)
        bias = op.Unsqueeze(bias, list(range(axis - missing, axis)))
    scores = op.Add(x, bias)
    if axis == rank - 1:
        return op.Softmax(scores, axis=-1)
    flat = op.Softmax(op.Flatten(scores, axis=axis), axis=-1)
    return op.Reshape(flat, op.Shape(scores))
