"""Cumulative sums: `cumulative.py`."""

import itertools

import numpy as np
import pytest

from .harness import Case, Free, check

CASES = [
    Case("CumSum", (Free(("N", 3, 4)), np.array(axis)), {"exclusive": exclusive, "reverse": reverse})
    for axis, exclusive, reverse in itertools.product((1, -1), (0, 1), (0, 1))
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
