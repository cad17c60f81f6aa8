"""The places that TopK chooses on the way to a detector's rows: the tail gives them, and what propagates back takes them.

Among candidates that are nearly equal, rounding decides. Two graphs of one network round differently, so that a row of the one
could be another row in the other. With the tail's own choice a row stays what it is: TopK gives x at these places, and so does
GatherElements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from xai_deploy.format.bundle import CHOICE

from ..graph.emit import Emitter
from ..graph.reading import attribute

BEST, TAKEN = "best/", "taken/"
"""Prefixes of what `take` gives to compare: the largest values themselves, and those at the places that were given."""


def choices(graph: ir.Graph) -> dict[str, ir.Node]:
    """The TopK of a graph, by the name of their places."""
    found = (node for node in graph if node.op_type == "TopK" and node.domain == "")
    return {str(node.outputs[1].name): node for node in found if len(node.outputs) == 2 and node.outputs[1].name}


def give(graph: ir.Graph, sizes: Mapping[str, tuple[int, ...]], batch: int | str, names: Collection[str]) -> None:
    """Let a graph give the places that some of its TopK choose, int64, as `choice/NAME`.

    Args:
        graph: The graph; changed in place.
        sizes: The shape of each tensor, the batch counted.
        batch: The batch of the graph's inputs.
        names: Which; those that it does not hold are left out.
    """
    emit = Emitter(graph, "choice")
    for name, node in choices(graph).items():
        if name in names:
            given = emit.node("Identity", [node.outputs[1]], name)
            given.name = f"{CHOICE}{name}"
            given.shape, given.type = ir.Shape([batch, *sizes[name][1:]]), ir.TensorType(ir.DataType.INT64)
            graph.outputs.append(given)
    graph.sort()


def copied(graph: ir.Graph) -> ir.Graph:
    """A copy; it shares the weights."""
    copy = ir.convenience.extract(graph, graph.inputs, graph.outputs)
    for new, old in zip((*copy.inputs, *copy.outputs), (*graph.inputs, *graph.outputs), strict=True):
        new.shape, new.type = old.shape, old.type
    return copy


def taking(graph: ir.Graph) -> ir.Graph:
    """A graph that takes the places that this one gives; the graph itself if it gives none."""
    if not any(str(value.name).startswith(CHOICE) for value in graph.outputs):
        return graph
    copy = copied(graph)
    take(copy)
    return copy


def take(graph: ir.Graph, compare: bool = False) -> None:
    """Let a graph take the places that `give` made it give.

    Args:
        graph: The graph; changed in place.
        compare: It also gives the largest values themselves, and those at the places given: `best/NAME`, `taken/NAME`.
    """
    made = choices(graph)
    for given in [value for value in graph.outputs if str(value.name).startswith(CHOICE)]:
        name = str(given.name).removeprefix(CHOICE)
        node, own = made[name], given.producer()
        assert own is not None
        graph.outputs.remove(given)
        graph.remove(own, safe=True)
        place = ir.Value(name=f"{CHOICE}{name}", shape=given.shape, type=given.type)
        graph.inputs.append(place)
        emit = Emitter(graph, "choice")
        values, places = node.outputs
        axis = {"axis": int(attribute(node, "axis", -1))}
        chosen = emit.node("GatherElements", [node.inputs[0], place], f"{name}/values", axis)
        chosen.type, chosen.shape = values.type, values.shape
        for own_value, instead in ((values, chosen), (places, place)):
            if own_value in graph.outputs:  # its name stays with the output
                label, own_value.name = str(own_value.name), f"{own_value.name}/own"
                named = emit.node("Identity", [instead], label)
                named.name, named.type, named.shape = label, own_value.type, own_value.shape
                graph.outputs[graph.outputs.index(own_value)] = named
            own_value.replace_all_uses_with(instead)
        if compare:
            for value, prefix in ((values, BEST), (chosen, TAKEN)):
                result = emit.node("Identity", [value], f"{prefix}{name}")
                result.name, result.type = f"{prefix}{name}", ir.TensorType(values.dtype or ir.DataType.FLOAT)
                graph.outputs.append(result)
        else:
            graph.remove(node, safe=True)
    graph.sort()
