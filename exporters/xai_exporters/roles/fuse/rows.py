"""The last linear layer of a tail. Each row of its weight belongs to one class: one logit costs one row, not the whole product."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from xai_deploy.format.bundle import LOGITS

from ...graph.reading import attribute, constant_of
from .net import Net

_VIEWS = {"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class LastLinear:
    """logits = hidden . W + b.

    Attributes:
        hidden: Its input in the tail, [N,K'] or a view of it.
        node: The layer.
        width: K'.
        widened: It gives one number, and the bias after it makes one for each class of that (CORAL's ordinal head).
    """

    hidden: ir.Value
    node: ir.Node
    width: int
    widened: bool = False


def last_linear(tail: ir.Graph, classes: int) -> LastLinear | None:
    """The linear layer with constant weight and bias that gives a tail's logits, a row for each; None if there is none."""
    [value] = [v for v in tail.outputs if v.name == LOGITS]
    bias = None
    node = value.producer()
    # go back from the logits, over views
    while node is not None and node.op_type in _VIEWS:
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node is not None and node.op_type == "Add":  # the bias after a MatMul
        bias = next((constant for x in node.inputs if (constant := constant_of(x)) is not None), None)
        constants = [constant_of(x) is not None for x in node.inputs]
        after = node.inputs[constants.index(False)] if sorted(constants) == [False, True] else None
        node = after.producer() if after is not None else None
        node = node if node is not None and node.op_type == "MatMul" else None
    if node is None or len(node.inputs) < 2 or node.inputs[0] is None or node.inputs[1] is None:
        return None
    weight = node.inputs[1].const_value
    if weight is None or any(x is not None and constant_of(x) is None for x in node.inputs[2:]):  # the bias
        return None
    # MatMul and Gemm: [K',classes]; Gemm with transB: [classes,K']; Conv: [classes,K',1,1], of volumes one axis more
    shape = tuple(int(d) for d in weight.shape.numpy())
    if node.op_type == "Gemm" and not attribute(node, "transA", 0):
        width, rows = shape if not attribute(node, "transB", 0) else shape[::-1]
    elif node.op_type == "MatMul" and len(shape) == 2:
        width, rows = shape
    elif node.op_type == "Conv" and set(shape[2:]) == {1} and attribute(node, "group", 1) == 1 and _plain(node):
        rows, width = shape[:2]
    else:
        return None
    widened = rows == 1 and bias is not None and bias.size == bias.shape[-1] == classes
    return LastLinear(node.inputs[0], node, width, widened) if rows == classes or widened else None


def matrix(net: Net, linear: LastLinear) -> ir.Value:
    """The layer's weight as [classes,K'], computed from the network's own initializer; runtimes fold it as they load the graph."""
    weight = linear.node.inputs[1]
    assert weight is not None
    own, node, op = net.floats(net.weight(weight)), linear.node, net.op
    if node.op_type == "Conv":
        rows = op.Reshape(own, [net.classes, linear.width])
    elif node.op_type == "Gemm" and attribute(node, "transB", 0):
        rows = own
    else:
        rows = op.Transpose(own, perm=[1, 0])
    alpha = float(attribute(node, "alpha", 1.0)) if node.op_type == "Gemm" else 1.0
    rows = op.Expand(rows, [net.classes, linear.width]) if linear.widened else rows
    return rows if alpha == 1.0 else op.Mul(rows, alpha)


def _plain(node: ir.Node) -> bool:
    """A convolution that moves nothing: no stride, no padding."""
    return not any(attribute(node, "pads", ())) and set(attribute(node, "strides", (1,))) == {1}
