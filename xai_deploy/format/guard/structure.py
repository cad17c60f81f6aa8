"""Checks that a graph holds known operators, each with the inputs that it needs, in an order in which they can be computed."""

from __future__ import annotations

from ...errors import UnsafeGraphError
from .messages import STANDARD, Node, ParsedGraph, ParsedPort, short
from .operators import FIRST_OPSET, LAST_OPSET, MANY, arity


def check_structure(graph: ParsedGraph) -> None:
    """Refuse unknown operators, wrong numbers of inputs, names given twice, cycles, and ports that are no tensors.

    Raises:
        UnsafeGraphError: The graph has one of these faults.
    """
    if not FIRST_OPSET <= graph.opset <= LAST_OPSET:
        raise UnsafeGraphError(f"its opset is {graph.opset}; {FIRST_OPSET} to {LAST_OPSET} are known")
    _check_ports(graph)
    known: set[str] = set()
    # Until IR version 3, ONNX listed initializers among the inputs as well. Such a graph is refused: it gives names twice.
    for name in [*(port.name for port in graph.inputs), *(tensor.name for tensor in graph.tensors)]:
        _define(name, known)
    arities = {op: arity(op, graph.opset) for op in {node.op for node in graph.nodes}}
    for node in graph.nodes:
        if node.domain not in STANDARD:
            raise UnsafeGraphError(f"{node} is of the domain {short(node.domain)}; only standard operators are allowed")
        counts = arities[node.op]
        if counts is None:
            raise UnsafeGraphError(f"{node} is no operator that a bundle's graphs may hold at opset {graph.opset}")
        _check_arity(node, *counts)
        for name in node.inputs:
            if name and name not in known:  # an empty name leaves an optional input out
                raise UnsafeGraphError(f"{node} reads {short(name)}, which no node before it computes")
        for name in node.outputs:
            if name:
                _define(name, known)
    for port in graph.outputs:
        if port.name not in known:
            raise UnsafeGraphError(f"no node computes its output {short(port.name)}")


def _check_arity(node: Node, fewest: int, most: int, fewest_out: int, most_out: int) -> None:
    if not fewest <= len(node.inputs) <= most:
        raise UnsafeGraphError(f"{node} has {_number(len(node.inputs), 'input')}; it takes {_range(fewest, most)}")
    if not all(node.inputs[:fewest]):
        raise UnsafeGraphError(f"{node} leaves out one of the {fewest} inputs that it needs")
    if not fewest_out <= len(node.outputs) <= most_out or not any(node.outputs):
        raise UnsafeGraphError(
            f"{node} has {_number(len(node.outputs), 'output')}; it gives {_range(fewest_out, most_out)}"
        )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _range(fewest: int, most: int) -> str:
    if most == MANY:
        return f"{fewest} or more"
    return str(most) if fewest == most else f"{fewest} to {most}"


def _define(name: str, known: set[str]) -> None:
    if not name or name in known:
        raise UnsafeGraphError(f"it gives the name {short(name)} twice" if name else "one of its tensors has no name")
    known.add(name)


def _check_ports(graph: ParsedGraph) -> None:
    for what, ports in (("input", graph.inputs), ("output", graph.outputs)):
        if not ports:
            raise UnsafeGraphError(f"it has no {what}")
        for port in ports:
            _check_port(what, port)
    names = [port.name for port in graph.outputs]
    if len(set(names)) != len(names):
        raise UnsafeGraphError("it gives an output twice")


def _check_port(what: str, port: ParsedPort) -> None:
    if not port.dtype or any(size is not None and size < 0 for size in port.dims or ()):
        raise UnsafeGraphError(f"its {what} {short(port.name)} has no type, or impossible sizes")
