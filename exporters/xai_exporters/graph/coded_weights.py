"""Weights in codes: what QuantizeLinear makes of a constant (ONNX operator specification)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LIMITS = {
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
}
"""The least and the greatest code of each type."""


def codes_of_weight(x: Array, s: Array, z: Array, axis: int, block: int = 0) -> Array:
    """The codes of a weight, of the zero points' type: saturate(round(x / s) + z), half-way cases to the even number.

    Args:
        x: The weight.
        s: Its scales: one, one for each entry along `axis`, or one for each block.
        z: Its zero points, as the scales, of a type in `LIMITS`.
        axis: The scales' axis.
        block: How many entries along the axis share a scale; 0: no blocks.
    """
    floats = np.rint(x.astype(np.float32) / spread(s, x, axis, block)) + spread(z, x, axis, block)
    codes: Array = np.clip(floats, *LIMITS[z.dtype.name]).astype(z.dtype)
    return codes


def spread(array: Array, codes: Array, axis: int, block: int = 0) -> Array:
    """Scales or zero points as floats, in a shape that broadcasts with the codes."""
    array = array.astype(np.float32)
    axis %= max(codes.ndim, 1)
    if block:
        return np.repeat(array, block, axis=axis).take(range(codes.shape[axis]), axis=axis)
    if array.size == 1:
        return array.reshape(())
    return array.reshape([-1 if i == axis else 1 for i in range(codes.ndim)])
