"""Regions cut out of images, each brought to one size by linear maps of its rows and columns."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("com.microsoft.CropAndResize")
def crop_and_resize(op: Ops, node: FusedNode) -> ir.Value:
    """y_r = A_r x_b(r) B_r^T for each region r of image b(r); positions outside the image hold `extrapolation_value`.

    A region is (y1,x1,y2,x2) in fractions of the image from the middle of its first pixel to the middle of its last one. Position
    p of n lies at start + p (end - start) / (n - 1), or in the middle for n = 1 (TensorFlow's crop_and_resize).
    """
    x, size = node.x(), node.constant(3)
    if size is None:
        raise node.refuse("its crop_size is computed; export the network for a fixed size")
    near = node.attr("mode", "bilinear") == "nearest"
    a, rows = _axis(op, node, 0, node.dim(x, 2), int(size[0]), near)
    b, columns = _axis(op, node, 1, node.dim(x, 3), int(size[1]), near)
    images = op.Gather(x, node.x(2), axis=0)
    y = op.MatMul(a, op.MatMul(images, op.Transpose(b, perm=[0, 1, 3, 2])))
    inside = op.And(op.Unsqueeze(rows, [1, 3]), op.Unsqueeze(columns, [1, 2]))
    return op.Where(inside, y, float(node.attr("extrapolation_value", 0.0)))


def _axis(op: Ops, node: FusedNode, side: int, size: int, count: int, near: bool) -> tuple[ir.Value, ir.Value]:
    """The weights [R,1,count,size] of an axis's pixels at each position, and whether the position is inside, [R,count]."""
    begin, end = (
        op.Mul(op.Gather(node.x(1), np.array([c]), axis=1), float(size - 1)) for c in (side, side + 2)
    )  # [R,1]
    if count > 1:
        place = op.Add(begin, op.Mul(op.Sub(end, begin), np.arange(count, dtype=float)[None] / (count - 1)))
    else:
        place = op.Mul(op.Add(begin, end), 0.5)
    inside = op.And(op.GreaterOrEqual(place, 0.0), op.LessOrEqual(place, float(size - 1)))
    if near:
        place = op.Floor(op.Add(place, 0.5))
    distance = op.Abs(op.Sub(op.Unsqueeze(place, [1, 3]), np.arange(size, dtype=float).reshape(1, 1, 1, size)))
    return op.Relu(op.Sub(1.0, distance)), inside


@rule("MaxRoiPool")
def max_roi_pool(op: Ops, node: FusedNode) -> ir.Value:
    """The maximum of each bin of each region (Girshick 2015, arXiv:1504.08083), first along the rows, then along the columns.

    A region (image, x1, y1, x2, y2) is scaled and rounded to whole pixels, both ends belong to it, and it is at least a pixel
    long. Bin p of n reads the pixels from floor(p length / n) to before ceil((p + 1) length / n); one without a pixel gives 0.
    Regions count as constants.
    """
    x, pooled = node.x(), [int(n) for n in node.attr("pooled_shape")]
    lowest = float(np.finfo(op.floats).min)
    images = op.Cast(op.Squeeze(op.Gather(node.x(1), np.array([0]), axis=1), [1]), to=int(ir.DataType.INT64))
    y = op.Gather(x, images, axis=0)  # [R,C,h,w]
    filled = None
    for axis, size, bins in ((3, node.dim(x, 3), pooled[1]), (2, node.dim(x, 2), pooled[0])):
        inside = _bins(op, node, 1 if axis == 3 else 2, size, bins)  # [R,bins,size]
        parts = []
        for number in range(bins):
            here = op.Gather(inside, np.array([number]), axis=1)  # [R,1,size]
            mask = op.Unsqueeze(here, [2] if axis == 3 else [3])
            parts.append(op.ReduceMax(op.Where(mask, y, lowest), [axis], keepdims=1))
        y = op.Concat(*parts, axis=axis)
        there = op.Unsqueeze(op.Cast(op.ReduceMax(op.Cast(inside, to=6), [2], keepdims=0), to=9), [1, 5 - axis])
        filled = there if filled is None else op.And(filled, there)
    return op.Where(filled, y, 0.0)


def _bins(op: Ops, node: FusedNode, column: int, size: int, bins: int) -> ir.Value:
    """Whether each bin of each region reads each pixel along an axis, [R,bins,size]; `column` of the regions is its begin."""
    scale = float(node.attr("spatial_scale", 1.0))
    begin, end = (_whole(op, op.Mul(op.Gather(node.x(1), np.array([c]), axis=1), scale)) for c in (column, column + 2))
    step = op.Div(op.Max(op.Add(op.Sub(end, begin), 1.0), 1.0), float(bins))  # [R,1]
    number = np.arange(bins, dtype=float)[None]
    first = op.Add(op.Floor(op.Mul(step, number)), begin)  # [R,bins]
    stop = op.Add(op.Ceil(op.Mul(step, number + 1)), begin)
    pixel = np.arange(size, dtype=float).reshape(1, 1, size)
    return op.And(op.GreaterOrEqual(pixel, op.Unsqueeze(first, [2])), op.Less(pixel, op.Unsqueeze(stop, [2])))


def _whole(op: Ops, x: ir.Value) -> ir.Value:
    """The nearest whole number; halves go away from 0."""
    return op.Mul(op.Sign(x), op.Floor(op.Add(op.Abs(x), 0.5)))
