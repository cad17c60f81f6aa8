"""The regions of a fused graph: their weights from what a caller gives, and contrasts of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bundle import BY_SEED

from ...graph.emit import Ops


def region_weights(op: Ops, where: ir.Value, axes: Sequence[int]) -> ir.Value:
    """The weights of one region [N,1,H,W], which sum to 1; an empty region keeps its zeros.

    What is not above 0, and what is infinite, counts as 0.

    Args:
        op: Writes nodes.
        where: [N,H,W], of any scale.
        axes: Its axes that are places.
    """
    floats = np.finfo(np.float32)
    known = op.And(op.Greater(where, 0.0), op.LessOrEqual(where, float(floats.max)))  # NaN is neither
    values = op.Where(known, where, 0.0)
    # divided by the largest one first: the sum of large numbers would be infinite
    values = op.Div(values, op.Max(op.ReduceMax(values, axes, keepdims=1), float(floats.tiny)))
    total = op.Max(op.ReduceSum(values, axes, keepdims=1), float(floats.tiny))
    weights: ir.Value = op.Unsqueeze(op.Div(values, total), [1])
    return weights


def unless_empty(op: Ops, versus: ir.Value, regions: ir.Value) -> ir.Value:
    """`versus` [N]; for an image of which one of the regions [N,R,...] is empty a number that is no class: it has no contrast."""
    largest = op.ReduceMax(op.Reshape(regions, [0, 0, -1]), [2], keepdims=0)
    there = op.Greater(op.ReduceMin(largest, [1], keepdims=0), 0.0)
    subtracted: ir.Value = op.Where(there, versus, BY_SEED)
    return subtracted


def softmax_in_each(op: Ops, logits: ir.Value, classes: int) -> ir.Value:
    """The Softmax over the classes of each region of [...,R*classes]."""
    of_each = op.Softmax(op.Reshape(logits, [-1, classes]), axis=-1)
    shares: ir.Value = op.Reshape(of_each, op.Shape(logits))
    return shares
