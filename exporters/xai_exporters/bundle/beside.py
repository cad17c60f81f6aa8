"""A bundle's own forward pass when its graphs are checked, and what they take beside the image: the whole image as region, one
reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xai_deploy.format.bundle import REFERENCE, WHERE, Graph, Manifest, at_level, role_at

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


def forward(
    manifest: Manifest, run: Callable[[str, Arrays], Arrays], x: NDArray[Any], level: int = 0
) -> tuple[dict[str, NDArray[Any]], Arrays]:
    """Run head and tail; or the network as a whole, if it is not cut.

    Args:
        manifest: The bundle's manifest.
        run: (role, feeds) -> results. It takes those of `feeds` that the graph has inputs for.
        x: The input, [n, ...].
        level: Of several layers the one whose own tail is run.

    Returns:
        What the last graph takes, the image among it; and what it gives.
    """
    between = {manifest.input.name: x, **beside(manifest.graphs[manifest.scoring], len(x))}
    for role in manifest.parts[:-1]:
        between |= run(role, between)
    return between, run(role_at(manifest.scoring, level), between)


def results_back(graph: Graph, results: Arrays) -> list[NDArray[Any]]:
    """What a graph that propagates back gives at each layer, the first one first."""
    assert graph.propagated is not None
    named = (at_level(graph.propagated, level) for level in range(len(graph.gives)))
    gives = {port.name for port in graph.gives}
    return [results[name] for name in named if name in gives]


def beside(graph: Graph, images: int) -> dict[str, NDArray[np.float32]]:
    """A graph's inputs `where` and `reference` for some images, as far as it has them.

    Args:
        graph: The manifest's entry for the graph.
        images: How many.
    """
    feeds = {}
    for port in graph.takes:
        if port.name == WHERE:
            h, w = port.shape[-2:]
            assert h is not None
            assert w is not None
            shape = (images, *(1 if size is None else size for size in port.shape))
            feeds[port.name] = np.full(shape, 1 / (h * w), np.float32)  # one region, its weights sum to 1
        elif port.name == REFERENCE:
            length = port.shape[0] or 1
            feeds[port.name] = np.tile(np.linspace(-1, 1, length, dtype=np.float32), (images, 1))
    return feeds
