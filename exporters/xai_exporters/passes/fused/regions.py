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
