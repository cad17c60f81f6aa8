"""A resize as a product with a constant matrix: it gives the same numbers on every runtime, and ONNX's Resize does not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.resample import weights

from ...graph.emit import Ops


def resized(op: Ops, maps: ir.Value, source: tuple[int, int], size: tuple[int, int]) -> ir.Value:
    """Maps [..., h, w] -> [..., H, W]: bilinear, half-pixel centres, as two products with constant matrices."""
    down, across = (_interpolation(before, after) for before, after in zip(source, size, strict=True))
    # [H,h] x [...,h,w] x [w,W]
    result: ir.Value = op.MatMul(op.MatMul(down, maps), across.T)
    return result


def _interpolation(before: int, after: int) -> NDArray[np.float32]:
    """The matrix [after,before] that resizes an axis."""
    first, part = weights(before, after)  # only columns `first` and on have weights
    matrix = np.zeros((after, before), np.float32)
    matrix[:, first : first + part.shape[1]] = part
    return matrix
