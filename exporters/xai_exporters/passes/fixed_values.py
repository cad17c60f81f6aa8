"""Fold tensors that are computed but always have the same value.

Exporters compute the pads of a Pad, the ends of a Slice, and the indices of a Gather by arithmetic that no folding resolves
(ConstantOfShape, a Gather from a shape whose other entry is the batch). A tensor is a constant if

1. a node that reads the image's content takes it as an input,
2. it is computed from the batch alone or from constants, not from content, and is not a weight that is kept quantised,
3. it has a few thousand entries at most, or it is a layer's weight, computed from constants by arithmetic (standardised weights, as
   in BiT and NFNet),
4. it is equal at batch 2 and at batch 3.

A weight that is computed in the graph is worse than slow. OpenVINO (2026.4) computes BiT's gradient at the image wrongly, by more
than its largest value, while its logits are right.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.measure import evaluate
from ..graph.reading import ancestors, constant_of, content_of

_LIMIT = 4096  # entries; pads, axes and indices have far fewer
_WEIGHTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}
_MOVES = {
    "Cast",
    "Concat",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
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
        if (two[name].size <= _LIMIT or _is_weight(value, two[name].size)) and np.array_equal(two[name], three[name]):
            value.replace_all_uses_with(emit.constant(two[name], name), replace_graph_outputs=True)
            changed = True
    return changed


def _is_weight(value: ir.Value, size: int) -> bool:
    """Whether a value is a layer's weight, computed by arithmetic from constants that are not much smaller."""
    if not any(at in _WEIGHTS.get(node.op_type, ()) for node, at in value.uses()):
        return False
    before = ancestors([value])
    made_by = {node.op_type for one in before if (node := one.producer()) is not None}
    if made_by <= _MOVES or made_by & _QUANTISED or any(one.is_graph_input() for one in before):
        return False
    return size <= 2 * sum(one.const_value.size for one in before if one.const_value is not None)
