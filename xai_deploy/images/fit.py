"""A picture in a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .module import opencv

Pixels = NDArray[np.uint8]


def fit(picture: Pixels, side: int, enlarge: bool = True) -> Pixels:
    """RGB [h,w,3] with its longest side of `side` pixels, its proportions kept; a small one stays as it is without `enlarge`."""
    cv2 = opencv()
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1 and not enlarge:
        return picture
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    fitted: Pixels = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return fitted
