"""Resize: every mode and coordinate transformation, up and down, by scales and by sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F

from .harness import Case, Free, check

X = Free(("N", 2, 5, 6))
EMPTY = np.zeros(0, np.float32)


def scales(h: float, w: float) -> tuple[Any, ...]:
    return X, None, np.array([1, 1, h, w], np.float32)


def sizes(h: int, w: int) -> tuple[Any, ...]:
    return Free((3, 2, 5, 6)), None, None, np.array([3, 2, h, w], np.int64)


MODES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
CASES = [
    *(Case("Resize", scales(2, 2), {"mode": "linear", "coordinate_transformation_mode": m}) for m in MODES),
    # the runtime computes coordinates in float32; with align_corners it and the evaluator round the size differently
    *(
        Case("Resize", scales(0.6, 1.7), {"mode": "linear", "coordinate_transformation_mode": m}, central=1e-4)
        for m in MODES
        if m != "align_corners"
    ),
    *(Case("Resize", sizes(8, 4), {"mode": "linear", "coordinate_transformation_mode": m}) for m in MODES),
    *(
        Case("Resize", scales(2, 3), {"mode": "nearest", "coordinate_transformation_mode": c, "nearest_mode": n})
        for c, n in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "ceil"))
    ),
    Case("Resize", scales(0.6, 0.5), {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    Case("Resize", scales(2, 2), {"mode": "cubic"}),
    Case("Resize", (X, None, np.array([2, 1.5], np.float32)), {"mode": "linear", "axes": [2, 3]}, central=1e-4),
    Case("Resize", scales(2, 2), {"mode": "linear"}, torch=lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    Case("Resize", scales(2, 2), {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
         torch=lambda x: F.interpolate(x, scale_factor=2)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
