"""Let TopK take a number that is known before the graph runs, where it takes at most k of the rows that a network found.

TopK(x, min(k, rows)) is TopK([x, k times the lowest number], k), of which the first min(k, rows) are taken: torchvision's detectors
choose so before their suppression. OpenVINO crashes on a TopK of more rows than there are, so the guard asks for a proof.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ..graph.emit import Emitter
from ..graph.reading import attribute, constant_of

_VIEWS = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def bound_choices(model: ir.Model) -> bool:
    """Rewrite the graph in place.

    Returns:
        Whether anything was rewritten.
    """
    graph = model.graph
    made = [
        node
        for node in graph
        if node.op_type == "TopK" and len(node.inputs) == 2 and constant_of(node.inputs[1]) is None
    ]
    if not made:
        return False
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
    changed = [_bound(graph, node) for node in made if _is_list(node.inputs[0])]
    for node in graph:
        for value in node.outputs:
            value.shape = None  # what is inferred may hold the old, fixed batch
    if any(changed):
        graph.sort()
    return any(changed)


def _is_list(value: ir.Value | None) -> bool:
    """Whether a tensor has one axis, as the scores of what a network found have. How many others have does not depend on these."""
    return value is not None and value.shape is not None and len(value.shape) == 1


def _bound(graph: ir.Graph, node: ir.Node) -> bool:
    x, count = node.inputs
    most = None if count is None else _most(count)
    if x is None or most is None or attribute(node, "axis", -1) not in (0, -1):
        return False
    emit = Emitter(graph, node.name or "topk")
    lowest = -np.inf if attribute(node, "largest", 1) else np.inf
    flat = emit.node("Reshape", [x, emit.ints([-1], "flat")], "scores")
    fill = emit.constant(np.full(most, lowest, np.float32), "lowest")
    longer = emit.node("Concat", [flat, emit.node("CastLike", [fill, x], "fill")], "longer", {"axis": 0})
    chosen = ir.node("TopK", [longer, emit.ints([most], "most")], _kept(node), num_outputs=2)
    chosen.name = emit.unique(f"{emit.scope}/chosen")
    graph.append(chosen)
    end = emit.node("Reshape", [count, emit.ints([1], "one")], "count")
    start = emit.ints([0], "start")
    for old, new, what in zip(node.outputs, chosen.outputs, ("values", "places"), strict=True):
        new.name = emit.unique(f"{emit.scope}/{what}")
        taken = emit.node("Slice", [new, start, end], f"first/{what}")
        taken.type = old.type
        old.replace_all_uses_with(taken, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True


def _kept(node: ir.Node) -> dict[str, int]:
    return {name: int(attribute(node, name, 1)) for name in ("largest", "sorted")}


def _most(value: ir.Value) -> int | None:
    """The largest number that a minimum with a constant can be; None if it is no such minimum."""
    node = value.producer()
    while node is not None and node.op_type in _VIEWS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type not in ("Min", "ReduceMin"):
        return None
    parts = list(node.inputs) if node.op_type == "Min" else list(node.inputs[:1])
    for part in parts:
        joined = part.producer() if part is not None else None
        if node.op_type == "ReduceMin" and joined is not None and joined.op_type == "Concat":
            parts += joined.inputs
    numbers = [array for part in parts if (array := constant_of(part)) is not None and array.size == 1]
    return min((int(array.item()) for array in numbers), default=None)
