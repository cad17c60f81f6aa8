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


@rule("com.microsoft.Pad")
def pad(op: Ops, node: FusedNode) -> ir.Value:
    """Pad as of opset 11; the amounts may be a row [1,2 rank]."""
    return op.Pad(node.x(), op.Reshape(node.x(1), [-1]), node.optional(2), **node.attributes("mode"))


@rule("com.microsoft.Range")
def count(op: Ops, node: FusedNode) -> ir.Value:
    """Range, with a step of 1 if none is given."""
    ends = [op.Reshape(node.x(i), np.array([], np.int64)) for i in (0, 1)]
    step = node.optional(2)
    one = op.CastLike(1.0, ends[0]) if step is None else op.Reshape(step, np.array([], np.int64))
    return op.Range(*ends, one)


@rule("com.microsoft.UnfoldTensor")
def unfold(op: Ops, node: FusedNode) -> ir.Value:
    """All slices of `size` along an axis, `step` apart: [..., slices, ..., size], as torch.Tensor.unfold."""
    x, size, step = node.x(), int(node.attr("size")), int(node.attr("step", 1))
    rank = node.rank(x)
    axis = int(node.attr("dim", -1)) % rank
    starts = np.arange(0, node.dim(x, axis) - size + 1, step)
    parts = op.Gather(x, starts[:, None] + np.arange(size), axis=axis)
    return op.Transpose(parts, perm=[*(i for i in range(rank + 1) if i != axis + 1), axis + 1])


@rule("com.microsoft.ConvTransposeWithDynamicPads")
def conv_transpose(op: Ops, node: FusedNode) -> ir.Value:
    """ConvTranspose whose `pads` are an input."""
    pads = node.constant(2)
    if node.optional(2) is not None and pads is None:
        raise node.refuse("its pads are computed; export the network for a fixed size of images")
    options = node.attributes("auto_pad", "dilations", "group", "kernel_shape", "output_padding", "strides")
    if pads is not None:
        options["pads"] = [int(p) for p in pads]
    return op.ConvTranspose(node.x(), node.x(1), node.optional(3), **options)
