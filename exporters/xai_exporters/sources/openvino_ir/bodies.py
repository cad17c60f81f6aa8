"""OpenVINO operators with graphs of their own: Loop and TensorIterator -> ONNX Loop, If of a constant condition -> its branch.

A Loop's body may read the outer graph's values, so what is the same in every iteration is no input of it. `passes/control_flow.py`
unrolls the loop later, within its bounds; it refuses one whose length depends on the image.
Specification: openvino.ai, operation sets, Loop-5, TensorIterator-1, If-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...errors import GraphError
from ...graph.emit import Emitter, Ops
from .constants import called, port_name

_MERGED, _SLICED, _CONCATENATED = "MergedInputDescription", "SliceInputDescription", "ConcatOutputDescription"


class Walk(Protocol):
    """What the translation of a graph offers for those inside it."""

    emit: Emitter

    def value(self, output: Any) -> ir.Value:
        """The ONNX value of an output."""

    def content(self, output: Any) -> NDArray[Any] | None:
        """The content of an output, or None if it depends on the image."""

    def put(self, parameter: Any, value: ir.Value | NDArray[Any]) -> None:
        """Say what a body's parameter is."""

    def walk(self, model: Any) -> None:
        """Translate a graph's nodes."""

    def inner(self, graph: ir.Graph) -> Walk:
        """The same translation, writing to a body."""


def whole(walk: Walk, node: Any) -> list[ir.Value]:
    """The outputs of a node that holds graphs.

    Raises:
        GraphError: It is an If that depends on the image, or takes slices in a way that is not written here.
    """
    return _if(walk, node) if node.get_type_name() == "If" else _loop(walk, node)


def _if(walk: Walk, node: Any) -> list[ir.Value]:
    condition = walk.content(node.input_value(0))
    if condition is None:
        raise GraphError(f"{called(node)}: {_undecided(node.input_value(0))}")
    branch = 0 if bool(condition.reshape(-1)[0]) else 1
    body = node.get_function(branch)
    for given in node.get_input_descriptions(branch):
        _pass(walk, body.get_parameters()[given.body_parameter_index], node.input_value(given.input_index))
    walk.walk(body)
    results = {d.output_index: _result(body, d.body_value_index) for d in node.get_output_descriptions(branch)}
    return [walk.value(results[i]) for i in range(len(results))]


def _undecided(condition: Any) -> str:
    """Why a condition is not known, and what to do: it may depend on inputs that are single numbers, such as a training phase."""
    pending, seen, inputs = [condition.get_node()], set(), []
    while pending:
        node = pending.pop()
        if node.get_name() not in seen:
            seen.add(node.get_name())
            pending += [value.get_node() for value in node.input_values()]
            inputs += [node.output(0)] if node.get_type_name() == "Parameter" else []
    ranks = [port.get_partial_shape().rank for port in inputs]
    if inputs and all(rank.is_dynamic or rank.get_length() == 0 for rank in ranks):
        names = [port_name(port) for port in inputs]
        say = " ".join(f"--input {name}=NUMBER" for name in names)
        return f"its condition depends on {', '.join(map(repr, names))}; give {say}, for a training phase 0"
    return "its condition depends on the image, which has no equal in a bundle; export the network with its branches resolved"


def _loop(walk: Walk, node: Any) -> list[ir.Value]:
    """Outputs in the order of the node's. The body: iteration, condition, states -> condition, states, results to stack."""
    loop = node.get_type_name() == "Loop"
    body = node.get_function() if loop else node.get_body()
    graph = ir.Graph([], [], nodes=[], name=f"{node.get_name()}/body")
    inner = walk.inner(graph)
    op = Ops(inner.emit, node.get_friendly_name(), np.dtype(np.float32))
    outside = Ops(walk.emit, node.get_friendly_name(), np.dtype(np.float32))
    trip = _formal(graph, inner.emit, "iteration", ir.DataType.INT64)
    going = _formal(graph, inner.emit, "condition", ir.DataType.BOOL)
    counter, condition = node.get_special_body_ports() if loop else (-1, -1)
    parameters, given = body.get_parameters(), list(node.get_input_descriptions())
    if counter >= 0:
        _count(inner, op, parameters[counter], trip)
    merged = [d for d in given if type(d).__name__ == _MERGED]
    for d in given:
        parameter, outer = parameters[d.body_parameter_index], node.input_value(d.input_index)
        if type(d).__name__ == _MERGED:
            state = _formal(graph, inner.emit, "state", walk.value(outer).dtype)
            inner.put(parameter.output(0), state)
        elif type(d).__name__ == _SLICED:
            inner.put(parameter.output(0), _slice(node, op, walk.value(outer), trip, d))
        else:
            _pass(inner, parameter, outer)
    inner.walk(body)
    wanted = sorted(node.get_output_descriptions(), key=lambda d: d.output_index)
    last = [next((i for i, m in enumerate(merged) if _is_last(d, m)), None) for d in wanted]
    stacked = [d for d, state in zip(wanted, last, strict=True) if state is None]
    again = _condition(inner, op, _result(body, condition)) if condition >= 0 else going
    carried = [inner.value(_result(body, d.body_value_index)) for d in merged]
    results = [_stackable(node, op, inner.value(_result(body, d.body_value_index)), d) for d in stacked]
    graph.outputs.extend([op.Identity(again), *(op.Identity(v) for v in (*carried, *results))])
    count, start = _trips(walk, node, loop)
    made = ir.node(
        "Loop",
        [count, start, *(walk.value(node.input_value(d.input_index)) for d in merged)],
        attributes={"body": graph},
        name=walk.emit.unique(node.get_friendly_name()),
        num_outputs=len(merged) + len(stacked),
    )
    for value in made.outputs:
        value.name = walk.emit.unique(f"{made.name}/output")
    walk.emit.graph.append(made)
    stacks = iter(made.outputs[len(merged) :])
    return [
        made.outputs[state] if state is not None else _taken(node, outside, next(stacks), d)
        for d, state in zip(wanted, last, strict=True)
    ]


