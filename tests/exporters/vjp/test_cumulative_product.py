"""Cumulative products: `cumulative_product.py`."""

import numpy as np
import pytest

from .harness import Case, Free, check

NEW = {"openvino": "no such operator"}
CASES = [
    Case("CumProd", (Free(("N", 3, 4), "away"), np.array(axis)), {"exclusive": e, "reverse": r}, opset=26, skip=NEW)
    for axis, e, r in ((1, 0, 0), (-1, 1, 0), (2, 0, 1), (1, 1, 1))
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
