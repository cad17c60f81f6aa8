"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import einsum

from .harness import Case, Free, check

RNG = np.random.default_rng(0)


def weight(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


CASES = [
    Case("Gemm", (Free(("N", 4)), weight(4, 6), weight(6))),
    Case("Gemm", (Free(("N", 4)), weight(6, 4)), {"transB": 1}),
    Case("Gemm", (Free(("N", 6)), weight(6, 6)), {"transB": 1}),
    Case("Gemm", (Free(("N", 4)), weight(4, 6), weight(1, 6)), {"alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (Free((4, 3)), Free((4, 6)), Free((6,))), {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (Free((4, 3)), Free((6, 4)), Free((3, 1))), {"transA": 1, "transB": 1}),
    Case("Gemm", (Free((3, 4)), Free((6, 4))), {"transB": 1}),
    Case("MatMul", (Free(("N", 3, 4)), weight(4, 6)), torch=None),
    Case("MatMul", (Free(("N", 3, 6)), weight(6, 6))),
    Case("MatMul", (Free(("N", 2, 3, 4)), Free(("N", 2, 4, 5))), torch=torch.matmul),
    Case("MatMul", (Free(("N", 2, 3, 4)), Free((4, 5))), torch=torch.matmul),
    Case("MatMul", (Free((3, 4)), Free(("N", 2, 4, 5))), torch=torch.matmul),
    Case("MatMul", (Free(("N", 1, 3, 4)), Free((2, 4, 5))), torch=torch.matmul),
    Case("MatMul", (Free((4,)), Free(("N", 4, 5))), torch=torch.matmul),
    Case("MatMul", (Free(("N", 3, 4)), Free((4,))), torch=torch.matmul),
    Case("MatMul", (Free((4,)), Free((4,))), torch=torch.matmul),
    Case("MatMul", (weight(5, 3), Free(("N", 3, 4)))),
    Case("Einsum", (Free(("N", 3, 4)), Free(("N", 4, 5))), {"equation": "bij,bjk->bik"}, torch=torch.bmm),
    Case("Einsum", (Free((3, 4)), Free((4, 5))), {"equation": "ij,jk"}, torch=lambda a, b: einsum("ij,jk", a, b)),
    Case("Einsum", (Free(("N", 2, 3, 4)), Free(("N", 2, 4, 5))), {"equation": "...ij,...jk->...ik"}, reason="ellipsis",
         torch=lambda a, b: einsum("...ij,...jk->...ik", a, b)),
    Case("Einsum", (Free(("N", 3, 4)),), {"equation": "bij->bi"}, torch=lambda a: einsum("bij->bi", a)),
    Case("Einsum", (Free(("N", 3, 4)),), {"equation": "bij->jb"}, torch=lambda a: einsum("bij->jb", a)),
    Case("Einsum", (Free((3, 4)), Free((5, 6)), Free((4,))), {"equation": "ij,kl,j->ik"},
         torch=lambda *t: einsum("ij,kl,j->ik", *t)),
    Case("Einsum", (Free(("N", 1, 4)), Free(("N", 3, 4))), {"equation": "bij,bij->bj"}, reason="a broadcast letter"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
