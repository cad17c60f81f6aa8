"""Operators that keep some values: `selection.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .harness import Case, Free, check, ints

D = Free(("N", 3, 4, 5), "distinct")
X = Free(("N", 4, 5))
SOME = np.array([False, True, True, False, True])

CASES = [
    Case("TopK", (D, ints(2)), {"axis": 1}, torch=lambda x: x.topk(2, 1).values, outputs=2),
    Case("TopK", (D, ints(3)), {"largest": 0}, torch=lambda x: x.topk(3, largest=False).values, outputs=2),
    Case("TopK", (D, ints(4)), {"axis": -2}, torch=lambda x: x.topk(4, 2).values, outputs=2),
    Case("Compress", (X, SOME), {"axis": 2}, torch=lambda x: x[:, :, SOME]),
    Case("Compress", (X, SOME[:3]), {"axis": -2}, torch=lambda x: x[:, [1, 2]]),
    Case("Compress", (Free((3, 5)), SOME), torch=lambda x: x.reshape(-1)[[1, 2, 4]]),
    Case("Trilu", (X,), torch=torch.triu),
    Case("Trilu", (X, np.array(-1)), {"upper": 0}, torch=lambda x: torch.tril(x, -1)),
    Case("Trilu", (D, np.array(1)), {"upper": 1}, torch=lambda x: torch.triu(x, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
