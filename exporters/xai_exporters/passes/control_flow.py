"""Resolve If, Loop and Scan whose way does not depend on the image.

1. If whose condition is the same for one, two and three images: its branch takes its place.
2. If that asks whether there are boxes before it suppresses some: the branch that does gives none of none.
3. Loop whose trip count and condition are, Scan over an axis of fixed length: the body is written once for each iteration.

A condition or a count is computed from the nodes that it depends on, and from no others: a stranger's loop is never run. What
control flow depends on the image's content stays, and is refused later. The graph may grow to 20,000 nodes, and its tensors as
`expansion` allows. At most 2,000 such operators are resolved: each takes a run of the nodes that it depends on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import GraphError
from ..graph.emit import Emitter
from ..graph.measure import evaluate
from ..graph.reading import BY_CONTENT, attribute, called, constant_of
from ..graph.writing import IR_VERSION
from .expansion import expansion

NODES = 20_000
"""The largest number of nodes of an unrolled graph."""

MOST = 2_000
"""The largest number of such operators that are resolved."""

COMPUTED = 100
"""The largest number of iterations of a loop whose condition has to be computed in each."""

_KINDS = ("If", "Loop", "Scan")


def resolve_control_flow(model: ir.Model) -> bool:
    """Rewrite the graph in place.

    Returns:
        Whether anything was rewritten.

    Raises:
        GraphError: The graph would become too large, or holds too many such operators.
    """
    total = 0
    while done := sum(_resolve(model, node) for node in _first(model, MOST - total)):
        total += done
    if total:
        _require_bounded(model)
    return total > 0


def _first(model: ir.Model, room: int) -> list[ir.Node]:
    """The operators that are to be resolved, at most `room` of them.

    Raises:
        GraphError: There are more.
    """
    nodes = [node for node in model.graph if node.op_type in _KINDS and node.domain == ""]
    if len(nodes) > room:
        raise GraphError(f"has more than {MOST} If, Loop and Scan; export the network without them")
    return nodes


def _require_bounded(model: ir.Model) -> None:
    """Check what the graph's tensors take. What was in a body was not checked when the file was read.

    Raises:
        GraphError: They take far more than the file.
    """
    proto = ir.to_proto(model)
    if (problem := expansion(proto, proto.ByteSize())) is not None:
        raise GraphError(f"with its control flow resolved {problem}, far more than the file; refused")


def _resolve(model: ir.Model, node: ir.Node) -> bool:
    return _RESOLVE[node.op_type](model, node)


def _if(model: ir.Model, node: ir.Node) -> bool:
    condition = _known(model, node.inputs[0])
    branches = [node.attributes[name].as_graph() for name in ("else_branch", "then_branch")]
    branch = _suppressing(branches) if condition is None else branches[bool(condition.reshape(-1)[0])]
    if branch is None:
        return False
    emit = Emitter(model.graph, node.name or "if")
    _replace(node, _written(emit, node, branch, []))
    return True


def _suppressing(branches: Sequence[ir.Graph]) -> ir.Graph | None:
    """Of two branches the one with a suppression, if the other gives constants without an element; else None.

    torchvision's `batched_nms` asks for the number of boxes first, for torch has no maximum of none; ONNX has.
    """
    for own, other in (branches, branches[::-1]):
        held = [constant_of(value) for value in other.outputs]
        empty = bool(held) and all(array is not None and not array.size for array in held)
        if empty and any(made.op_type == "NonMaxSuppression" for made in own):
            return own
    return None


def _loop(model: ir.Model, node: ir.Node) -> bool:
    """Inputs: trip count, condition, states. The body: iteration, condition, states -> condition, states, results to stack."""
    trips, condition, *states = node.inputs
    count, going = _known(model, trips), _known(model, condition)
    if (trips is not None and count is None) or (condition is not None and going is None):
        return False
    body = node.attributes["body"].as_graph()
    limit = int(count.reshape(-1)[0]) if count is not None else None
    emit = Emitter(model.graph, node.name or "loop")
    true = emit.constant(np.array(True), "true")
    stacks: list[list[ir.Value]] = [[] for _ in body.outputs[1 + len(states) :]]
    carried: list[ir.Value | None] = list(states)
    trip = computed = 0
    alive = going is None or bool(going.reshape(-1)[0])
    fixed = condition is None or _always(body)
    room = _room(model, body)
    if fixed and limit is not None and alive:
        _require_small(node, limit, room)
    while alive and (limit is None or trip < limit):
        _require_small(node, trip + 1, room)
        index = emit.constant(np.array(trip, np.int64), f"{trip}/iteration")
        again, *results = _written(emit, node, body, [index, true, *carried], f"{trip}/")
        carried = list(results[: len(states)])
        for stack, value in zip(stacks, results[len(states) :], strict=True):
            stack.append(value)
        trip += 1
        if not fixed:
            known = _known(model, again)
            computed += 1
            if known is None or computed > COMPUTED:
                why = "depends on the image" if known is None else f"still holds after {COMPUTED} iterations"
                raise GraphError(f"{_place(node)} is Loop, whose condition {why}: it can't be unrolled")
            alive = bool(known.reshape(-1)[0])
    _replace(node, [*carried, *(_stacked(emit, node, stack, 0) for stack in stacks)])
    return True


def _scan(model: ir.Model, node: ir.Node) -> bool:
    """Inputs: states, then tensors of which each iteration gets a slice. The body: states, slices -> states, results to stack."""
    body, scanned = node.attributes["body"].as_graph(), int(node.attributes["num_scan_inputs"].as_int())
    states, given = list(node.inputs[: len(node.inputs) - scanned]), node.inputs[len(node.inputs) - scanned :]
    stacked = len(body.outputs) - len(states)
    axes, backward = (list(attribute(node, f"scan_input_{name}", [0] * scanned)) for name in ("axes", "directions"))
    out_axes, out_back = (
        list(attribute(node, f"scan_output_{name}", [0] * stacked)) for name in ("axes", "directions")
    )
    emit = Emitter(model.graph, node.name or "scan")
    ends = {"end": axes[0] + 1} if axes[0] != -1 else {}  # without one, Shape goes up to the last axis
    size = emit.node("Shape", [given[0]], "size", {"start": axes[0], **ends})
    counted = _known(model, size)
    model.graph.remove([made for made in [size.producer()] if made is not None], safe=True)
    if counted is None:
        return False
    length = int(counted[0])
    _require_small(node, length, _room(model, body))
    stacks: list[list[ir.Value]] = [[] for _ in range(stacked)]
    carried: list[ir.Value | None] = list(states)
    for i in range(length):
        slices: list[ir.Value | None] = []
        for x, axis, back in zip(given, axes, backward, strict=True):
            place = emit.constant(np.array(length - 1 - i if back else i, np.int64), f"{i}/place")
            slices.append(emit.node("Gather", [x, place], f"{i}/slice", {"axis": axis}))
        results = _written(emit, node, body, [*carried, *slices], f"{i}/")
        carried = list(results[: len(states)])
        for stack, value in zip(stacks, results[len(states) :], strict=True):
            stack.append(value)
    ordered = (stack[::-1] if back else stack for stack, back in zip(stacks, out_back, strict=True))
    results = [_stacked(emit, node, stack, axis) for stack, axis in zip(ordered, out_axes, strict=True)]
    _replace(node, [*carried, *results])
    return True


_RESOLVE = {"If": _if, "Loop": _loop, "Scan": _scan}


def _known(model: ir.Model, value: ir.Value | None) -> NDArray[np.generic] | None:
    """The value of a tensor that does not depend on the image's content; None if it does, or waits for other control flow."""
    if value is None or (array := constant_of(value)) is not None:
        return None if value is None else array
    pending, makers = [value], set()
    while pending:
        made = pending.pop().producer()
        if made is None or made in makers:
            continue
        makers.add(made)
        pending += [x for x in made.inputs if x is not None]
    if any(made.op_type in (*_KINDS, *BY_CONTENT) for made in makers) or _reads_content(value):
        return None
    # the part alone, because the whole graph with its weights would be written three times for each condition
    part = ir.Model(ir.convenience.extract(model.graph, model.graph.inputs, [value]), ir_version=IR_VERSION)
    _require_bounded(part)
    name = str(value.name)
    one, *others = (evaluate(part, [name], batch)[name] for batch in (1, 2, 3))
    return one if all(np.array_equal(one, other) for other in others) else None


