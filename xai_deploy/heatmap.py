"""From a method's raw map to the heatmap in [0,1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import resample

Array = NDArray[np.float32]


def normalise(maps: Array, rank: int = 2) -> Array:
    """Min-max each map of [..., H, W] to [0,1], in place; a constant map becomes all zeros, never NaN.

    Args:
        maps: The maps.
        rank: The axes of one map: 3 for volumes [..., D, H, W].
    """
    axes = tuple(range(-rank, 0))
    low = maps.min(axis=axes, keepdims=True)
    spread = maps.max(axis=axes, keepdims=True) - low
    spread[spread == 0] = 1  # a constant map becomes 0 / 1
    maps -= low
    maps /= spread
    return maps


def heatmap(raw: Array, *size: int) -> Array:
    """Raw maps [N,h,w] -> heatmaps [N,height,width] in [0,1]: bilinear resize (half-pixel centres), min-max per image.

    Those of volumes, [N,d,h,w] -> [N,depth,height,width], are resized trilinearly.

    A constant map becomes all zeros. For that, the minimum is subtracted before the resize, too, because the resize would round a
    constant unevenly.
    """
    low = raw.min(axis=tuple(range(1, raw.ndim)), keepdims=True)
    return normalise(resample.resize(raw - low, *size), len(size))
