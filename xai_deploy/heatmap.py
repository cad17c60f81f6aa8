"""From a method's raw map to the heatmap in [0,1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import resample

Array = NDArray[np.float32]


def normalise(maps: Array) -> Array:
    """Min-max each map of [..., H, W] to [0,1], in place; a constant map becomes all zeros, never NaN."""
    low = maps.min(axis=(-2, -1), keepdims=True)
    spread = maps.max(axis=(-2, -1), keepdims=True) - low
    spread[spread == 0] = 1  # a constant map becomes 0 / 1
    maps -= low
    maps /= spread
    return maps


def heatmap(raw: Array, height: int, width: int) -> Array:
    """Raw maps [N,h,w] -> heatmaps [N,height,width] in [0,1]: bilinear resize (half-pixel centres), min-max per image.

    A constant map becomes all zeros. For that, the minimum is subtracted before the resize, too, because the resize would round a
    constant unevenly.
    """
    return normalise(resample.resize(raw - raw.min(axis=(-2, -1), keepdims=True), height, width))
