"""Choose the scores to explain and the tensor to cut at: as the request names them, or by search."""

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
    """The scores to explain, and the tensor to cut at.

    Attributes:
        target: The tensor to cut at.
        logits: The scores to explain.
        dropped: The names of the outputs that were removed, because they are not one result per image.
        note: A note for the user about the layer; None if nothing is unusual.
    """

    target: ir.Value
    logits: Logits
    dropped: tuple[str, ...]
    note: str | None


def choose(graph: CleanGraph, request: Request, tap: str | None) -> Choice:
    """Find the scores to explain and the tensor to cut at. A tap and foreign outputs are removed from the graph's outputs.

    Args:
        graph: The graph; its outputs change.
        request: The export; its `split` and `output` are read.
        tap: Name of the output that carries the target layer, if the source could tap it.

    Raises:
        LayerError: No layer has that name, or the search finds none.
        RequestError, GraphError: See `find_logits`.
    """
    tapped = None if tap is None else _take_tap(graph, request.split, tap)
    logits = find_logits(graph, request.output)
    dropped = drop_foreign_outputs(graph, logits)
    if tapped is not None:
        return Choice(tapped, logits, dropped, None)
    target, note = _auto(graph, logits) if request.split == "auto" else find_layer(graph.graph, request.split)
    return Choice(target, logits, dropped, note)


def _take_tap(graph: CleanGraph, split: str, name: str) -> ir.Value:
    """The tap's tensor, no longer an output. It is named after the layer unless it is an input or output, or the name is taken."""
    tap = next(v for v in graph.graph.outputs if v.name == name)
    graph.graph.outputs.remove(tap)
    # an exporter may put Identities between the layer and the output
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
    """`auto_layer`, whose error advises the user to name another layer. If there is no other, the error says so instead."""
    try:
        return auto_layer(graph, logits)
    except LayerError:
        if candidates(graph, logits):
            raise
        raise LayerError(no_cut(graph)) from None
