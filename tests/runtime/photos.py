"""Photographs of odd sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = [(37, 61), (64, 33), (16, 20), (301, 400), (1, 1)]


def photos() -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
