"""Write a softmax of several operators as the one that every later pass knows.

    exp(x - m) / sum(exp(x - m))  =  exp(x - log sum(exp(x)))  =  exp(log softmax(x))  =  softmax(x)

m is the largest x along the axis, another reduction of x along it, or 0.
Keras wrote its softmax so for inputs of more than two axes. As one operator it is an attention to `auto`, the end of a classifier
or segmenter to the search for logits, and has its own rule of relevance.
"""

from __future__ import annotations

import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.reading import attribute, constant_of

_ALONG_ONE_AXIS = ("ReduceL1", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")


def write_softmaxes(graph: ir.Graph) -> bool:
    """Rewrite the graph in place.

    Returns:
        Whether there was one.
    """
    changed = False
    for node in list(graph):
        found = _parts(node)
        if found is None:
            continue
        x, axis = found
        y = node.outputs[0]
        emit = Emitter(graph, node.name or "softmax")
        new = emit.node("Softmax", [x], "softmax", {"axis": axis})
        new.type, new.shape = y.type, y.shape
        y.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        y.name, new.name = emit.unique(f"{emit.scope}/written"), y.name
        changed = True
    if changed:
        graph.sort()
    return changed


def _parts(node: ir.Node) -> tuple[ir.Value, int] | None:
    """The x and the axis of a written softmax that ends in a node; None for any other node."""
    if node.op_type == "Exp":
        log = None if node.inputs[0] is None else node.inputs[0].producer()
        if log is not None and log.op_type == "LogSoftmax" and log.inputs[0] is not None:
            return log.inputs[0], int(attribute(log, "axis", -1))
        found = _minus(node.inputs[0])
        if found is None or (reduced := _reduced(found[1])) is None:
            return None
        op, x, axis = reduced
        return (x, axis) if op == "ReduceLogSumExp" and x is found[0] else None
    powers, total = _quotient(node)
    exp = None if powers is None else powers.producer()
    reduced = _reduced(total)
    if exp is None or exp.op_type != "Exp" or reduced is None:
        return None
    op, summed, axis = reduced
    if op not in ("ReduceSum", "ReduceL1") or summed is not powers:
        return None
    whole = exp.inputs[0]
    found = _minus(whole)
    # what is the same along the axis takes nothing from the quotient
    if found is not None and (taken := _reduced(found[1])) is not None and taken[1:] == (found[0], axis):
        return found[0], axis
    return None if whole is None else (whole, axis)


def _quotient(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """a and b of a / b, also as a * (1 / b)."""
    if node.op_type == "Div":
        return node.inputs[0], node.inputs[1]
    if node.op_type == "Mul":
        for a, b in (node.inputs, node.inputs[::-1]):
            inverse = None if b is None else b.producer()
            if inverse is not None and inverse.op_type == "Reciprocal":
                return a, inverse.inputs[0]
    return None, None


def _minus(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """a and b of a - b."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Sub" or node.inputs[0] is None or node.inputs[1] is None:
        return None
    return node.inputs[0], node.inputs[1]


def _reduced(value: ir.Value | None) -> tuple[str, ir.Value, int] | None:
    """The operator, its input and its axis, if a tensor is reduced along one axis that it keeps."""
    node = None if value is None else value.producer()
    if (
        node is None
        or node.op_type not in _ALONG_ONE_AXIS
        or not attribute(node, "keepdims", 1)
        or node.inputs[0] is None
    ):
        return None
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    return (node.op_type, node.inputs[0], int(axes.reshape(-1)[0])) if axes is not None and axes.size == 1 else None
