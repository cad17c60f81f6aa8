"""Sort the nodes of an ONNX file.

ONNX wants them sorted. Runtimes take any order, and some converters to float16 write their Casts at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import onnx


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


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, those in its subgraphs included."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield from current.input
        for attribute in current.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending.extend(graph.node)
