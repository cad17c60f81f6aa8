"""Resize: every mode and coordinate transformation, up and down, by scales and by sizes: `resize.py`, `axis.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch.nn.functional as F

from .harness import Case, Free, check, f32, ints

X = Free(("N", 2, 5, 6))
# With a scale that is no binary fraction the runtime's coordinates are float32, the evaluator's float64: the central
# difference is of another function by 1e-6 of its weights (more of a sum that cancels); the gradient is the runtime's.
COORDINATES = 1e-4
TRANSFORMATIONS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


def scales(h: float, w: float, mode: str, transformation: str = "half_pixel", **options: Any) -> Case:
    """By factors, symbolic batch."""
    attributes = {"mode": mode, "coordinate_transformation_mode": transformation}
    skip, opset, torch_too = (options.pop(k, d) for k, d in (("skip", {}), ("opset", 18), ("torch", None)))
    exact = mode == "nearest" or {h, w} <= {0.5, 1, 2}
    return Case(
        "Resize", (X, None, f32(1, 1, h, w)), attributes | options, torch=torch_too, skip=skip, opset=opset,
        central=1e-6 if exact and transformation != "align_corners" else COORDINATES,
    )  # fmt: skip


def sizes(h: int, w: int, mode: str, transformation: str = "half_pixel", **options: Any) -> Case:
    """To sizes, along the axes behind channels, symbolic batch."""
    attributes = {"mode": mode, "coordinate_transformation_mode": transformation, "axes": [2, 3]}
    skip, torch_too, exact = (options.pop(k, d) for k, d in (("skip", {}), ("torch", None), ("exact", 1e-6)))
    inputs = (X, None, None, ints(h, w))
    return Case(
        "Resize", inputs, attributes | options, torch=torch_too, skip=skip, central=COORDINATES, exact=exact
    )  # fmt: skip


def interpolate(mode: str, **options: Any) -> Any:
    return lambda x: F.interpolate(x, mode=mode, **options)


def cropped(mode: str, *region: float) -> Case:
    """Of a region that is given by its first and last row and column, as fractions; beyond the image lies a constant."""
    (top, left, bottom, right), attributes = region, {"coordinate_transformation_mode": "tf_crop_and_resize"}
    roi = f32(0, 0, top, left, 1, 1, bottom, right)
    return Case(
        "Resize", (Free((3, 2, 5, 6)), roi, None, ints(3, 2, 4, 7)), attributes | {"mode": mode, "extrapolation_value": 2.0},
        skip={"openvino": "no regions"}, central=COORDINATES,
    )  # fmt: skip


CUBIC: dict[str, Any] = {"cubic_coeff_a": -0.75}
CASES = [
    *(scales(2, 2, mode, t) for mode in ("linear", "cubic") for t in TRANSFORMATIONS),
    *(scales(2, 3, "nearest", t, nearest_mode=n)
      for t in ("half_pixel", "asymmetric") for n in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")),
    scales(2, 3, "nearest", "pytorch_half_pixel"),
    scales(2, 2, "nearest", "align_corners"),
    scales(0.6, 1.7, "linear"),
    scales(0.6, 1.7, "linear", "asymmetric"),
    scales(0.6, 1.7, "linear", "pytorch_half_pixel"),
    scales(0.6, 1.7, "cubic"),
    scales(0.5, 0.5, "linear"),
    scales(0.5, 0.5, "nearest", "asymmetric", nearest_mode="floor"),
    scales(0.6, 0.5, "nearest", "asymmetric", nearest_mode="floor"),
    scales(1, 2.5, "linear"),
    scales(2, 2, "cubic", cubic_coeff_a=-0.5),
    scales(2, 2, "cubic", exclude_outside=1),
    scales(0.5, 0.5, "linear", antialias=1),
    scales(0.5, 0.5, "cubic", antialias=1),
    cropped("linear", 0.1, 0.2, 0.8, 0.9),
    cropped("linear", -0.25, 0.0, 1.0, 1.25),
    cropped("cubic", 0.1, 0.2, 0.8, 0.9),
    *(sizes(8, 4, mode, t) for mode in ("linear", "cubic") for t in TRANSFORMATIONS),
    sizes(8, 4, "nearest", "asymmetric", nearest_mode="floor"),
    sizes(1, 1, "linear"),
    sizes(1, 9, "linear", "pytorch_half_pixel"),
    sizes(5, 9, "linear"),
    scales(2, 2, "linear", torch=interpolate("bilinear", scale_factor=2)),
    scales(2, 2, "cubic", torch=interpolate("bicubic", scale_factor=2), **CUBIC),
    scales(2, 2, "nearest", "asymmetric", nearest_mode="floor", torch=interpolate("nearest", scale_factor=2)),
    sizes(8, 4, "linear", torch=interpolate("bilinear", size=(8, 4))),
    sizes(9, 11, "linear", "align_corners", torch=interpolate("bilinear", size=(9, 11), align_corners=True)),
    sizes(7, 13, "cubic", torch=interpolate("bicubic", size=(7, 13)), **CUBIC),
    Case("Resize", (X, None, f32(2, 1.5)), {"mode": "linear", "axes": [2, 3]}, central=COORDINATES),
    Case("Resize", (X, None, f32(2)), {"mode": "linear", "axes": [3]}),
    Case("Resize", (Free(("N", 2, 7)), None, f32(1, 1, 2)), {"mode": "linear"},
         torch=lambda x: F.interpolate(x, scale_factor=2, mode="linear")),
    Case("Resize", (Free(("N", 2, 3, 4, 5)), None, f32(1, 1, 2, 1, 2)), {"mode": "linear"},
         torch=lambda x: F.interpolate(x, scale_factor=(2, 1, 2), mode="trilinear")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
