"""Resize: interpolation is linear and separable, y = R x along each axis, so dx = R^T dy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.measure import open_session, run
from ..graph.writing import IR_VERSION
from .axis import along
from .table import vjp


@vjp("Resize")
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
            dy = along(op, dy, axis, len(source), _matrix(step, n, m, scale, part))
    return dy


def _matrix(step: Step, n: int, m: int, scale: float | None, part: tuple[float, float] | None) -> NDArray[Any]:
    """R [m,n] of one axis: the operator's output for each unit vector, on the runtime that verifies the bundle.

    Args:
        step: The node.
        n, m: The size before and after.
        scale: What the node says it is; None if it gives sizes.
        part: The begin and the end of what tf_crop_and_resize reads; outside the image it takes a constant, which has no gradient.
    """
    kept = ("coordinate_transformation_mode", "mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias")
    # extrapolation_value is left out: 0
    attributes = {k: step.attr(k) for k in kept if step.attr(k) is not None}
    scales = [1.0, 1.0, 1.0, scale] if scale is not None else []
    sizes = [n, 1, 1, m]
    initializers = [onnx.numpy_helper.from_array(np.array(scales, np.float32), "scales")]
    inputs = ["x", "", "scales"]
    if scale is None:
        initializers.append(onnx.numpy_helper.from_array(np.array(sizes, np.int64), "sizes"))
        inputs.append("sizes")
    if part is not None:
        initializers.append(
            onnx.numpy_helper.from_array(np.array([0, 0, 0, part[0], 1, 1, 1, part[1]], np.float32), "roi")
        )
        inputs[1] = "roi"
    node = onnx.helper.make_node("Resize", inputs, ["y"], **attributes)
    one, two = (onnx.helper.make_tensor_value_info(v, onnx.TensorProto.FLOAT, None) for v in "xy")
    graph = onnx.helper.make_graph([node], "resize", [one], [two], initializers)
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    units = np.eye(n, dtype=np.float32).reshape(n, 1, 1, n)
    session = open_session(model.SerializeToString(), "a resize")
    # unit vector j of the batch gives column j of R
    return run(session, {"x": units}, "a resize")["y"].reshape(n, m).T
