"""Predict from shapes how large the tensors of an ONNX file become: a few bytes of file can fold to more than any memory."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx
from onnx import helper

from xai_deploy.format.guard.expansion import constants_limit

_SMALL = 4096  # elements of a tensor that may be a shape, and is kept for the inference
_NODES = 1_000_000


def expansion(model: onnx.ModelProto, size: int) -> str | None:
    """A description of what grows too large in a model; None if nothing does.

    Each tensor of known shape may take 4 times the file + 512 MiB. All tensors together that depend on no input may take as much.
    Functions may unfold to a million nodes.

    Args:
        model: The model; its external data need not be loaded.
        size: The size of its files in bytes.
    """
    if (nodes := _unfolded(model)) > _NODES:
        return f"its functions unfold to {nodes} nodes"
    limit = constants_limit(size)
    skeleton = _skeleton(model)
    for follow_values in (False, True):  # first without values: following them copies tensors, which may not be large
        problem = _problem(model, _sizes(skeleton, follow_values), limit)
        if problem is not None:
            return problem
    return None


def _problem(model: onnx.ModelProto, sizes: dict[str, int], limit: int) -> str | None:
    constants = 0
    fixed = {tensor.name for tensor in model.graph.initializer} | {""}
    for node in model.graph.node:
        constant = fixed.issuperset(node.input)
        for name in filter(None, node.output):
            taken = sizes.get(name, 0)
            if taken > limit:
                return f"the tensor {name!r} ({node.op_type}) would take {taken} bytes"
            if constant:
                fixed.add(name)
                constants += taken
    return f"its constants would take {constants} bytes" if constants > limit else None


def _unfolded(model: onnx.ModelProto) -> int:
    """The number of nodes if each call of a function is replaced by its nodes; above the limit for endless recursion."""
    functions = {(f.domain, f.name): f for f in model.functions}
    counts: dict[tuple[str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], inside: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            total += 1
            if key in functions:
                if key in inside:
                    return _NODES + 1  # calls itself
                if key not in counts:
                    counts[key] = count(functions[key].node, (*inside, key))
                total += counts[key]
        return total

    try:
        return count(model.graph.node, ())
    except RecursionError:
        return _NODES + 1


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model for one image, without its large tensors, which become inputs of their shape.

    With an open batch, no value that is computed from the batch would be known, and a tensor of a million times the batch would
    count as small.
    """
    skeleton = onnx.ModelProto(ir_version=model.ir_version)
    skeleton.opset_import.extend(model.opset_import)
    graph = skeleton.graph
    graph.name = "skeleton"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(
        onnx.ValueInfoProto(name=value.name) for value in model.graph.output
    )  # their shapes are inferred
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value <= 0:
            dims[0].dim_value = 1
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not external and math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in given:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return skeleton


def _sizes(skeleton: onnx.ModelProto, follow_values: bool) -> dict[str, int]:
    """Bytes of each tensor whose shape is known; an unknown dimension counts as 1."""
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, data_prop=follow_values)
    except Exception:  # shapes that contradict each other; the export reports them
        return {}
    sizes = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        try:
            item = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
        except (KeyError, TypeError):
            item = 1
        sizes[value.name] = item * math.prod(max(dim.dim_value, 1) for dim in kind.shape.dim)
    return sizes
