"""A canonizer: BatchNormalization merged into the layer before it, also one that is written out.

Relevance rules look at weights. A layer and its BatchNormalization are one linear map, and are treated as one (Montavon et al.
2019; Zennit's canonizers). So are a layer and what scales or shifts its channels by constants: (y - mean) / deviation * scale +
shift in operators of its own. A BatchNormalization that does not directly follow a layer of its own stays (DenseNet's comes before
its convolution).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.bundle import ACTIVATION

from ..errors import RuleError
from ..graph.reading import attribute, constant_of
from .node_names import take_names

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SCALES = ("BatchNormalization", "Mul", "Div")


def merge_batchnorm(graph: ir.Graph) -> int:
    """Merge every BatchNormalization that can be merged; the graph is changed in place.

    Returns:
        How many layers were merged with what follows them.

    Raises:
        RuleError: One of several layers that are explained lies between the two.
    """
    for norm in [node for node in graph if node.op_type == "BatchNormalization"]:
        _refuse_between(norm)
    merged = 0
    for layer in [node for node in graph if node.op_type in _LAYERS]:
        steps = _following(layer)
        if not any(node.op_type in _SCALES for node, _, _ in steps):
            continue
        weight, bias = _merged(layer, steps)
        inputs = [layer.inputs[0], _constant(graph, f"{layer.name}/merged/weight", weight)]
        shift = _constant(graph, f"{layer.name}/merged/bias", bias)
        # alpha still scales the weight; beta is in the merged bias
        attributes = [a for a in layer.attributes.values() if a.name != "beta"]
        added = layer.op_type == "MatMul"  # it takes no bias
        node = ir.Node("", layer.op_type, inputs if added else [*inputs, shift], attributes, name=layer.name)
        parts = [part for part, _, _ in steps]
        take_names(node, (layer, *parts))
        made = [node, ir.Node("", "Add", [node.outputs[0], shift], name=f"{layer.name}/merged")] if added else [node]
        old, new = parts[-1].outputs[0], made[-1].outputs[0]
        # the new node has the name of the layer, its result that of the last step's
        new.name, new.type, new.shape = old.name, old.type, old.shape
        if added:
            node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = (
                f"{layer.name}/merged/product",
                old.type,
                old.shape,
            )
        graph.insert_before(parts[-1], made)
        old.name = f"{old.name}/unmerged"
        if old.is_graph_output():
            graph.outputs[list(graph.outputs).index(old)] = new
        old.replace_all_uses_with(new)
        graph.remove([*parts[::-1], layer], safe=True)
        merged += 1
    return merged


def _refuse_between(norm: ir.Node) -> None:
    """Refuse to explain between a layer and its normalisation, and before both: the second needs them merged."""
    held = norm.inputs[0].producer() if norm.inputs[0] is not None else None
    if held is None or held.op_type != "Identity" or not str(held.outputs[0].name).startswith(f"{ACTIVATION}_"):
        return
    layer = held.inputs[0].producer() if held.inputs[0] is not None else None
    if layer is not None and layer.op_type in _LAYERS:
        raise RuleError(
            f"one of the layers is {held.inputs[0].name!r}, between {layer.op_type} (node {layer.name!r}) and its "  # type: ignore[union-attr]
            "BatchNormalization, and another one is before it; name the output of the BatchNormalization, or give --keep-batchnorm"
        )


Affine = tuple[ir.Node, NDArray[np.float64], NDArray[np.float64]]
"""A node that gives y f + s, and f and s, one number for each channel."""


def _following(layer: ir.Node) -> list[Affine]:
    """The nodes after a layer with constant weights that scale or shift its channels, each the only reader of the one before."""
    given = [constant_of(x) for x in layer.inputs[1:] if x is not None]
    if layer.inputs[0] is None or any(array is None for array in given):
        return []
    weight, y = given[0], layer.outputs[0]
    assert weight is not None
    if layer.op_type == "MatMul" and (weight.ndim != 2 or y.shape is None or len(y.shape) != 2):
        return []
    rank, channels, steps = weight.ndim, _channels(layer, weight), []
    while not y.is_graph_output() and len(uses := list(y.uses())) == 1:
        step = _affine(uses[0][0], uses[0][1], rank, channels)
        if step is None:
            break
        steps.append(step)
        y = step[0].outputs[0]
    return steps


def _channels(layer: ir.Node, weight: NDArray[np.generic]) -> int:
    """How many channels a layer gives."""
    if layer.op_type == "ConvTranspose":
        return int(weight.shape[1]) * int(attribute(layer, "group", 1))
    return int(weight.shape[0 if layer.op_type == "Conv" or attribute(layer, "transB", 0) else 1])


def _affine(node: ir.Node, position: int, rank: int, channels: int) -> Affine | None:
    """A node as y f + s, y its input at `position` of that rank, channels along axis 1; None if it is another operator, or takes
    other constants than one for each channel."""
    constants = [constant_of(x) for i, x in enumerate(node.inputs) if x is not None and i != position]
    arrays = [a.astype(np.float64) for a in constants if a is not None]
    if not arrays or len(arrays) < len(constants) or any(a.size != channels for a in arrays):
        return None
    one, zero, first = np.ones(channels), np.zeros(channels), arrays[0].ravel()
    if node.op_type == "BatchNormalization" and position == 0 and not attribute(node, "training_mode", 0):
        scale, shift, mean, variance = arrays
        factor = scale / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))
        return node, factor, shift - mean * factor
    shape = [1] * (rank - arrays[0].ndim) + list(arrays[0].shape)
    if shape != [1, channels, *[1] * (rank - 2)] or len(arrays) > 1:
        return None
    if node.op_type == "Mul":
        return node, first, zero
    if node.op_type == "Add":
        return node, one, first
    if node.op_type == "Sub" and position == 0:
        return node, one, -first
    return (node, 1 / first, zero) if node.op_type == "Div" and position == 0 and first.all() else None


def _merged(layer: ir.Node, steps: list[Affine]) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """The weight and the bias of a layer and what follows it."""
    given = [array for x in layer.inputs[1:] if x is not None and (array := constant_of(x)) is not None]
    weight, *rest = (a.astype(np.float64) for a in given)
    factor = np.ones(_channels(layer, weight))
    bias = rest[0] * float(attribute(layer, "beta", 1.0)) if rest else 0 * factor
    for _, f, s in steps:
        factor, bias = factor * f, bias * f + s
    if layer.op_type == "Conv":  # [outputs, ...]
        shaped = factor.reshape(-1, *[1] * (weight.ndim - 1))
    elif layer.op_type != "ConvTranspose":  # [outputs, inputs] with transB, else [inputs, outputs]
        shaped = factor[:, None] if attribute(layer, "transB", 0) else factor[None]
    else:  # [inputs, outputs/group, ...]; a group's inputs lead to its own outputs
        group = int(attribute(layer, "group", 1))
        rows = factor.reshape(group, 1, weight.shape[1]).repeat(weight.shape[0] // group, axis=1)
        shaped = rows.reshape(weight.shape[0], weight.shape[1], *[1] * (weight.ndim - 2))
    kind = given[0].dtype
    return (weight * shaped).astype(kind), bias.astype(kind)


def _constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
