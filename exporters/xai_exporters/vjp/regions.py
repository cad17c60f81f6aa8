"""Regions of images, cut out and brought to one size (He et al. 2017, arXiv:1703.06870)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp


@vjp("RoiAlign")
def roi_align(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y_r = A_r x_b(r) B_r^T for each region r of image b(r): dx_b is the sum of A_r^T dy_r B_r over its regions.

    A_r [height,h] and B_r [width,w] average over the samples of each bin, between pixels linearly. The regions themselves count as
    constants, as in torchvision.
    """
    channels, h, w = step.dims(step.x)[1:]
    if channels is None or h is None or w is None:
        raise step.refuse("a size other than the batch is open")
    if step.attr("mode", "avg") != "avg":
        raise step.refuse(
            "it takes maxima, for which ONNX Runtime and OpenVINO give different values; export it with averages"
        )
    a = _averages(op, step, 1, h, int(step.attr("output_height", 1)))
    b = _averages(op, step, 0, w, int(step.attr("output_width", 1)))
    parts = op.MatMul(op.Transpose(a, perm=[0, 1, 3, 2]), op.MatMul(dy, b))  # [R,C,h,w]
    zeros = op.Expand(0.0, op.Shape(step.x))
    images = op.Unsqueeze(op.Cast(step.input(2), to=int(ir.DataType.INT64)), [1])
    return op.ScatterND(zeros, images, parts, reduction="add")


def _averages(op: Ops, step: Step, side: int, size: int, bins: int) -> ir.Value:
    """How each bin of each region averages over the pixels of an axis, [R,1,bins,size].

    Args:
        op: Where nodes are written.
        step: The node.
        side: The column of the regions (x1,y1,x2,y2) that holds where the axis begins; 2 further is its end.
        size: The pixels along the axis.
        bins: The bins along the axis.
    """
    half = step.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    scale, samples = float(step.attr("spatial_scale", 1.0)), int(step.attr("sampling_ratio", 0))
    edges = [op.Mul(op.Gather(step.input(1), np.array([c]), axis=1), scale) for c in (side, side + 2)]  # [R,1]
    begin = op.Sub(edges[0], 0.5) if half else edges[0]
    length = op.Sub(edges[1], edges[0])
    begin, length = (op.Unsqueeze(v, [2]) for v in (begin, length if half else op.Max(length, 1.0)))  # [R,1,1]
    width = op.Div(length, float(bins))
    # without a sampling ratio there is a sample per pixel, so as many as a region is long
    most = samples or -(-2 * size // bins) + 1
    count = float(samples) if samples else op.Max(op.Ceil(width), 1.0)
    number = np.arange(most, dtype=float).reshape(1, 1, most)
    place = op.Add(op.Div(number + 0.5, count), np.arange(bins, dtype=float).reshape(1, bins, 1))
    place = op.Unsqueeze(op.Add(begin, op.Mul(width, place)), [3])  # [R,bins,samples,1]
    used = op.And(op.GreaterOrEqual(place, -1.0), op.LessOrEqual(place, float(size)))
    if not samples:
        used = op.And(used, op.Unsqueeze(op.Less(number, count), [3]))
    pixel = np.arange(size, dtype=float).reshape(1, 1, 1, size)
    weight = op.Relu(op.Sub(1.0, op.Abs(op.Sub(op.Clip(place, 0.0, float(size - 1)), pixel))))
    total = op.Div(op.ReduceSum(op.Where(used, weight, 0.0), [2], keepdims=0), count)  # [R,bins,size]
    if not samples:  # a region more than twice as long as the image has samples that are not here
        total = op.Where(op.Greater(count, float(most)), float("nan"), total)
    return op.Unsqueeze(total, [1])
