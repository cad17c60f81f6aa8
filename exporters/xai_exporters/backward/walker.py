"""The reverse walker: from the logits back to a target tensor, or to several, by the rules of a table.

One walk serves every kind of propagation. The table says how a value at an operator's output passes back to its inputs:
as a gradient (`vjp`: vector-Jacobian product), or as relevance. The walker itself does only what all have in common:

1. It visits the nodes between target and logits in reverse order, and no others: nothing is computed that leads nowhere.
2. If several nodes read a tensor, it adds up what comes back from them.
3. If a rule says that its operator broadcasts, it sums the result down to the shape of the input.

The rules read the tensors of the forward graph directly. Nothing that the forward graph has computed is computed again.

One walk serves several targets: it notes what has come back at each, and goes on to those before it. A gradient is the same in any
such walk. Rules of relevance may ask which inputs lead to the target (`Step.leads`): a target shares a walk only with targets for
which that is the same at every node, so that it gets what a walk to it alone would give.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Sequence

import onnx_ir as ir

from ..errors import RuleError
from ..graph.emit import Emitter, Ops
from ..graph.measure import Measured
from ..graph.reading import ancestors
from ..graph.shapes import unbroadcast
from .rules import Step, Table, floats_of


def propagate(
    graph: ir.Graph,
    start: ir.Value,
    seed: ir.Value,
    targets: Sequence[ir.Value],
    table: Table,
    shapes: Measured,
    scope: str = "grad",
    alone: bool = False,
) -> list[ir.Value]:
    """Add to a graph what its table propagates from `start` back to each target.

    Args:
        graph: The forward graph, its nodes in order; changed in place.
        start: Where the walk begins: the logits.
        seed: The value at `start`, in its shape: for gradients dL/d(start).
        targets: Where the walk ends.
        table: The rules.
        shapes: The shapes of the graph's tensors.
        scope: First part of the names of the new nodes.
        alone: The rules may ask which inputs lead to the target: each target gets what a walk to it alone would give.

    Returns:
        The value at each target, in its shape: for gradients dL/d(target).

    Raises:
        RuleError: An operator on the way has no rule, or `start` does not depend on a target.
    """
    nodes = list(graph)
    groups = _groups(nodes, start, targets, table) if alone and len(targets) > 1 else [list(targets)]
    results: dict[ir.Value, ir.Value] = {}
    for group in groups:
        emit = Emitter(graph, scope if group[0] is targets[0] else f"{scope}_{targets.index(group[0])}")
        results |= _walk(emit, nodes, start, seed, group, table, shapes)
    return [results[target] for target in targets]


def _walk(
    emit: Emitter,
    nodes: Sequence[ir.Node],
    start: ir.Value,
    seed: ir.Value,
    targets: Sequence[ir.Value],
    table: Table,
    shapes: Measured,
) -> dict[ir.Value, ir.Value]:
    """One walk: target -> what comes back to it."""
    leading = _leading(nodes, targets, table)
    reached: dict[ir.Value, ir.Value] = {}
    parts: dict[ir.Value, list[ir.Value]] = {start: [seed]}
    unsure: set[ir.Value] = set()  # tensors to which something that may not be finite comes back
    last = None
    # in reverse order all readers of a tensor come before its producer: its parts are complete when the producer is visited
    for node in reversed(nodes):
        leads = _leads(node, leading)
        if not leads or not any(y in parts for y in node.outputs):
            continue
        op = Ops(emit, str(node.name), floats_of(node.outputs[0]))  # new nodes are named after the forward node
        for y in node.outputs:
            if y in targets and (total := _total(op, parts.get(y, []))) is not None:  # the walk goes on from it
                reached[y], parts[y] = total, [total]
        rule, finite = table.find(node), unsure.isdisjoint(node.outputs)
        step = Step(node, shapes, leads, targets, finite)
        dys = [_total(op, parts.pop(y, [])) for y in node.outputs]
        results = rule.function(op, step, *dys)
        for position, dx in enumerate([results] if isinstance(results, ir.Value) else results or []):
            if dx is None or position not in leads:
                continue
            x = step.input(position)
            last = node  # for the error, if nothing reaches the target
            if not (finite and rule.finite):
                unsure.add(x)
            # a broadcasting rule returns values in the shape of the first output
            part = unbroadcast(op, dx, step.dims(step.y), step.dims(x), x) if rule.broadcasts else dx
            parts.setdefault(x, []).append(part)
    for target in [target for target in targets if target not in reached]:
        total = _total(Ops(emit, str(target.name), floats_of(target)), parts.pop(target, []))
        if total is None:
            raise RuleError(_stopped(nodes, start if last is None else last, leading))
        reached[target] = total
    return reached


def _leads(node: ir.Node, leading: Container[ir.Value]) -> frozenset[int]:
    """The positions of the inputs that lie on a path to a target."""
    return frozenset(i for i, x in enumerate(node.inputs) if x in leading)


def _groups(
    nodes: Sequence[ir.Node], start: ir.Value, targets: Sequence[ir.Value], table: Table
) -> list[list[ir.Value]]:
    """The targets that may share a walk: at each node that a target's own walk visits, the same inputs lead to all of them."""
    before = ancestors([start])
    # an input of a Concat gets its part of what comes back, whichever inputs lead to a target
    asking = [node for node in nodes if node.op_type != "Concat" and any(y in before for y in node.outputs)]

    def leads(ends: Sequence[ir.Value]) -> list[frozenset[int]]:
        leading = _leading(nodes, ends, table)
        return [_leads(node, leading) for node in asking]

    groups: list[list[ir.Value]] = []
    for target in targets:
        for group in groups:
            joint = leads([*group, target])
            if all(
                own in (frozenset(), both)
                for t in (*group, target)
                for own, both in zip(leads([t]), joint, strict=True)
            ):
                group.append(target)
                break
        else:
            groups.append([target])
    return groups


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


def _leading(nodes: Sequence[ir.Node], targets: Sequence[ir.Value], table: Table) -> set[ir.Value]:
    """The tensors through which something can come back to a target."""
    leading = set(targets)
    # the nodes are in order, so one pass forward is enough
    for node in nodes:
        if any(x in leading for x in node.inputs):
            leading.update([y for y in node.outputs if not table.stops(y, leading)])
    return leading


def _total(op: Ops, parts: Sequence[ir.Value]) -> ir.Value | None:
    """The sum of what came back along the uses of one tensor.

    A part that is the same at all positions (after a global pooling) is added as it was before it was expanded.
    """
    narrow = {part: before for part in parts if (before := _before_expand(part)) is not None}
    full = [part for part in parts if part not in narrow]
    if full:
        parts = [*full, *(narrow[part] for part in parts if part in narrow)]
    return functools.reduce(op.Add, parts) if parts else None


def _before_expand(value: ir.Value) -> ir.Value | None:
    node = value.producer()
    return node.inputs[0] if node is not None and node.op_type == "Expand" else None