def _reads_content(value: ir.Value) -> bool:
    """Whether a tensor is computed from the content of an input, not from shapes alone."""
    pending, seen = [value], set()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        made = value.producer()
        if made is None and constant_of(value) is None:
            return True
        if made is not None and made.op_type not in ("Shape", "Size"):
            pending += [x for x in made.inputs if x is not None]
    return False


def _always(body: ir.Graph) -> bool:
    """Whether a loop's body never ends it: its condition is a constant True, or the one that it gets."""
    value: ir.Value | None = body.outputs[0]
    while value is not None and (made := value.producer()) is not None and made.op_type in ("Identity", "Cast"):
        value = made.inputs[0]
    array = constant_of(value)
    return value is body.inputs[1] or (array is not None and bool(np.all(array)))


def _written(
    emit: Emitter, node: ir.Node, body: ir.Graph, inputs: Sequence[ir.Value | None], prefix: str = ""
) -> list[ir.Value]:
    """Write a body's nodes before `node`; returns its outputs."""
    graph = body.clone(allow_outer_scope_values=True)
    results = list(graph.outputs)
    graph.outputs.clear()  # before values take others' places: what an outer graph gives can't be this one's output, too
    places: dict[ir.Value, ir.Value] = {}
    for formal, actual in zip(graph.inputs, inputs, strict=True):
        if actual is None:
            raise GraphError(f"{_place(node)} leaves out the input {formal.name!r} of its body")
        places[formal] = actual
    for weight in graph.initializers.values():
        # shared by all iterations; a renamed tensor would change the file that it was read from
        assert weight.const_value is not None
        places[weight] = emit.shared(weight.const_value.numpy())
    for value, place in places.items():
        value.replace_all_uses_with(place)
    graph.initializers.clear()
    nodes = list(graph)
    graph.remove(nodes)
    for made in nodes:
        made.name = emit.unique(f"{emit.scope}/{prefix}{made.name or made.op_type}")
        made.domain = "" if made.domain == "ai.onnx" else made.domain
        for value in made.outputs:
            value.name = emit.unique(f"{emit.scope}/{prefix}{value.name}") if value.name else value.name
    emit.graph.insert_before(node, nodes)
    return [places.get(result, result) for result in results]


