"""Reductions over axes given, left out, negative; dimensions kept or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from .harness import Case, Free, check, evaluate, forward_model, gradient_model, to_float64


def axes(*values: int) -> Any:
    return np.array(values, np.int64)


X, P, D = Free(("N", 3, 4, 5), "away"), Free(("N", 3, 4, 5), "positive"), Free(("N", 3, 4, 5), "distinct")

CASES = [
    *(
        Case(op, (x, a), {"keepdims": keep})
        for op, x in (
            ("ReduceSum", X), ("ReduceMean", X), ("ReduceMax", D), ("ReduceMin", D), ("ReduceL1", X), ("ReduceL2", X),
            ("ReduceSumSquare", X), ("ReduceLogSum", P), ("ReduceLogSumExp", X), ("ReduceProd", P),
        )
        for a, keep in ((axes(2, 3), 1), (axes(-1), 0), (axes(1, -1), 0))
    ),
    Case("ReduceMean", (Free((3, 4)),), {"keepdims": 0}, torch=torch.mean),
    Case("ReduceMean", (X, axes(1)), {"keepdims": 0}, torch=lambda x: x.mean(1)),
    Case("ReduceMax", (D, axes(2, 3)), torch=lambda x: x.amax((2, 3), keepdim=True)),
    Case("ReduceL2", (X, axes(1)), torch=lambda x: x.norm(dim=1, keepdim=True)),
    Case("ReduceSum", (X, axes()), {"noop_with_empty_axes": 1}),
    Case("ReduceSum", (X,), {"noop_with_empty_axes": 1}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_ties_share(op: str) -> None:
    """As torch.amax and amin."""
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 6)).astype(np.float64)
    leaf = torch.from_numpy(x).requires_grad_()
    (leaf.amax(2) if op == "ReduceMax" else leaf.amin(2)).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    case = Case(op, (Free((2, 3, 6)), axes(2)), {"keepdims": 0})
    model = to_float64(gradient_model(forward_model(case), "x0"))
    np.testing.assert_allclose(evaluate(model, {"x0": x, "dy": np.ones((2, 3))}, "dx"), leaf.grad.numpy(), atol=1e-12)


def test_the_norm_of_zeros_has_no_nan() -> None:
    model = to_float64(gradient_model(forward_model(Case("ReduceL2", (Free((2, 3)), axes(1)))), "x0"))
    assert not evaluate(model, {"x0": np.zeros((2, 3)), "dy": np.ones((2, 1))}, "dx").any()
