"""Bundles of format 1, read as if they were of format 2.

Format 1 recorded the activation with the output that is explained. Its graphs took any batch. What a graph takes and gives followed
from its role alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..foundation.schema import SchemaError
from .graphs import GRADIENT, LOGITS, PIXEL_LOGITS, RELEVANCE, SEED, TARGET, Graph, Port, fused_method
from .manifest import Manifest, activations

_NEW = ("activation", "batch", "logits_step", "requires", "extensions")
_ACTIVATIONS = ("softmax", "sigmoid", "none")


def upgraded(document: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's JSON with the keys of format 2, except for the ports.

    Raises:
        SchemaError: It has a key that format 1 did not have, or an activation that it did not know.
    """
    if unknown := [key for key in _NEW if key in document]:
        raise SchemaError(f"manifest: unknown key {unknown[0]!r}")
    outputs, graphs = document.get("outputs"), document.get("graphs")
    for role, graph in graphs.items() if isinstance(graphs, dict) else ():
        if isinstance(graph, dict) and (unknown := [key for key in ("takes", "gives", "whole") if key in graph]):
            raise SchemaError(f"manifest.graphs[{role!r}]: unknown key {unknown[0]!r}")
    activation, kept = None, outputs
    if isinstance(outputs, list) and all(isinstance(output, dict) for output in outputs):
        kept = [{key: value for key, value in output.items() if key != "activation"} for output in outputs]
        for i, output in enumerate(outputs):
            own = output.get("activation", "none")
            if own not in _ACTIVATIONS:
                allowed = ", ".join(map(repr, _ACTIVATIONS))
                raise SchemaError(f"manifest.outputs[{i}].activation: expected one of {allowed}, got {own!r}")
            if activation is None and output.get("kind") != "other":  # the first such output is the one explained
                activation = own
    changed = {"outputs": kept} if outputs is not None else {}
    return {**document, **changed, "activation": activation or "none", "batch": "any"}


def with_ports(manifest: Manifest) -> Manifest:
    """The manifest with what each graph takes and gives, as its role says. For fused graphs that is not known."""
    graphs = {}
    for role, graph in manifest.graphs.items():
        takes, gives = _ports(manifest, role, graph)
        graphs[role] = replace(graph, takes=takes, gives=gives)
    return replace(manifest, graphs=graphs)


def _ports(manifest: Manifest, role: str, graph: Graph) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    if fused_method(role) is not None:
        return (), ()
    between = activations(manifest)
    image = Port(manifest.input.name, manifest.input.image_shape, manifest.input.dtype)
    start = (image,) if graph.start == "image" else between
    if role == "head":
        return start, between
    if role == "pixelwise-tail":
        positions = math.prod(manifest.target.shape[1:])
        return between[:1], (Port(PIXEL_LOGITS, (positions, manifest.classes), None),)
    own = [Port(o.tensor, o.shape, None) for o in manifest.outputs if o.tensor != LOGITS]
    scores = (Port(LOGITS, (manifest.classes,), None), *own)
    if RELEVANCE not in role and GRADIENT not in role:
        return start, scores
    seeds = Port(TARGET, (), "int64"), Port(SEED, (manifest.classes,), "float32")
    shape = manifest.input.image_shape if graph.start == "image" else manifest.target.shape
    return (*start, *seeds), (*scores, Port(RELEVANCE if RELEVANCE in role else GRADIENT, shape, None))