def _stacked(emit: Emitter, node: ir.Node, values: Sequence[ir.Value], axis: int) -> ir.Value:
    """The results of all iterations along a new axis."""
    if not values:
        raise GraphError(f"{_place(node)} has no iteration, so that its results are empty")
    place = emit.ints([axis], "axis")
    return emit.node(
        "Concat", [emit.node("Unsqueeze", [v, place], "result") for v in values], "results", {"axis": axis}
    )


def _replace(node: ir.Node, values: Sequence[ir.Value | None]) -> None:
    """Put these values in place of the node's outputs; the names stay."""
    graph = node.graph
    assert graph is not None
    for old, new in zip(node.outputs, values, strict=True):
        assert new is not None
        # a node of its own, because a value may be an outer one, or stand for several outputs
        same = ir.node("Identity", [new], name=f"{node.name or node.op_type}/{old.name}")
        graph.insert_before(node, same)
        old.replace_all_uses_with(same.outputs[0], replace_graph_outputs=True)
        same.outputs[0].name, same.outputs[0].type, old.name = old.name, old.type, None
    graph.remove(node, safe=True)
    _let_go(node)
    if node.op_type != "If":  # slices and stacked results were written at the end
        graph.sort()


def _let_go(node: ir.Node) -> None:
    """Take the bodies of a removed node off the values outside that they read; else these count as used."""
    bodies = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    for body in bodies:
        for inner in body.all_nodes():
            for i in range(len(inner.inputs)):
                inner.replace_input_with(i, None)
        body.outputs.clear()


def _room(model: ir.Model, body: ir.Graph) -> int:
    """How many iterations of a body the graph may hold.

    An input counts as a node and an output, too: a Scan slices, results are stacked, and a body without nodes is not free.
    """
    each = sum(1 for _ in body.all_nodes()) + len(body.inputs) + len(body.outputs)
    return max(NODES - sum(1 for _ in model.graph.all_nodes()), 0) // max(each, 1)


def _require_small(node: ir.Node, times: int, room: int) -> None:
    """Check that the graph has room for so many iterations.

    Raises:
        GraphError: It has not.
    """
    if times > room:
        raise GraphError(
            f"{_place(node)} is {node.op_type}: unrolled, the graph has more than {NODES} nodes; export the network "
            "without the loop"
        )


def _place(node: ir.Node) -> str:
    return called(node.name, (v.name for v in node.outputs))
