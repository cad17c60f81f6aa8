"""The reverse walker: from the logits back to a target tensor, by the rules of a table.

One walk serves every kind of propagation. The table says how a value at an operator's output passes back to its inputs:
as a gradient (`vjp`: vector-Jacobian product), or as relevance. The walker itself does only what all have in common:

1. It visits the nodes between target and logits in reverse order, and no others: nothing is computed that leads nowhere.
2. If several nodes read a tensor, it adds up what comes back from them.
3. If a rule says that its operator broadcasts, it sums the result down to the shape of the input.

The rules read the tensors of the forward graph directly. Nothing that the forward graph has computed is computed again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import onnx_ir as ir

from ..errors import RuleError
from ..graph.emit import Emitter, Ops
from ..graph.measure import Measured
from ..graph.shapes import unbroadcast
from .rules import Step, Table, floats_of


def propagate(
    graph: ir.Graph,
    start: ir.Value,
    seed: ir.Value,
    target: ir.Value,
    table: Table,
    shapes: Measured,
    scope: str = "grad",
) -> ir.Value:
    """Add to a graph what its table propagates from `start` back to `target`.

    Args:
        graph: The forward graph, its nodes in order; changed in place.
        start: Where the walk begins: the logits.
        seed: The value at `start`, in its shape: for gradients dL/d(start).
        target: Where the walk ends.
        table: The rules.
        shapes: The shapes of the graph's tensors.
        scope: First part of the names of the new nodes.

    Returns:
        The value at the target, in its shape: for gradients dL/d(target).

    Raises:
        RuleError: An operator on the way has no rule, or `start` does not depend on `target`.
    """
    emit = Emitter(graph, scope)
    nodes = list(graph)
    leading = _leading(nodes, target, table)
    parts: dict[ir.Value, list[ir.Value]] = {start: [seed]}
    last = None
    # in reverse order all readers of a tensor come before its producer: its parts are complete when the producer is visited
    for node in reversed(nodes):
        leads = frozenset(i for i, x in enumerate(node.inputs) if x in leading)
        if not leads or not any(y in parts for y in node.outputs):
            continue
        op = Ops(emit, str(node.name), floats_of(node.outputs[0]))  # new nodes are named after the forward node
        rule, step = table.find(node), Step(node, shapes, leads)
        dys = [_total(op, parts.pop(y, [])) for y in node.outputs]
        results = rule.function(op, step, *dys)
        for position, dx in enumerate([results] if isinstance(results, ir.Value) else results or []):
            if dx is None or position not in leads:
                continue
            x = step.input(position)
            last = node  # for the error, if nothing reaches the target
            # a broadcasting rule returns values in the shape of the first output
            part = unbroadcast(op, dx, step.dims(step.y), step.dims(x), x) if rule.broadcasts else dx
            parts.setdefault(x, []).append(part)
    total = _total(Ops(emit, str(target.name), floats_of(target)), parts.pop(target, []))
    if total is None:
        raise RuleError(_stopped(nodes, start if last is None else last, leading))
    return total


def _stopped(nodes: Sequence[ir.Node], last: ir.Node | ir.Value, leading: set[ir.Value]) -> str:
    """Why nothing reached the target; names the operator before the last node that let something through, or before the start."""
    if isinstance(last, ir.Node) or last in leading:
        values = last.inputs if isinstance(last, ir.Node) else [last]
        before = [node for x in values if x in leading and x is not None and (node := x.producer()) is not None]
    else:  # the start is not reached; the last node that is reached stops the walk
        before = [
            node for node in nodes[::-1] if not leading.isdisjoint(node.inputs) and leading.isdisjoint(node.outputs)
        ]
    what = f"{before[0].op_type} (node {before[0].name!r})" if before else "an operator"
    return f"nothing comes back from the logits to the layer: {what} between them lets nothing through"


def _leading(nodes: Sequence[ir.Node], target: ir.Value, table: Table) -> set[ir.Value]:
    """The tensors through which something can come back to the target."""
    leading = {target}
    # the nodes are in order, so one pass forward is enough
    for node in nodes:
        if any(x in leading for x in node.inputs):
            leading.update([y for y in node.outputs if not table.stops(y, leading)])
    return leading


def _total(op: Ops, parts: Sequence[ir.Value]) -> ir.Value | None:
    """The sum of what came back along the uses of one tensor."""
    return functools.reduce(op.Add, parts) if parts else None
