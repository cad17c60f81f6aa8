"""Operators on a cache of earlier keys and values, which a network from an image to scores does not have."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("TensorScatter", "com.microsoft.GroupQueryAttention", "com.microsoft.DecoderMaskedMultiHeadAttention")
def cache(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """Refused."""
    raise node.refuse("it keeps a cache of earlier keys and values; export the network without a cache")
