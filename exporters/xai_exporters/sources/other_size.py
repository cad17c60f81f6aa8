"""Take images of another size than a file states, if its graph takes any: exporters write the size of their example.

A fully convolutional network (CenterFace: [10,3,32,32]) computes on any image, though its file states one size. Whether the graph
holds the size elsewhere shows in the shapes of its tensors: a Reshape, an Add of two maps or a linear layer then does not fit.
Nothing is run here: a graph whose shapes show only then keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from ..passes.network_inputs import free_inputs
from ..passes.rewriting import attribute_of


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
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    _state(trial, wanted)
    if not _fits(trial):
        return None
    _state(model, wanted)
    own, given = (" x ".join(map(str, one)) for one in (stated[1:], wanted))
    return f"The file states images of {own}, and its graph takes others: it is exported for {given}, as --input-shape says."


def _state(model: onnx.ModelProto, sizes: Sequence[int]) -> None:
    """Write the sizes of one image into the input, and forget those of all that is computed from it."""
    for dim, size in zip(free_inputs(model.graph)[0].type.tensor_type.shape.dim[1:], sizes, strict=True):
        dim.dim_value = size
    del model.graph.value_info[:]
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()


def _fits(model: onnx.ModelProto) -> bool:
    """Whether the shapes of all tensors are known without running the graph, and fit together."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # also above protobuf's 2 GB
        return False
    values = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)}
    dims = {name: [dim.dim_value for dim in kind.shape.dim] for name, kind in values.items() if kind.HasField("shape")}
    dims |= {tensor.name: [*tensor.dims] for tensor in graph.initializer}
    return all(_known(dims, node) and _agrees(dims, node) for node in graph.node)


def _known(dims: Mapping[str, Sequence[int]], node: onnx.NodeProto) -> bool:
    """Whether the sizes of what a node gives are known, but for the first, which may be the batch."""
    return all(name in dims and 0 not in dims[name][1:] for name in node.output if name)


def _agrees(dims: Mapping[str, Sequence[int]], node: onnx.NodeProto) -> bool:
    """Whether sizes agree that the inference does not compare: the elements of a Reshape, the inner sizes of a Gemm."""
    if node.op_type == "Reshape":
        x, y = dims.get(node.input[0], []), dims[node.output[0]]
        return 0 in (*x, *y) or math.prod(x) == math.prod(y)
    a, b = (dims.get(name, []) for name in node.input[:2]) if node.op_type == "Gemm" else ([], [])
    if len(a) != 2 or len(b) != 2:
        return True
    inner = a[0 if attribute_of(node, "transA", 0) else 1], b[1 if attribute_of(node, "transB", 0) else 0]
    return 0 in inner or inner[0] == inner[1]
