"""Fold tensors that are computed but always have the same value.

Exporters compute the pads of a Pad, the ends of a Slice, and the indices of a Gather by arithmetic that no folding resolves
(ConstantOfShape, a Gather from a shape whose other entry is the batch). A tensor is a constant if

1. a node that reads the image's content takes it as an input,
2. it is computed from the batch alone or from constants, not from content, and is not a weight that is kept quantised,
3. it has a few thousand entries at most,
4. it is equal at batch 2 and at batch 3.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.measure import evaluate
from ..graph.reading import constant_of, content_of

_LIMIT = 4096  # entries; pads, axes and indices have far fewer, and larger computed weights stay computed
_QUANTISED = {"QuantizeLinear", "DequantizeLinear"}


def fold_fixed_values(model: ir.Model) -> bool:
    """Replace tensors that are always the same by initializers.

    Returns:
        Whether there were any.
    """
    graph = model.graph
    content = {value for image in graph.inputs for value in (*content_of(image), image)}
    readers = [node for node in graph if any(y in content for y in node.outputs)]
    values = [
        value
        for value in dict.fromkeys(x for node in readers for x in node.inputs if x is not None)
        if value not in content
        and constant_of(value) is None
        and (producer := value.producer()) is not None
        and producer.op_type not in _QUANTISED
    ]
    if not values:
        return False
    names = [str(value.name) for value in values]
    two, three = (evaluate(model, names, batch) for batch in (2, 3))
    emit, changed = Emitter(graph, "fixed"), False
    for value, name in zip(values, names, strict=True):
        if two[name].size <= _LIMIT and np.array_equal(two[name], three[name]):
            value.replace_all_uses_with(emit.constant(two[name], name), replace_graph_outputs=True)
            changed = True
    return changed
