"""Take images of another size than a file states, if its graph takes any: exporters write the size of their example.

A fully convolutional network (CenterFace: [10,3,32,32]) computes on any image, though its file states one size. Whether the graph
holds the size elsewhere shows in the shapes of its tensors: a Reshape, an Add of two maps or a linear layer then does not fit. If
height and width could have changed places without a sign of it, a third size has to fit, too.
Nothing is run here: a graph whose shapes show only then keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import onnx

from ..passes.network_inputs import free_inputs
from ..passes.rewriting import attribute_of

Sizes: TypeAlias = Mapping[str, Sequence[int]]
"""Name of a tensor -> its sizes; 0 for one that is not known."""

_FURTHER = (128, 256)
"""By so many pixels height and width of a third image are larger: whole steps of the usual strides, and another area."""


def in_another_size(model: onnx.ModelProto, shape: Sequence[int] | None) -> str | None:
    """Write the image's size that the user gives into a model that states another one, and whose tensors fit it.

    Args:
        model: The file's content; changed if they do.
        shape: (C,H,W) that the user gives; None: the file's.

    Returns:
        A note for the user; None if nothing was changed.
    """
    inputs = free_inputs(model.graph)
    stated = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if shape is None or len(shape) != 3 or len(stated) != 4 or 0 in stated[1:]:
        return None
    last = stated[3] == shape[0] and stated[1] != shape[0]
    wanted = [*shape[1:], shape[0]] if last else [*shape]
    if stated[1:] == wanted or stated[3 if last else 1] != shape[0]:
        return None
    further = [side + more for side, more in zip(shape[1:], _FURTHER, strict=True)]
    own, other, probe = (
        _sizes(model, sizes) for sizes in (stated[1:], wanted, [*further, shape[0]] if last else [shape[0], *further])
    )
    if other is None or (probe is None and _hides(model.graph, own, other)):
        return None
    _state(model, wanted)
    file, given = (" x ".join(map(str, one)) for one in (stated[1:], wanted))
    return f"The file states images of {file}, and its graph takes others: it is exported for {given}, as --input-shape says."


def _state(model: onnx.ModelProto, sizes: Sequence[int]) -> None:
    """Write the sizes of one image into the input, and forget those of all that is computed from it."""
    for dim, size in zip(free_inputs(model.graph)[0].type.tensor_type.shape.dim[1:], sizes, strict=True):
        dim.dim_value = size
    del model.graph.value_info[:]
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()


def _sizes(model: onnx.ModelProto, sizes: Sequence[int]) -> Sizes | None:
    """The sizes of all tensors for an image of these sizes; None if they are not known without running the graph, or do not fit."""
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    _state(trial, sizes)
    try:
        graph = onnx.shape_inference.infer_shapes(trial, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # also above protobuf's 2 GB
        return None
    values = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)}
    dims = {name: [dim.dim_value for dim in kind.shape.dim] for name, kind in values.items() if kind.HasField("shape")}
    dims |= {tensor.name: [*tensor.dims] for tensor in graph.initializer}
    return dims if all(_known(dims, node) and _agrees(dims, node) for node in graph.node) else None


def _hides(graph: onnx.GraphProto, own: Sizes | None, other: Sizes) -> bool:
    """Whether a tensor of the image's sides is laid out as before for another image, so that its sides no longer show.

    8 x 12 cells in a row are 96, and so are 12 x 8: constants for the cells of the one fit the other, and are wrong there.
    """
    views = [node for node in graph.node if node.op_type in ("Reshape", "Flatten")]
    return own is None or any(
        own[node.input[0]] != other[node.input[0]] and own[node.output[0]] == other[node.output[0]] for node in views
    )


def _known(dims: Sizes, node: onnx.NodeProto) -> bool:
    """Whether the sizes of what a node gives are known, but for the first, which may be the batch."""
    return all(name in dims and 0 not in dims[name][1:] for name in node.output if name)


def _agrees(dims: Sizes, node: onnx.NodeProto) -> bool:
    """Whether sizes agree that the inference does not compare: the elements of a Reshape, the inner sizes of a Gemm."""
    if node.op_type == "Reshape":
        x, y = dims.get(node.input[0], []), dims[node.output[0]]
        return 0 in (*x, *y) or math.prod(x) == math.prod(y)
    a, b = (dims.get(name, []) for name in node.input[:2]) if node.op_type == "Gemm" else ([], [])
    if len(a) != 2 or len(b) != 2:
        return True
    inner = a[0 if attribute_of(node, "transA", 0) else 1], b[1 if attribute_of(node, "transB", 0) else 0]
    return 0 in inner or inner[0] == inner[1]
