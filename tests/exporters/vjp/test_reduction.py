"""Reductions over axes given, left out, negative; dimensions kept or not: `reduction.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from .harness import Case, Free, check, check_at, ints

X, P, D = Free(("N", 3, 4, 5), "away"), Free(("N", 3, 4, 5), "positive"), Free(("N", 3, 4, 5), "distinct")

FUNCTIONS: dict[str, tuple[Free, Callable[..., torch.Tensor] | None]] = {
    "ReduceSum": (X, torch.sum),
    "ReduceMean": (X, torch.mean),
    "ReduceMax": (D, torch.amax),
    "ReduceMin": (D, torch.amin),
    "ReduceL1": (X, lambda x, dim, keepdim: x.abs().sum(dim, keepdim)),
    "ReduceL2": (X, lambda x, dim, keepdim: torch.linalg.vector_norm(x, 2, dim, keepdim)),
    "ReduceSumSquare": (X, lambda x, dim, keepdim: (x * x).sum(dim, keepdim)),
    "ReduceLogSum": (P, lambda x, dim, keepdim: x.sum(dim, keepdim).log()),
    "ReduceLogSumExp": (X, torch.logsumexp),
    "ReduceProd": (P, None),  # torch multiplies along one axis only
}


def reduction(op: str, axes: tuple[int, ...], keep: int, drawn: Free | None = None) -> Case:
    x, function = FUNCTIONS[op]
    if op == "ReduceProd" and len(axes) == 1:
        return Case(op, (x, ints(*axes)), {"keepdims": keep}, torch=lambda v: v.prod(axes[0], bool(keep)))
    whole = None if function is None else (lambda v: function(v, dim=axes, keepdim=bool(keep)))
    return Case(op, (drawn or x, ints(*axes)), {"keepdims": keep}, torch=whole)


def whole(op: str, **attributes: Any) -> Case:
    """Over everything, which only a network without a batch can do."""
    x, function = FUNCTIONS[op]
    keep = bool(attributes.get("keepdims", 1))
    found = None if function is None else (lambda v: function(v, dim=(0, 1), keepdim=keep))
    return Case(op, (Free((3, 4), x.draw),), attributes, torch=found)


CASES = [
    *(reduction(op, axes, keep) for op in FUNCTIONS for axes, keep in (((2, 3), 1), ((-1,), 0), ((1, -1), 0), ((2,), 1))),
    *(whole(op) for op in FUNCTIONS),
    *(whole(op, keepdims=0) for op in FUNCTIONS),
    *(Case(op, (x, *axes), {"noop_with_empty_axes": 1})
      for op, (x, _) in FUNCTIONS.items() if op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
      for axes in ((), (ints(),))),
    Case("ReduceSum", (X, ints()), {"noop_with_empty_axes": 1, "keepdims": 0}),
    Case("ReduceMax", (D, ints()), {"noop_with_empty_axes": 1, "keepdims": 0}),
    Case("ReduceSum", (Free((3, 4)), ints()), torch=lambda x: x.sum((0, 1), keepdim=True)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


T = Free((4, 3, 6))
TIES = np.random.default_rng(0).integers(-1, 2, (4, 3, 6)).astype(np.float64)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize(("axes", "keep"), [((1,), 1), ((0, 2), 0)])
def test_ties_and_zeros_are_torchs(op: str, axes: tuple[int, ...], keep: int) -> None:
    """amax and amin share among equals; the norms have slope 0 at 0."""
    check_at(reduction(op, axes, keep, T), TIES)
    check_at(reduction(op, axes, keep, T), TIES * 0)


def test_a_product_with_zeros_is_torchs() -> None:
    """Rows with no zero, with one, and with several."""
    x = np.array([[1, 2, -3], [0, 2, -3], [0, 2, 0], [0, 0, 0]], np.float64)
    check_at(Case("ReduceProd", (Free((4, 3)), ints(1)), torch=lambda x: x.prod(1, keepdim=True)), x)
