"""Reduce arithmetic on shapes to arithmetic on the batch.

With the image size bound, only the batch varies, so every shape is an affine function of it. From the measured shapes:

1. A Reshape to a computed shape, of which at most one entry grows with the batch, gets a constant with -1 there.
2. Every other Shape(x) becomes factor * Shape(image)[0] + offset.

Sizes that depend on what an image shows (how many boxes are found in it) stay as they are.

After this, a graph that is cut in two passes no shape beside the cut: the tail takes the batch from its activation.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.measure import Measured
from ..graph.reading import attribute, constant_of, sized_by_content


def reduce_shape_arithmetic(model: ir.Model, shapes: Measured) -> bool:
    """Rewrite the graph in place. At most one Shape node is left that reads no such size, Shape(image)[0:1].

    Returns:
        Whether anything was rewritten.
    """
    graph = model.graph
    image = graph.inputs[0]
    emit = Emitter(graph, "shape")
    batch: ir.Value | None = None
    changed = False
    by_content = sized_by_content(graph)
    for node in list(graph):
        output = node.outputs[0]
        if output in by_content:
            continue
        if node.op_type == "Reshape" and constant_of(node.inputs[1]) is None:
            two, three = (np.array(s[str(output.name)], dtype=np.int64) for s in (shapes.two, shapes.three))
            # Reshape reads 0 as "the input's dimension"
            if np.count_nonzero(two != three) <= 1 and 0 not in two:
                node.replace_input_with(1, emit.constant(np.where(two == three, two, -1), str(node.name)))
                node.attributes.pop("allowzero", None)
                changed = True
        elif node.op_type == "Shape" and node.inputs[0] is not None:
            span = slice(attribute(node, "start", 0), attribute(node, "end", None))
            two, three = (np.array(s, dtype=np.int64)[span] for s in shapes.both(node.inputs[0]))
            # shape(N) = factor N + offset, from shape(2) and shape(3)
            factor = three - two
            offset = two - 2 * factor
            if not factor.any():
                replacement = emit.constant(offset, f"{node.name}/constant")
            else:
                if batch is None:
                    batch = emit.node("Shape", [image], "batch", {"start": 0, "end": 1})
                    _to_front(graph, batch)
                scaled = emit.node("Mul", [batch, emit.constant(factor, f"{node.name}/factor")], f"{node.name}/scaled")
                replacement = emit.node(
                    "Add", [scaled, emit.constant(offset, f"{node.name}/offset")], f"{node.name}/affine"
                )
            shapes.alias(str(replacement.name), output)  # its own Shape may be asked for, too
            output.replace_all_uses_with(replacement, replace_graph_outputs=True)
            graph.remove(node, safe=True)
            changed = True
    graph.sort()
    return changed


def _to_front(graph: ir.Graph, value: ir.Value) -> None:
    node = value.producer()
    assert node is not None
    graph.remove(node)
    graph.insert_before(graph[0], node)
