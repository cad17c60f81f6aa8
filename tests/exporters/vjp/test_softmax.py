"""Softmax and its logarithm: `softmax.py`."""

from __future__ import annotations

import pytest

from .harness import Case, Free, check

X = Free(("N", 3, 4, 5))

CASES = [
    Case("Softmax", (X,), torch=lambda x: x.softmax(-1)),
    Case("Softmax", (X,), {"axis": 1}, torch=lambda x: x.softmax(1)),
    Case("Softmax", (X,), {"axis": -2}, torch=lambda x: x.softmax(-2)),
    Case("Softmax", (Free(("N", 7), scale=5.0),), torch=lambda x: x.softmax(1)),
    Case("LogSoftmax", (X,), torch=lambda x: x.log_softmax(-1)),
    Case("LogSoftmax", (X,), {"axis": 2}, torch=lambda x: x.log_softmax(2)),
    Case("LogSoftmax", (Free(("N", 7), scale=5.0),), {"axis": 1}, torch=lambda x: x.log_softmax(1)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
