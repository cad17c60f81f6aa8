"""Outputs that have no place in a bundle."""

from __future__ import annotations

from ...graph.reading import descendants
from ...passes.clean import CleanGraph
from .logits import Logits


def drop_foreign_outputs(clean: CleanGraph, logits: Logits) -> tuple[str, ...]:
    """Remove the outputs that are not one result per image from the graph: constants, statistics over the batch.

    Returns:
        Their names.
    """
    data = descendants(clean.graph.inputs)
    dropped = [
        v
        for v in clean.graph.outputs
        if v is not logits.output and (v not in data or clean.shapes.per_image(v.name) is None)
    ]
    for value in dropped:
        clean.graph.outputs.remove(value)
    return tuple(str(v.name) for v in dropped)
