"""Leave out parts that hold no elements: the regions of a level, say, if none of a detector's fixed proposals lies on it.

OpenVINO reads a constant without elements as a scalar, and refuses the operator that takes it. Such a part adds nothing: a Concat
is the same without it, and a scatter of no updates gives its data.
"""

from __future__ import annotations

import onnx_ir as ir

from ..graph.measure import Measured

_SCATTERS = ("ScatterElements", "ScatterND")


def leave_out_empty_parts(model: ir.Model, shapes: Measured) -> bool:
    """Rewrite the graph in place; tensors keep their names. Returns whether anything was rewritten."""
    changed = False
    for node in list(model.graph):
        if node.domain != "" or None in node.inputs:
            continue
        taken = [value for value in node.inputs if value is not None]
        empty = [0 in shapes.dims(value) for value in taken]
        if node.op_type == "Concat" and any(empty) and not all(empty):
            held = [value for value, none in zip(taken, empty, strict=True) if not none]
            kind, attributes = ("Concat", list(node.attributes.values())) if len(held) > 1 else ("Identity", [])
        elif node.op_type in _SCATTERS and empty[2] and not empty[0]:
            held, kind, attributes = taken[:1], "Identity", []
        else:
            continue
        y = node.outputs[0]
        new = ir.Node("", kind, held, attributes, name=node.name)
        made = new.outputs[0]
        made.name, made.shape, made.type = y.name, y.shape, y.type
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], [new], [y], [made])
        changed = True
    return changed
