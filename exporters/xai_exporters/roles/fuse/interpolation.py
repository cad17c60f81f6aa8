"""A resize as a product with a constant matrix: it gives the same numbers on every runtime, and ONNX's Resize does not."""

from __future__ import annotations

import onnx_ir as ir

from ...graph.emit import Ops
from ...graph.interpolation import interpolating


def resized(op: Ops, maps: ir.Value, source: tuple[int, int], size: tuple[int, int]) -> ir.Value:
    """Maps [..., h, w] -> [..., H, W]: bilinear, half-pixel centres, as two products with constant matrices."""
    down, across = (interpolating(before, after) for before, after in zip(source, size, strict=True))
    # [H,h] x [...,h,w] x [w,W]
    result: ir.Value = op.MatMul(op.MatMul(down, maps), across.T)
    return result
