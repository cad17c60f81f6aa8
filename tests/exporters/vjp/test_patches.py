"""Patches put together: `patches.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch.nn.functional as F

from .harness import Case, Free, check, ints


def case(columns: tuple[int | str, ...], image: tuple[int, int], block: tuple[int, int], **options: Any) -> Case:
    attributes = {name: [value, value] for name, value in options.items() if name != "padding"}
    attributes |= {"pads": [options["padding"]] * 4} if "padding" in options else {}
    names = {"strides": "stride", "dilations": "dilation", "padding": "padding"}
    given = {names[name]: value for name, value in options.items()}
    return Case(
        "Col2Im",
        (Free(columns), ints(*image), ints(*block)),
        attributes,
        torch=lambda x: F.fold(x, image, block, **given),
    )


CASES = [
    case(("N", 12, 12), (4, 5), (2, 2)),
    case(("N", 8, 6), (4, 6), (2, 2), strides=2),
    case(("N", 9, 12), (5, 7), (3, 3), strides=2, padding=1),
    case((3, 12, 3), (5, 5), (2, 3), dilations=2),
    Case("Col2Im", (Free(("N", 6, 5)), ints(7), ints(3)), skip={"openvino": "images only"}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