def _pass(walk: Walk, parameter: Any, outer: Any) -> None:
    """Give a body a value that is the same in every iteration; a constant stays one, because many rules need it."""
    array = walk.content(outer)
    walk.put(parameter.output(0), walk.value(outer) if array is None else array)


def _formal(graph: ir.Graph, emit: Emitter, name: str, kind: ir.DataType | None) -> ir.Value:
    value = ir.Value(name=emit.unique(f"{graph.name}/{name}"), type=None if kind is None else ir.TensorType(kind))
    if name in ("iteration", "condition"):
        value.shape = ir.Shape([])
    graph.inputs.append(value)
    return value


def _count(walk: Walk, op: Ops, parameter: Any, trip: ir.Value) -> None:
    """The iteration's number in the type and shape that the body's parameter has."""
    shape = parameter.output(0).get_partial_shape()
    value = op.Reshape(trip, [1]) if shape.rank.is_static and len(shape) == 1 else trip
    kinds = {"i32": ir.DataType.INT32, "i64": ir.DataType.INT64}
    walk.put(parameter.output(0), op.Cast(value, to=kinds[parameter.output(0).get_element_type().get_type_name()]))


def _is_last(output: Any, state: Any) -> bool:
    """Whether an output is what a state is in the end."""
    return getattr(output, "iteration", None) == -1 and output.body_value_index == state.body_value_index


def _result(body: Any, index: int) -> Any:
    return body.get_results()[index].input_value(0)


def _trips(walk: Walk, node: Any, loop: bool) -> tuple[ir.Value | None, ir.Value]:
    """The largest number of iterations, None for none, and the condition before the first."""
    if not loop:
        count = int(node.get_num_iterations())
        if count < 0:
            raise GraphError(
                f"{called(node)}: its number of iterations is not known; give the image's size with --input-shape C,H,W"
            )
        return walk.emit.constant(np.array(count, np.int64), "trips"), walk.emit.constant(np.array(True), "condition")
    op = Ops(walk.emit, node.get_friendly_name(), np.dtype(np.float32))
    start, most = _condition(walk, op, node.input_value(1)), walk.content(node.input_value(0))
    if most is None:
        return op.Reshape(op.Cast(walk.value(node.input_value(0)), to=ir.DataType.INT64), []), start
    trips = int(most.reshape(-1)[0])
    return walk.emit.constant(np.array(trips, np.int64), "trips") if trips >= 0 else None, start


def _condition(walk: Walk, op: Ops, output: Any) -> ir.Value:
    """A condition as a scalar; a constant stays one, so that a loop of fixed length is seen to be one."""
    array = walk.content(output)
    if array is not None:
        return walk.emit.constant(np.array(bool(array.reshape(-1)[0])), "condition")
    return op.Reshape(walk.value(output), [])


def _slice(node: Any, op: Ops, x: ir.Value, trip: ir.Value, d: Any) -> ir.Value:
    """Iteration i takes x[start + i stride : ... + part_size] along the axis; a start of -1 is the last position."""
    if d.stride not in (d.part_size, -1) or (d.stride == -1 and d.part_size != 1):
        raise GraphError(
            f"{called(node)}: takes {d.part_size} positions with a stride of {d.stride} in each iteration, which has no "
            "translation; unroll the loop before the conversion"
        )
    place = op.Add(op.Mul(trip, d.stride), d.start)
    if d.part_size == 1:  # Gather counts a negative place from the end
        return op.Gather(x, op.Reshape(place, [1]), axis=d.axis)
    if d.start < 0:
        raise GraphError(
            f"{called(node)}: its slices begin at {d.start}, which has no translation; unroll the loop before the conversion"
        )
    first = op.Reshape(place, [1])
    return op.Slice(x, first, op.Add(first, [d.part_size]), [d.axis])


def _stackable(node: Any, op: Ops, value: ir.Value, d: Any) -> ir.Value:
    """What an iteration gives to the stack: without the axis along which OpenVINO puts the results."""
    if type(d).__name__ != _CONCATENATED:
        return value
    if d.part_size != 1 or d.stride not in (1, -1) or (d.start, d.end) != ((0, -1) if d.stride == 1 else (-1, 0)):
        raise GraphError(
            f"{called(node)}: puts {d.part_size} positions with a stride of {d.stride} together, which has no translation; "
            "unroll the loop before the conversion"
        )
    return op.Squeeze(value, [d.axis])


def _taken(node: Any, op: Ops, stack: ir.Value, d: Any) -> ir.Value:
    """An output from its stack [iterations, ...]: one iteration, or all of them along an axis."""
    if type(d).__name__ != _CONCATENATED:
        return op.Gather(stack, int(d.iteration), axis=0)
    if d.stride == -1:
        stack = op.Slice(stack, [-1], [np.iinfo(np.int64).min], [0], [-1])
    rank = len(node.get_output_partial_shape(d.output_index))
    return op.Transpose(stack, perm=_moved(rank, d.axis)) if d.axis % rank else stack


def _moved(rank: int, axis: int) -> Sequence[int]:
    """The permutation that brings the first axis to another place."""
    order = list(range(1, rank))
    order.insert(axis % rank, 0)
    return order
