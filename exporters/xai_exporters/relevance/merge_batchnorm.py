"""A canonizer: BatchNormalization merged into the layer before it.

Relevance rules look at weights. A layer and its BatchNormalization are one linear map, and are treated as one (Montavon et al.
2019; Zennit's canonizers). A BatchNormalization that does not directly follow a layer of its own stays (DenseNet's comes before
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

_LAYERS = ("Conv", "ConvTranspose", "Gemm")


def merge_batchnorm(graph: ir.Graph) -> int:
    """Merge every BatchNormalization that can be merged; the graph is changed in place.

    Returns:
        How many were merged.

    Raises:
        RuleError: One of several layers that are explained lies between the two.
    """
    merged = 0
    for norm in [node for node in graph if node.op_type == "BatchNormalization"]:
        _refuse_between(norm)
        layer = norm.inputs[0].producer() if norm.inputs[0] is not None else None
        if layer is None or layer.op_type not in _LAYERS or len(list(layer.outputs[0].uses())) != 1:
            continue
        if layer.outputs[0].is_graph_output() or attribute(norm, "training_mode", 0):
            continue
        parts = _merged(layer, norm)
        if parts is None:
            continue
        inputs = [layer.inputs[0], *(_constant(graph, f"{layer.name}/merged/{what}", array) for what, array in parts)]
        # alpha still scales the weight; beta is in the merged bias
        attributes = [a for a in layer.attributes.values() if a.name != "beta"]
        node = ir.Node("", layer.op_type, inputs, attributes, name=layer.name)
        take_names(node, (layer, norm))
        old, new = norm.outputs[0], node.outputs[0]
        # the new node has the name of the layer, its result that of the normalisation's
        new.name, new.type, new.shape = old.name, old.type, old.shape
        graph.insert_before(norm, node)
        old.name = f"{old.name}/unmerged"
        if old.is_graph_output():
            graph.outputs[list(graph.outputs).index(old)] = new
        old.replace_all_uses_with(new)
        graph.remove([norm, layer], safe=True)
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


def _merged(layer: ir.Node, norm: ir.Node) -> list[tuple[str, NDArray[np.generic]]] | None:
    """The merged weight and bias, W f and (b - mean) f + shift with f = scale / sqrt(variance + eps); None if one is computed."""
    given = [constant_of(x) for x in (*layer.inputs[1:], *norm.inputs[1:]) if x is not None]
    if any(array is None for array in given) or layer.inputs[0] is None:
        return None
    weight, *rest, scale, shift, mean, variance = (a.astype(np.float64) for a in given if a is not None)
    bias = rest[0] * float(attribute(layer, "beta", 1.0)) if rest else 0.0
    factor = scale / np.sqrt(variance + float(attribute(norm, "epsilon", 1e-5)))
    if layer.op_type == "Conv":  # [outputs, ...]
        shaped = factor.reshape(-1, *[1] * (weight.ndim - 1))
    elif layer.op_type == "Gemm":  # [outputs, inputs] with transB, else [inputs, outputs]
        shaped = factor[:, None] if attribute(layer, "transB", 0) else factor[None]
    else:  # ConvTranspose: [inputs, outputs/group, ...]; a group's inputs lead to its own outputs
        group = int(attribute(layer, "group", 1))
        rows = factor.reshape(group, 1, weight.shape[1]).repeat(weight.shape[0] // group, axis=1)
        shaped = rows.reshape(weight.shape[0], weight.shape[1], *[1] * (weight.ndim - 2))
    kind = given[0].dtype  # type: ignore[union-attr]
    return [("weight", (weight * shaped).astype(kind)), ("bias", ((bias - mean) * factor + shift).astype(kind))]


def _constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
