"""Make a fixed batch symbolic.

A source exported with batch 1 (or any other number) has that number in its input's shape, and in the constant shapes of
its Reshape nodes. Where such a shape starts with the batch, the entry becomes -1 (infer), or 0 (copy) if the shape
already infers another one. Whether this was right is not decided here: the pipeline runs three images against three
singles. What can't be mended like this (a class token concatenated with batch 1) fails there, with advice.
"""

from __future__ import annotations

import onnx_ir as ir

from ..emit import Emitter
from ..graphs import constant_of


def make_batch_dynamic(model: ir.Model) -> bool:
    """Give the input the batch dimension "N".

    Returns:
        Whether the batch was fixed before.
    """
    graph = model.graph
    [image] = graph.inputs
    assert image.shape is not None  # the pipeline has bound it
    batch = image.shape[0]
    image.shape = ir.Shape(["N", *image.shape[1:]])
    if not isinstance(batch, int):
        return False
    emit = Emitter(graph, "batch")
    for node in graph:
        if node.op_type != "Reshape":
            continue
        shape = constant_of(node.inputs[1])
        if shape is not None and len(shape) > 1 and shape[0] == batch:
            symbolic = [0 if -1 in shape else -1, *map(int, shape[1:])]
            node.replace_input_with(1, emit.ints(symbolic, str(node.name)))
    return True
