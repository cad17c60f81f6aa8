"""What rounding decides in relevance on images that are no noise.

How far float32 is from the exact relevance depends on the image: a share x w / sum of x w is large where the sum nearly cancels. In
transformers' Dinov2WithRegisters of random weights, the share that rounding decides was 5e-4 to 4e-3 on noise, and 3e-3 to 0.6 on
images of coarse squares. The largest one is told; a graph is left out by its share on noise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xai_deploy.format.bundle import LOGITS, RELEVANCE, TARGET, Manifest, fused_method

from ..graph.measure import OnnxFile
from .beside import Arrays, asked, beside, forward, patterned_images, possible_inputs
from .rounding import Rounding

Run = Callable[[Arrays], dict[str, Any]]


def shares_on_patterns(
    contents: Mapping[str, OnnxFile], manifest: Manifest, exactly: Callable[[OnnxFile, str], Run]
) -> dict[str, float]:
    """Role -> the share of relevance's largest value that rounding decides on images of patterns, from `TOLD` on.

    Args:
        contents: The bundle's graphs, by the names of their files.
        manifest: Its manifest.
        exactly: Opens a graph on ONNX Runtime without optimisations.
    """
    rounding = Rounding(manifest)
    graphs = {
        role: graph
        for role, graph in manifest.graphs.items()
        if graph.propagated == RELEVANCE and fused_method(role) is None
    }
    if not graphs or manifest.logits_step:  # images of few pixels' values saturate codes
        return {}
    parts = {role: exactly(contents[f"{role}.onnx"], f"the {role}") for role in manifest.parts}
    given = []
    for image in (one for spec in possible_inputs(manifest.input) for one in patterned_images(spec)):
        between, tail = forward(manifest, lambda role, feeds: parts[role](feeds), image)
        if np.isfinite(tail[LOGITS]).all():
            given.append({**between, TARGET: asked(manifest, tail[LOGITS])})
    for role, graph in graphs.items():
        if graph.start == "image" and manifest.inputs[0] not in graph.takes:
            continue
        run = exactly(contents[graph.file], f"the {role} graph")
        for feeds in given:
            rounding.measure(role, RELEVANCE, {**feeds, **beside(graph, 1, manifest.scores.rows)}, run)
    return rounding.shares()
