"""What is explained, and where the network is cut for it: as the request names them, or found."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ..errors import LayerError
from ..passes.clean import CleanGraph
from ..request import Request
from .auto import auto_layer
from .costs import candidates, no_cut
from .layer import find_layer
from .scores.logits import Logits, drop_foreign_outputs, find_logits


@dataclass(frozen=True)
class Choice:
    """What is explained, and where to cut.

    Attributes:
        target: The tensor to cut at.
        logits: What is explained.
        dropped: The names of the outputs that were removed, for they are not one result per image.
        note: What to tell the user of the layer; None if nothing is unusual.
    """

    target: ir.Value
    logits: Logits
    dropped: tuple[str, ...]
    note: str | None


def choose(graph: CleanGraph, request: Request, tap: str | None) -> Choice:
    """Find what is explained and where to cut. A tap and foreign outputs are removed from the graph's outputs.

    Args:
        graph: The graph; its outputs change.
        request: The export; its `split` and `output` are read.
        tap: Name of the output that carries the target layer, if the source could tap it.

    Raises:
        LayerError: No layer of that name, or none to be found.
        RequestError, GraphError: See `find_logits`.
    """
    tapped = None if tap is None else _take_tap(graph, request.split, tap)
    logits = find_logits(graph, request.output)
    dropped = drop_foreign_outputs(graph, logits)
    if tapped is not None:
        return Choice(tapped, logits, dropped, None)
    found = _auto(graph, logits) if request.split == "auto" else find_layer(graph.graph, request.split)
    return Choice(found[0], logits, dropped, found[1])


def _take_tap(graph: CleanGraph, split: str, name: str) -> ir.Value:
    """The tensor of the tap, no output any more. It gets the layer's name unless it has a name outside, or another has that."""
    tap = next(v for v in graph.graph.outputs if v.name == name)
    graph.graph.outputs.remove(tap)
    while (
        (producer := tap.producer()) is not None and producer.op_type == "Identity" and producer.inputs[0] is not None
    ):
        tap = producer.inputs[0]
    keeps_its_name = tap.is_graph_output() or tap in graph.graph.inputs
    if not keeps_its_name and split not in {v.name for node in graph.graph for v in node.outputs}:
        graph.shapes.rename(str(tap.name), split)
        tap.name = split
    return tap


def _auto(graph: CleanGraph, logits: Logits) -> tuple[ir.Value, str | None]:
    """As `auto_layer`, which advises to name another layer. If there is no other, that is said instead."""
    try:
        return auto_layer(graph, logits)
    except LayerError:
        if candidates(graph, logits):
            raise
        raise LayerError(no_cut(graph)) from None
