"""Operators on a cache of earlier keys and values, which a network from an image to scores does not have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("com.microsoft.GroupQueryAttention", "com.microsoft.DecoderMaskedMultiHeadAttention")
def cache(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """Refused."""
    raise node.refuse("it keeps a cache of earlier keys and values; export the network without a cache")


@rule("TensorScatter")
def tensor_scatter(op: Ops, node: FusedNode) -> ir.Value:
    """The cache [N,...,tokens,...] with an update from position `write_indices` [N] on; `circular` goes on at the front.

    Position p holds the update's entry p - start, if it has one.
    """
    cache, update = node.x(), node.x(1)
    rank = node.rank(cache)
    axis = int(node.attr("axis", -2)) % rank
    size, length = node.dim(cache, axis), node.dim(update, axis)
    positions = np.arange(size)[None]
    place = positions if (starts := node.optional(2)) is None else op.Sub(positions, op.Unsqueeze(starts, [1]))
    if node.attr("mode", "linear") == "circular":
        place = op.Mod(place, np.int64(size))
    elsewhere = [i for i in range(1, rank) if i != axis]
    place = op.Unsqueeze(place, elsewhere)  # [N,1,..,tokens,..,1]
    written = op.And(op.GreaterOrEqual(place, np.int64(0)), op.Less(place, np.int64(length)))
    index = op.Expand(op.Clip(place, np.int64(0), np.int64(length - 1)), op.Shape(cache))
    return op.Where(written, op.GatherElements(update, index, axis=axis), cache)
