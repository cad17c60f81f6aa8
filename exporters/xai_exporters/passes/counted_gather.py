"""Turn a Gather that counts through its data into the Reshape that it is.

torch writes some pooled tensors (ConvNeXt, Swin) as a flat tensor picked at the positions 0, 1, 2, ...: a Range over the
batch, spread out by Add and Mul. A Gather is a Reshape if

1. it picks from a tensor of one axis,
2. its indices are computed from the batch alone, not from the image,
3. these indices are 0, 1, 2, ... to the data's end at batch 2 and at batch 3, and at most one entry of their shape grows.

A Reshape runs on every runtime, needs no scatter to be differentiated, and shows what the tensor is.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.measure import Measured, evaluate
from ..graph.reading import constant_of, content_of


def reduce_counted_gathers(model: ir.Model, shapes: Measured) -> bool:
    """Rewrite the graph in place.

    Returns:
        Whether anything was rewritten.
    """
    graph = model.graph
    from_content = {value for image in graph.inputs for value in content_of(image)}
    gathers = []
    for node in graph:
        if node.op_type == "Gather":
            data, indices = node.inputs
            assert data is not None
            if len(shapes.dims(data)) == 1 and constant_of(indices) is None and indices not in from_content:
                gathers.append((node, data, indices))
    if not gathers:
        return False
    names = [str(indices.name) for _, _, indices in gathers if indices is not None]
    runs = [evaluate(model, names, batch) for batch in (2, 3)]
    emit, changed = Emitter(graph, "counted"), False
    for (node, data, _), name in zip(gathers, names, strict=True):
        # the data has one axis, so each of these shapes is (n,) and np.arange(*size) counts to n
        sizes = (shapes.two[str(data.name)], shapes.three[str(data.name)])
        counts = all(
            np.array_equal(run[name].reshape(-1), np.arange(*size)) for run, size in zip(runs, sizes, strict=True)
        )
        dims = shapes.dims(node.outputs[0])
        if counts and dims.count(None) <= 1:
            shape = emit.ints([-1 if d is None else d for d in dims], f"{node.name}/shape")
            view = ir.node("Reshape", [data, shape], name=f"{node.name}/view")
            view.outputs[0].name = f"{node.name}/view"
            view.metadata_props.update(node.metadata_props)
            ir.convenience.replace_nodes_and_values(graph, node, [node], [view], node.outputs, view.outputs)
            changed = True
    return changed
