"""A Resize as matrix products: interpolation is linear and separable, y = R x along each axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.resample import weights

from .emit import Ops
from .measure import open_session, run
from .reading import attribute
from .writing import IR_VERSION


def along(op: Ops, value: ir.Value, axis: int, rank: int, matrix: NDArray[Any]) -> ir.Value:
    """value [..., n, ...] times matrix [n,m] along an axis: [..., m, ...]."""
    matrix = np.ascontiguousarray(matrix)
    if axis == rank - 1:
        return op.MatMul(value, matrix)
    if axis == rank - 2:  # the rows: the transposed matrix from the left
        return op.MatMul(np.ascontiguousarray(matrix.T), value)
    # any other axis moves to the end for the product, and back
    perm = [i for i in range(rank) if i != axis] + [axis]
    product = op.MatMul(op.Transpose(value, perm=perm), matrix)
    return op.Transpose(product, perm=[int(i) for i in np.argsort(perm)])


def interpolating(before: int, after: int) -> NDArray[np.float32]:
    """The matrix [after,before] that resizes an axis: linear, half-pixel centres."""
    first, part = weights(before, after)  # only columns `first` and on have weights
    matrix = np.zeros((after, before), np.float32)
    matrix[:, first : first + part.shape[1]] = part
    return matrix


def resize_matrix(
    node: ir.Node, n: int, m: int, scale: float | None, part: tuple[float, float] | None = None
) -> NDArray[Any]:
    """R [m,n] of one axis: the operator's output for each unit vector, on the runtime that verifies the bundle.

    Args:
        node: The Resize.
        n, m: The size before and after.
        scale: What the node says it is; None if it gives sizes.
        part: The begin and the end of what tf_crop_and_resize reads; outside the image it takes a constant, which has no gradient.
    """
    kept = ("coordinate_transformation_mode", "mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias")
    # extrapolation_value is left out: 0
    attributes = {k: attribute(node, k, None) for k in kept if k in node.attributes}
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
