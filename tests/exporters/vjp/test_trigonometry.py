"""Trigonometric and hyperbolic functions: `trigonometry.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from .harness import Case, Free, check

X = Free(("N", 3, 4, 5), "away")
INSIDE = Free(("N", 2, 4), "distinct", 1.5)  # below 1 at a batch of 3
ABOVE = Free((3, 7), "positive", 2.5)  # above 1.25


def case(op: str, function: Callable[[torch.Tensor], torch.Tensor], x: Free = X) -> Case:
    return Case(op, (x,), torch=function)


CASES = [
    case("Sin", torch.sin),
    case("Cos", torch.cos),
    case("Tan", torch.tan, INSIDE),
    case("Sinh", torch.sinh),
    case("Cosh", torch.cosh),
    case("Asin", torch.asin, INSIDE),
    case("Acos", torch.acos, INSIDE),
    case("Atan", torch.atan),
    case("Asinh", torch.asinh),
    case("Acosh", torch.acosh, ABOVE),
    case("Atanh", torch.atanh, INSIDE),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
