"""What graphs take beside the image and what the head gives, when they are checked: the whole image as region, one reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xai_deploy.format.bundle import REFERENCE, WHERE, Graph


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
