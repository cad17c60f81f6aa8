"""Regions cut out: `regions.py`."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import Case, Free, check, f32, ints

X = Free((3, 2, 5, 7))
REGIONS = f32([0.3, 0.2, 4.1, 3.9], [2.2, 1.1, 6.4, 4.6], [-1.5, -2.2, 3.3, 8.1], [1.1, 1.2, 1.4, 1.3])
IMAGES = ints(0, 2, 2, 1)


def case(height: int, width: int, **attributes: Any) -> Case:
    sizes = {"output_height": height, "output_width": width}
    return Case("RoiAlign", (X, REGIONS, IMAGES), sizes | attributes)


CASES = [
    case(2, 3, sampling_ratio=2),
    case(3, 2, sampling_ratio=1, coordinate_transformation_mode="output_half_pixel", spatial_scale=0.5),
    case(2, 2),
    case(1, 1, coordinate_transformation_mode="output_half_pixel"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
