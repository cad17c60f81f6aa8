"""Layer names: module path, node name or tensor name -> the tensor to cut at."""

from __future__ import annotations

import logging

import onnx_ir as ir

from ..errors import LayerError
from ..graph.folded import Folds
from ..graph.module_paths import module_outputs, module_paths, no_such_layer

log = logging.getLogger(__name__)


def find_layer(graph: ir.Graph, name: str) -> tuple[ir.Value, str | None]:
    """The tensor that `name` stands for: a module path first, then a tensor, then a node.

    Returns:
        The tensor, and a warning for the user if the file does not say whether it is the module's whole output, else None.

    Raises:
        LayerError: Nothing matches (the nearest names are listed), a module has several outputs, or its last operator was merged
            into another.
    """
    modules = module_outputs(graph)
    if name in modules:
        outputs = modules[name]
        if len(outputs) == 1:
            return outputs[0], _whole(graph, name, outputs[0])
        names = ", ".join(repr(str(v.name)) for v in outputs[:5])
        raise LayerError(
            f"the module {name!r} has {len(outputs)} outputs in the graph: split at one of the tensors {names}"
        )
    tensors = {str(v.name): v for node in graph for v in node.outputs}
    if name in tensors:
        return tensors[name], None
    nodes = {str(node.name): node for node in graph}
    if name in nodes:
        if len(nodes[name].outputs) != 1:
            names = ", ".join(repr(str(v.name)) for v in nodes[name].outputs)
            raise LayerError(f"the node {name!r} has several outputs: split at one of {names}")
        return nodes[name].outputs[0], None
    if name in {str(v.name) for v in graph.inputs}:
        raise LayerError(f"{name!r} is the network's input; split at an activation after it")
    inside = [v for node in graph if name in module_paths(node) for v in node.outputs]
    if inside:
        names = ", ".join(repr(str(v.name)) for v in inside[-5:])
        raise LayerError(
            f"the output of the module {name!r} is no longer in the graph: what follows it was merged into its convolution; the "
            f"nearest tensors are {names}"
        )
    raise LayerError(no_such_layer(name, [*modules, *tensors, *nodes]))


def is_layer(graph: ir.Graph, name: str) -> bool:
    """Whether a tensor, a node or a module has this name."""
    names = (known for node in graph for known in (node.name, *(value.name for value in node.outputs)))
    return name in module_outputs(graph) or name in names


def _whole(graph: ir.Graph, name: str, value: ir.Value) -> str | None:
    """Refuse a module whose last operator is gone; a warning if the file does not say whether it is, else None."""
    folds = Folds(graph, {node: module_paths(node) for node in graph})
    reason = folds.reason(name, value)
    if reason is not None:
        nearest = dict.fromkeys([value, *(o for node, _ in value.uses() for o in node.outputs)])
        names = ", ".join(repr(str(v.name)) for v in list(nearest)[:5])
        raise LayerError(
            f"the output of the module {name!r} is no longer in the graph: {reason}; the nearest tensors are {names}"
        )
    doubt = folds.doubt(name, value)
    if doubt is not None:
        log.warning("%s", doubt)
    return doubt
