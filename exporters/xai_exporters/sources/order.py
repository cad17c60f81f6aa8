"""Sort the nodes of an ONNX file, and refuse one whose nodes read what nothing gives.

ONNX wants them sorted. Runtimes take any order, and some converters to float16 write their Casts at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from ..errors import GraphError
from ..graph.reading import called


def in_order(graph: onnx.GraphProto) -> None:
    """Sort the nodes of a graph in place if one reads a later one's output; a graph with a cycle stays as it is."""
    made = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    before = {i: {made[name] for name in _read(node) if name in made} for i, node in enumerate(graph.node)}
    if all(j < i for i, needed in before.items() for j in needed):
        return
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError:
        return
    nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
    del graph.node[:]
    graph.node.extend(nodes)


def require_given(graph: onnx.GraphProto) -> None:
    """Check that an input, an initializer or a node gives each tensor that a node reads.

    Raises:
        GraphError: Nothing gives it. torch 2.13 writes such a file if it merges two Clips whose bounds are constants of the module.
    """
    given = {value.name for value in (*graph.input, *graph.initializer)}
    given |= {str(tensor.values.name) for tensor in graph.sparse_initializer}
    given |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        for name in node.input:
            if name and name not in given:
                raise GraphError(
                    f"{called(node.name, node.output)} ({node.op_type}) reads {name!r}, which no node, input or constant of the "
                    "file gives: the exporter that wrote it left it out, and no runtime opens it; export again, for torch with "
                    "optimize=False or another version"
                )


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, those in its subgraphs included."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield from current.input
        for attribute in current.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending.extend(graph.node)
