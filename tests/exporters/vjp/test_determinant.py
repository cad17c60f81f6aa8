"""Determinants: `determinant.py`."""

import pytest
import torch

from .harness import Case, Free, check

NO_DET = {"openvino": "it has no Det"}
CASES = [
    *(Case("Det", (Free(("N", n, n)),), torch=torch.linalg.det, skip=NO_DET) for n in (1, 2, 3, 4)),
    Case("Det", (Free(("N", 2, 3, 3)),), torch=torch.linalg.det, skip=NO_DET),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
