"""How much of a map lies where the object is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def box_mask(boxes: Iterable[tuple[float, float, float, float]], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels inside any of the boxes (left, top, right, bottom, in pixels)."""
    mask = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in boxes:
        mask[max(round(top), 0) : round(bottom), max(round(left), 0) : round(right)] = True
    return mask


def energy_gain(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Energy-based pointing (Score-CAM, section 4.2): share of the map's sum inside the mask; and the same for a uniform map."""
    return float(heatmap[mask].sum()) / max(float(heatmap.sum()), 1e-12), float(mask.mean())
