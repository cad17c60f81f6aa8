"""Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806): only positive gradients pass a rectifier."""

from __future__ import annotations

import onnx_ir as ir

from xai_deploy.format.bundle import GRADIENT

from ..backward.rules import RuleTable, Step
from ..errors import RuleError
from ..graph.emit import Ops
from ..graph.reading import constant_of
from .activation import relu
from .arithmetic import clip
from .graph import backward_graph
from .table import vjp

guided = RuleTable(__name__, over=vjp)


@guided("Relu", finite=True)
def guided_relu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = max(dy, 0) where y > 0."""
    return relu(op, step, op.Relu(dy))


@guided("Clip", finite=True)
def guided_clip(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """As Relu if the lower bound is 0 (Relu6). Any other Clip is no rectifier."""
    return clip(op, step, op.Relu(dy) if _rectifies(step.node) else dy)


def guided_gradient_graph(forward: ir.Graph, classes: int) -> ir.Graph:
    """As `graph.gradient_graph`, with guided rectifiers.

    Raises:
        RuleError: The network has no rectifier, so that nothing is guided.
    """
    if not any(_rectifies(node) for node in forward):
        raise RuleError(
            "guided backpropagation is defined by rectifiers (Relu, Relu6), and this network has none; take the plain "
            "gradient (--input-gradient)"
        )
    return backward_graph(forward, classes, lambda _: guided, GRADIENT)


def _rectifies(node: ir.Node) -> bool:
    if node.op_type == "Clip":  # a computed or missing lower bound is no rectifier
        low = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and not low.any()
    return node.op_type == "Relu"
