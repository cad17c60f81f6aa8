"""A resize as a product with a constant matrix: it gives the same numbers on every runtime, and ONNX's Resize does not."""

from __future__ import annotations

import onnx_ir as ir

from ...graph.emit import Ops
from ...graph.interpolation import along, interpolating


def resized(op: Ops, maps: ir.Value, source: tuple[int, ...], size: tuple[int, ...], before: int = 1) -> ir.Value:
    """Maps in another size: linear along each axis, half-pixel centres, as products with constant matrices.

    Args:
        op: Writes the nodes.
        maps: [..., h, w], or [..., d, h, w] of volumes.
        source: Their size.
        size: The new one.
        before: How many axes come before the size.
    """
    rank = before + len(size)
    for axis, (own, wanted) in enumerate(zip(source, size, strict=True), start=before):
        if own != wanted:
            maps = along(op, maps, axis, rank, interpolating(own, wanted).T)
    return maps
