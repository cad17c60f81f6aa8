"""Whether four coordinates are two corners, or a centre and an extent: seen on probe images."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .detector import Floats


def form_of(boxes: Floats) -> Literal["corners", "centre"] | None:
    """The form of boxes [images,rows,4]; None if it is neither, as offsets that are not decoded are.

    Corners are in order in every row. An extent is never negative.
    """
    if not boxes.size:
        return None
    first, second = boxes[..., :2], boxes[..., 2:]
    slack = 1e-4 * max(float(np.median(np.abs(boxes))), 1e-6)
    if (second >= first - slack).all():
        return "corners"
    return "centre" if (second >= -slack).all() else None
