"""Recognise a tail of global average pooling and one linear layer, and write it as a graph over positions.

In such a tail logits = mean_p(A_p) . W + b. So pixel_logits = A_p . W at every position p gives CAM directly, and also
ReciproCAM's masked tails: one small matrix product instead of h*w runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.bundle import ACTIVATION, LOGITS, PIXEL_LOGITS

from ..graph.emit import Emitter
from ..graph.layouts import reduced_axes
from ..graph.reading import ancestors, attribute, constant_of

_VIEWS = {"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class Linear:
    """The linear layer after the pooling: weight [K,classes], or None if the pooled channels are the logits."""

    weight: NDArray[Any] | None


def find_linear(tail: ir.Graph, shape: tuple[int, ...]) -> Linear | None:
    """The linear layer of a tail that is global average pooling and at most one such layer; None for any other tail.

    Args:
        tail: A finished tail graph; what does not lead to the logits (other outputs) does not matter.
        shape: (K,h,w) of its activation.
    """
    value = find_pooled(tail, shape)
    weight = None
    leading = _leading(tail)
    # follow the pooled vector to the logits: views, one linear layer, then a constant bias
    while value is not None and value.name != LOGITS:
        use = _only_use(value, leading)
        if use is None:
            return None
        node, position = use
        if node.op_type == "Add" and weight is not None:
            bias = constant_of(node.inputs[1 - position])
            weight = None if bias is None else _widened(weight, bias)
            if weight is None:
                return None
        elif node.op_type not in _VIEWS:
            if weight is not None:
                return None
            weight = _weight(node, shape[0])
            if weight is None:
                return None
        value = node.outputs[0]
    return None if value is None else Linear(weight)


def find_pooled(tail: ir.Graph, shape: tuple[int, ...]) -> ir.Value | None:
    """The activation's global average, if a tail takes it first and reads nothing else of the activation; else None.

    Args:
        tail: A finished tail graph.
        shape: (K,h,w) of its activation.
    """
    leading = _leading(tail)
    axes = list(range(len(shape) + 1))  # axes[i]: which of the activation's axes N,K,h,w is axis i of `value`
    value = tail.inputs[0]
    while (use := _only_use(value, leading)) is not None:
        node = use[0]
        if _is_global_average(node, axes, shape):
            return node.outputs[0]
        if node.op_type == "Transpose":
            axes = [axes[i] for i in attribute(node, "perm", list(range(len(axes)))[::-1])]
        elif node.op_type not in ("Identity", "Dropout"):
            return None
        value = node.outputs[0]
    return None


def _leading(tail: ir.Graph) -> set[ir.Value]:
    return ancestors([v for v in tail.outputs if v.name == LOGITS])


def _only_use(value: ir.Value, leading: set[ir.Value]) -> tuple[ir.Node, int] | None:
    """The only node that reads a tensor on the way to the logits, and as which input; None if others do, or not as its data."""
    users = [(node, position) for node, position in value.uses() if node.outputs[0] in leading]
    # the data is the first input; an Add can have it as either
    if len(users) != 1 or (users[0][1] != 0 and users[0][0].op_type != "Add"):
        return None
    return users[0]


def _is_global_average(node: ir.Node, axes: list[int], shape: tuple[int, ...]) -> bool:
    # which axes h and w are now, and the slices of volumes
    order = list(range(len(axes)))
    spatial = tuple(sorted(axes.index(axis) for axis in order[2:]))
    if node.op_type == "ReduceMean":
        return reduced_axes(node, len(axes)) == spatial
    if node.op_type == "GlobalAveragePool":
        return spatial == tuple(order[2:])
    return (
        node.op_type == "AveragePool"
        and axes == order
        and tuple(attribute(node, "kernel_shape", ())) == shape[1:]
        and not any(attribute(node, "pads", ()))
        and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )


def _weight(node: ir.Node, channels: int) -> NDArray[Any] | None:
    """The [K,classes] matrix of a linear node on a pooled vector."""
    matrix = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if matrix is None:
        return None
    if node.op_type == "Gemm" and not attribute(node, "transA", 0):
        # [classes,K] with transB
        matrix = matrix.T if attribute(node, "transB", 0) else matrix
        matrix = matrix * np.asarray(attribute(node, "alpha", 1.0), matrix.dtype)
    # a 1x1 convolution of [N,K,1,1]
    elif (
        node.op_type == "Conv"
        and matrix[0].size == matrix.shape[1] == channels
        and not any(attribute(node, "pads", ()))
    ):
        matrix = matrix.reshape(len(matrix), channels).T
    elif node.op_type != "MatMul":
        return None
    return np.ascontiguousarray(matrix) if matrix.ndim == 2 and len(matrix) == channels else None


def _widened(weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any] | None:
    """The matrix with a column for each class after a bias was added; None if the sum is not one number for each class.

    An ordinal head (CORAL, Cao et al. 2020, arXiv:1901.07884) adds a bias for each class to a single number: all classes have the
    same weights.
    """
    classes = weight.shape[1]
    if bias.size in (1, classes):
        return weight
    return np.repeat(weight, bias.size, axis=1) if classes == 1 and max(bias.shape) == bias.size else None


def pixelwise_tail(
    linear: Linear,
    shape: tuple[int, ...],
    classes: int,
    dtype: ir.DataType,
    batch: int | str = "N",
    name: str = ACTIVATION,
) -> ir.Graph:
    """The graph `activation` [N,K,h,w] -> `pixel_logits` [N,h*w,classes], without bias.

    The constant weight stands on the right of the product, where runtimes pack it once (measured: fast on both).
    """
    channels, *places = shape
    positions = math.prod(places)
    kind = ir.TensorType(dtype)
    activation = ir.Value(name=name, shape=ir.Shape([batch, *shape]), type=kind)
    graph = ir.Graph([activation], [], nodes=[], opset_imports={"": 18}, name="pixelwise_tail")
    emit = Emitter(graph, "pixelwise")
    flat = emit.node("Reshape", [activation, emit.ints([-1, channels, positions], "flat_shape")], "flat")
    result = emit.node("Transpose", [flat], "positions_first", {"perm": [0, 2, 1]})
    if linear.weight is not None:
        result = emit.node("MatMul", [result, emit.constant(linear.weight, "weight")], "scores")
    result.name, result.shape, result.type = PIXEL_LOGITS, ir.Shape([batch, positions, classes]), kind
    graph.outputs.append(result)
    return graph
