"""Operators of ONNX Runtime's domain that mean what an operator of ONNX means."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("com.microsoft.ExpandDims")
def expand_dims(op: Ops, node: FusedNode) -> ir.Value:
    """Unsqueeze at one axis."""
    axis = node.constant(1)
    if axis is None:
        raise node.refuse("its axis is computed")
    return op.Unsqueeze(node.x(), [int(np.ravel(axis)[0])])


@rule("com.microsoft.GatherND")
def gather_nd(op: Ops, node: FusedNode) -> ir.Value:
    """GatherND without batch axes."""
    return op.GatherND(node.x(), op.Cast(node.x(1), to=int(ir.DataType.INT64)))


@rule("com.microsoft.GridSample")
def grid_sample(op: Ops, node: FusedNode) -> ir.Value:
    """GridSample as of opset 16."""
    return op.GridSample(node.x(), node.x(1), **node.attributes("align_corners", "mode", "padding_mode"))


@rule("com.microsoft.Trilu")
def trilu(op: Ops, node: FusedNode) -> ir.Value:
    """Trilu."""
    return op.Trilu(node.x(), node.optional(1), **node.attributes("upper"))
