"""What limits the copies of an image that a fused graph puts into one batch."""

from __future__ import annotations

import math

import onnx_ir as ir

from ...errors import GraphError
from ...graph.measure import batch_of
from .net import Net

MOST_BYTES = 1 << 30
"""Largest size of a tensor of one image's copies in one batch."""


def require_batch(net: Net, of: str, part: ir.Graph, copies: int) -> None:
    """Refuse a network that takes one image at a time, or one of dense scores whose tensors are too large so many times.

    Args:
        net: The graph under construction.
        of: What the method puts in one batch.
        part: The part of the network that runs on it.
        copies: How many rows of the batch each image has.

    Raises:
        GraphError: The network is one of these.
    """
    values = (value for node in part for value in node.outputs)
    sizes = [net.material.clean.shapes.per_image(value.name) or () for value in values]
    size = 4 * copies * max((math.prod(shape) for shape in sizes), default=0)
    if net.where is not None and size > MOST_BYTES:
        raise GraphError(
            f"it runs {of} in one batch, {copies} copies of each image, whose largest tensor takes {size >> 20} MiB, above "
            f"{MOST_BYTES >> 20}; use the runtime engine, which runs them in parts, or fuse another method"
        )
    if batch_of(net.image) == 1:
        raise GraphError(
            f"the network takes one image at a time, and this method runs {of} in one batch; use the runtime engine, which "
            "runs them one by one, or fuse another method"
        )
