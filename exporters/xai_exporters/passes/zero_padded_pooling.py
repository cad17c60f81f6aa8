"""Keep ONNX Runtime from moving a Pad with zeros into the MaxPool after it.

Its Pad fusion (seen in 1.31) turns Pad + MaxPool into MaxPool with `pads`, whatever the Pad fills in. A MaxPool pads with -inf,
so at the border max(x, 0) becomes max(x), which differs if x is negative there (BiT pools before its first activation). A Clip
between the two that lets every number pass stops it. If x is known to be nowhere negative, zeros and -inf give the same, and the
graph stays.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.reading import attribute, constant_of, data_inputs

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_NONNEGATIVE = ("Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt")
_KEEPS = (
    "Add", "AveragePool", "Cast", "Concat", "Dropout", "GlobalAveragePool", "Identity", "MaxPool", "Mul", "Reshape", "Slice",
    "Transpose",
)  # fmt: skip
"""Operators whose result is nowhere negative if no input is."""


def separate_zero_padding(model: ir.Model) -> bool:
    """Rewrite the graph in place, its element types known; tensors keep their names. Returns whether anything was rewritten."""
    emit, changed = Emitter(model.graph, "padded"), False
    for pool in list(model.graph):
        padded = pool.inputs[0] if pool.op_type == "MaxPool" and pool.domain == "" else None
        pad = None if padded is None else padded.producer()
        if padded is None or pad is None or pad.op_type != "Pad" or padded.dtype not in _FLOATS:
            continue
        filled = constant_of(pad.inputs[2]) if len(pad.inputs) > 2 else np.float32(0)
        infinite = filled is not None and bool(np.isneginf(filled).all())
        if attribute(pad, "mode", "constant") != "constant" or infinite or _is_nonnegative(pad.inputs[0]):
            continue
        bound = np.finfo(padded.dtype.numpy()).max
        bounds = [emit.constant(np.array(limit, padded.dtype.numpy()), "bound") for limit in (-bound, bound)]
        clipped = emit.node("Clip", [padded, *bounds], "clipped")
        clipped.type = padded.type
        pool.replace_input_with(0, clipped)
        changed = True
    if changed:
        model.graph.sort()
    return changed


def _is_nonnegative(value: ir.Value | None) -> bool:
    """Whether a tensor is known to be nowhere negative."""
    pending, seen = [value], set()
    while pending:
        current = pending.pop()
        node = None if current is None else current.producer()
        if node is None or current in seen:
            if node is None and not _is_positive_constant(current):
                return False
            continue
        seen.add(current)
        if node.op_type in _NONNEGATIVE:
            continue
        if node.op_type == "Clip" and len(node.inputs) > 1 and _is_positive_constant(node.inputs[1]):
            continue
        if node.op_type not in _KEEPS:
            return False
        pending += data_inputs(node) if node.op_type in ("Reshape", "Slice") else node.inputs
    return True


def _is_positive_constant(value: ir.Value | None) -> bool:
    array = constant_of(value)
    return array is not None and array.dtype.kind in "fiu" and bool((array >= 0).all())
