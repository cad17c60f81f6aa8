"""Looking up an image between its pixels: `sampling.py`, `taps.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch.nn.functional as F

from .harness import Case, Free, check, double, ints, weights

X = Free(("N", 2, 3, 4))
GRID = Free(("N", 2, 3, 2), scale=1.3)  # a third of the places lie outside
PLACES = 1.3 * weights(3)(3, 2, 3, 2)
NAMES = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}
NO_VOLUMES = {"openvino": "images only"}


def case(mode: str, padding: str, aligned: int, opset: int = 18, of_volume: bool = False) -> Case:
    attributes = {"mode": mode if opset < 20 else NAMES[mode], "padding_mode": padding, "align_corners": aligned}
    x, grid = (Free(("N", 2, 3, 4, 2)), Free(("N", 2, 1, 2, 3))) if of_volume else (X, GRID)

    def sampled(x: Any, grid: Any = None) -> Any:
        return F.grid_sample(x, double(PLACES) if grid is None else grid, mode, padding, bool(aligned))

    skip = NO_VOLUMES if of_volume else {}
    if mode == "nearest":  # the grid moves nothing
        return Case("GridSample", (Free((3, 2, 3, 4)), PLACES), attributes, opset=opset, torch=sampled)
    return Case("GridSample", (x, grid), attributes, opset=opset, torch=sampled, skip=skip)


CASES = [
    *(case("bilinear", padding, aligned) for padding in ("zeros", "border", "reflection") for aligned in (0, 1)),
    case("bilinear", "zeros", 0, opset=20),
    case("bilinear", "reflection", 0, opset=20, of_volume=True),
    case("bicubic", "zeros", 1),
    case("bicubic", "border", 0),
    case("bicubic", "border", 1, opset=20),
    case("bicubic", "reflection", 0),
    case("bicubic", "reflection", 1, opset=20),
    case("nearest", "zeros", 0),
    case("nearest", "border", 1),
    case("nearest", "reflection", 0),
    *(Case("AffineGrid", (Free((3, 2, 3)), ints(3, 1, 4, 5)), {"align_corners": aligned}, opset=20,
           torch=lambda theta, aligned=aligned: F.affine_grid(theta, [3, 1, 4, 5], bool(aligned))) for aligned in (0, 1)),
    Case("AffineGrid", (Free((3, 3, 4)), ints(3, 1, 4, 5, 2)), opset=20,
         torch=lambda theta: F.affine_grid(theta, [3, 1, 4, 5, 2], False)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
