"""Write a list of parts as the parts: SplitToSequence whose results SequenceAt takes at constant places.

torch writes a split in this way without its optimiser (`optimize=False`). By ONNX's specification `split` gives the size of each
part, or the one size that all parts but the last have; without it every part has size 1, without its axis if `keepdims` is 0.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter, Ops
from ..graph.reading import attribute, constant_of

_END = np.iinfo(np.int64).max


def write_parts(model: ir.Model) -> bool:
    """Rewrite the graph in place; lists that are used otherwise stay, and are refused later.

    Returns:
        Whether anything was rewritten.
    """
    graph = model.graph
    lists = [node for node in graph if node.op_type == "SplitToSequence" and not node.outputs[0].is_graph_output()]
    changed = False
    for node in lists:
        takers = [user for user, _ in node.outputs[0].uses()]
        places = [constant_of(user.inputs[1]) if user.op_type == "SequenceAt" else None for user in takers]
        parts = _parts(graph, node, [None if place is None else int(place) for place in places])
        if parts is None:
            continue
        for user, part in zip(takers, parts, strict=True):
            part.metadata_props.update(user.metadata_props)
            result = part.outputs[0]
            ir.convenience.replace_all_uses_with(user.outputs[0], result, replace_graph_outputs=True)
            graph.remove(user, safe=True)
        graph.remove(node, safe=True)
        changed = True
    if changed:
        graph.sort()
    return changed


def _parts(graph: ir.Graph, node: ir.Node, places: list[int | None]) -> list[ir.Node] | None:
    """A node for each place in the list; None if a place or the sizes are computed."""
    given = node.inputs[1] if len(node.inputs) > 1 else None
    sizes = constant_of(given)
    if any(place is None for place in places) or (given is not None and sizes is None):
        return None
    axis, single = int(attribute(node, "axis", 0)), given is None and not attribute(node, "keepdims", 1)
    op = Ops(Emitter(graph, f"{node.name or node.op_type}/part"), "", np.dtype(np.float32))
    nodes = []
    for place in places:
        assert place is not None
        stretch = _stretch(sizes, place)
        if stretch is None:
            return None
        result = (
            op.Gather(node.inputs[0], place, axis=axis)
            if single
            else op.Slice(node.inputs[0], [stretch[0]], [stretch[1]], [axis])
        )
        made = result.producer()
        assert made is not None
        nodes.append(made)
    return nodes


def _stretch(sizes: np.ndarray | None, place: int) -> tuple[int, int] | None:
    """The first and the last position, exclusive, of a part; None if a place from the end needs the number of parts."""
    if sizes is not None and sizes.ndim:
        ends = np.cumsum(sizes)
        return (int(ends[place] - sizes[place]), int(ends[place])) if -len(sizes) <= place < len(sizes) else None
    size = 1 if sizes is None else int(sizes)
    if place >= 0:
        return place * size, (place + 1) * size
    return (place, place + 1 if place < -1 else _END) if size == 1 else None
