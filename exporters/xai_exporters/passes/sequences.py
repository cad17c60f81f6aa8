"""Write lists of tensors, and tensors that may be missing, as the tensors, where a file says which ones they are.

    SequenceConstruct, SequenceEmpty, SequenceInsert, SequenceErase      a list, known item by item
    SequenceAt, SequenceLength, ConcatFromSequence                       an item, a number, Concat
    Optional, OptionalGetElement, OptionalHasElement                     the tensor, and whether there is one

torch writes loops over layers and torch.stack so. Places must be constants; lists that come from elsewhere are refused later.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter, Ops
from ..graph.reading import attribute, constant_of

_List = list[ir.Value]


def write_sequences(model: ir.Model) -> bool:
    """Rewrite the graph in place, its nodes in order; returns whether anything was rewritten."""
    graph = model.graph
    lists: dict[ir.Value, _List] = {}
    optional: dict[ir.Value, ir.Value | None] = {}
    made: list[ir.Node] = []
    for node in list(graph):
        items = _items(node, lists)
        if items is not None:
            lists[node.outputs[0]] = items
            made.append(node)
        elif node.op_type == "Optional" and not node.attributes.get("type"):
            optional[node.outputs[0]] = node.inputs[0]
            made.append(node)
        elif (value := _taken(graph, node, lists, optional)) is not None:
            ir.convenience.replace_all_uses_with(node.outputs[0], value, replace_graph_outputs=True)
            graph.remove(node, safe=True)
            made.append(node)
    for node in reversed(made):
        if node.graph is not None and not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    if made:
        graph.sort()
    return bool(made)


def _items(node: ir.Node, lists: dict[ir.Value, _List]) -> _List | None:
    """The tensors of the list that a node gives; None if it gives none, or they are not known."""
    if node.op_type == "SequenceEmpty":
        return []
    if node.op_type == "SequenceConstruct":
        return [value for value in node.inputs if value is not None]
    if node.op_type not in ("SequenceInsert", "SequenceErase") or node.inputs[0] not in lists:
        return None
    items = list(lists[node.inputs[0]])
    given = node.inputs[-1] if len(node.inputs) == (3 if node.op_type == "SequenceInsert" else 2) else None
    place = constant_of(given)
    if given is not None and (place is None or not -len(items) <= int(place) <= len(items)):
        return None
    if node.op_type == "SequenceInsert":
        assert node.inputs[1] is not None
        items.insert(len(items) if place is None else int(place) % (len(items) + (int(place) >= 0)), node.inputs[1])
    elif items:
        del items[-1 if place is None else int(place)]
    return items


def _taken(
    graph: ir.Graph, node: ir.Node, lists: dict[ir.Value, _List], optional: dict[ir.Value, ir.Value | None]
) -> ir.Value | None:
    """The tensor that a node takes out of a list or an optional value; None if it takes none, or it is not known which."""
    source = node.inputs[0] if node.inputs else None
    if source not in lists and node.op_type not in ("OptionalHasElement", "OptionalGetElement"):
        return None
    op = Ops(Emitter(graph, f"{node.name or node.op_type}/list"), "", np.dtype(np.float32))
    if node.op_type == "OptionalHasElement":
        if source is None or source in optional:
            return op.emit.shared(np.array(source is not None and optional[source] is not None))
    elif node.op_type == "OptionalGetElement" and source is not None:
        if source in optional:
            return optional[source]
        return source if _is_tensor(source) else None
    elif source in lists:
        items = lists[source]
        if node.op_type == "SequenceLength":
            return op.emit.shared(np.array(len(items), np.int64))
        if node.op_type == "SequenceAt":
            place = constant_of(node.inputs[1])
            return items[int(place)] if place is not None and -len(items) <= int(place) < len(items) else None
        if node.op_type == "ConcatFromSequence" and items:
            axis = int(attribute(node, "axis", 0))
            parts = [op.Unsqueeze(item, [axis]) for item in items] if attribute(node, "new_axis", 0) else items
            joined: ir.Value = op.Concat(*parts, axis=axis)
            return joined
    return None


def _is_tensor(value: ir.Value) -> bool:
    """Whether a value is a tensor for certain; its type is not always known yet."""
    if value.type is not None:
        return isinstance(value.type, ir.TensorType)
    node = value.producer()
    return node is not None and node.op_type not in ("Optional", "Identity", "If", "Loop", "Scan")
