"""A resize as a product with a constant matrix: it gives the same numbers on every runtime, and ONNX's Resize does not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xai_deploy.resample import weights


def interpolation(before: int, after: int) -> NDArray[np.float32]:
    """The matrix [after,before] that resizes an axis: bilinear, half-pixel centres."""
    first, part = weights(before, after)  # only columns `first` and on have weights
    matrix = np.zeros((after, before), np.float32)
    matrix[:, first : first + part.shape[1]] = part
    return matrix
