"""From a method's maps to the values that are drawn: [0,1], or [-1,1] with 0 neutral if the map is signed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import resample

Array = NDArray[np.float32]

PERCENTILE = 99.0  # of maps at the pixels: what lies above is drawn as if it were this (as in SmoothGrad's code)


def drawn(heatmap: Array, raw: Array, signed: bool, at_pixels: bool) -> Array:
    """The values of one map as they are drawn.

    Args:
        heatmap: [H,W] in [0,1], see `heatmap.heatmap`.
        raw: [h,w], the method's own values.
        signed: 0 is neutral in `raw`: it is resized to [H,W] and divided by its largest magnitude.
        at_pixels: The largest value, or magnitude, is the 99th percentile; larger ones are cut.

    Returns:
        [H,W] in [0,1], or in [-1,1] if `signed`.
    """
    values = resample.resize(raw, *heatmap.shape) if signed else heatmap
    magnitudes = np.abs(values)
    largest = float(np.percentile(magnitudes, PERCENTILE)) if at_pixels else 0.0
    largest = largest or float(magnitudes.max()) or 1.0  # fewer than 1 % of the pixels have a value: none is cut
    return np.asarray(np.clip(values / np.float32(largest), -1, 1))
