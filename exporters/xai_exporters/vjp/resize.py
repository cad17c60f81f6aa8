"""Resize: interpolation is linear and separable, y = R x along each axis, so dx = R^T dy."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.interpolation import along, resize_matrix
from .table import vjp


@vjp("Resize", finite=True)
def resize(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = R^T dy along each axis; exact for every mode and coordinate transformation, because R is measured."""
    step.only_first()
    region = None
    if step.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        region = step.constant(1)
    if step.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise step.refuse("it keeps the aspect ratio, which OpenVINO does not do; give both sizes")
    source, result = step.dims(step.x), step.dims(step.y)
    listed = step.attr("axes") or list(range(len(source)))
    scales = step.constant(2)
    for position, axis in enumerate(a % len(source) for a in listed):
        n, m = source[axis], result[axis]
        if n is None or m is None:
            continue  # the batch is never resized
        scale = None if scales is None or scales.size == 0 else float(scales[position])
        # `roi` holds all begins, then all ends, as fractions of the axes
        part = None if region is None else (float(region[position]), float(region[position + len(listed)]))
        # an axis that keeps its size is still resampled if its scale is not 1, or if a part of it is read
        if n != m or (scale or 1.0) != 1.0 or (part or (0, 1)) != (0, 1):
            dy = along(op, dy, axis, len(source), resize_matrix(step.node, n, m, scale, part))
    return dy
