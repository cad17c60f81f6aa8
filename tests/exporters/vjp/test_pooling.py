"""Poolings, overlapping, padded, dilated, in ceil mode; ties as torch has them: `pooling.py`, `window.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from .harness import Case, Free, check, check_at

X = Free(("N", 2, 7, 9), "distinct")
MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
STATIC = {"openvino": "GlobalLpPool wants a static batch"}


def pool(op: str, *shape: int, skip: dict[str, str] | None = None, opset: int = 18, **attributes: Any) -> Case:
    """With torch's function where it has one: symmetric padding of at most half the kernel, no dilated average."""
    kernel = attributes["kernel_shape"]
    rank = len(kernel)
    pads = attributes.get("pads", [0] * 2 * rank)
    strides, ceil = attributes.get("strides", [1] * rank), bool(attributes.get("ceil_mode", 0))
    dilations, counted = attributes.get("dilations", [1] * rank), bool(attributes.get("count_include_pad", 0))

    def function(x: torch.Tensor) -> torch.Tensor:
        if op == "MaxPool":
            return MAX[rank](x, kernel, strides, pads[:rank], dilations, ceil)
        return AVERAGE[rank](x, kernel, strides, pads[:rank], ceil, counted)

    same = pads[:rank] == pads[rank:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    has = op == "MaxPool" or (op == "AveragePool" and set(dilations) == {1})
    has = has and same and "auto_pad" not in attributes
    inputs = (Free(("N", *shape), "distinct"),)
    return Case(op, inputs, attributes, torch=function if has else None, skip=skip or {}, opset=opset)


CASES = [
    *(
        pool(op, *shape, **attributes)
        for op in ("MaxPool", "AveragePool")
        for shape, attributes in (
            ((2, 7, 9), {"kernel_shape": [2, 2], "strides": [2, 2]}),  # the last row is read by no window
            ((2, 7, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
            ((2, 7, 9), {"kernel_shape": [3, 3], "pads": [1] * 4}),
            ((2, 7, 9), {"kernel_shape": [3, 3], "strides": [2, 2]}),
            ((2, 8, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
            ((2, 8, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1] * 4}),
            ((2, 7, 9), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
            ((2, 7, 9), {"kernel_shape": [2, 2], "strides": [3, 4]}),  # stride > kernel
            ((2, 7, 9), {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 1, 1, 0]}),
            ((2, 7, 9), {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [2, 0, 1, 2]}),
            ((2, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
            ((2, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
            ((2, 8, 9), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"}),
            ((2, 11), {"kernel_shape": [3], "strides": [2]}),
            ((2, 11), {"kernel_shape": [4], "strides": [3], "pads": [2, 2]}),
            ((2, 4, 5, 6), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2]}),
            ((2, 4, 5, 6), {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1}),
            ((2, 7, 9), {"kernel_shape": [7, 9]}),
        )
    ),
    pool("MaxPool", 2, 7, 9, kernel_shape=[3, 2], strides=[1, 1], dilations=[2, 3]),
    pool("MaxPool", 2, 9, 9, kernel_shape=[3, 3], strides=[2, 2], dilations=[2, 2], pads=[1] * 4),
    pool("AveragePool", 2, 7, 9, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    pool("AveragePool", 2, 7, 9, kernel_shape=[3, 2], strides=[2, 3], pads=[0, 1, 1, 0], count_include_pad=1),
    pool("AveragePool", 2, 8, 9, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER", count_include_pad=1),
    pool("AveragePool", 2, 8, 9, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", count_include_pad=1),
    pool("AveragePool", 2, 7, 9, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1, count_include_pad=1),
    pool("AveragePool", 2, 8, 10, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1, count_include_pad=1),
    pool("AveragePool", 2, 8, 10, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1),
    pool("AveragePool", 2, 8, 10, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1, auto_pad="VALID"),
    pool("AveragePool", 2, 9, 9, kernel_shape=[3, 3], dilations=[2, 2], opset=19),
    pool("AveragePool", 2, 9, 9, kernel_shape=[3, 3], strides=[2, 2], dilations=[2, 1], pads=[1] * 4, opset=19),
    Case("GlobalAveragePool", (X,), torch=lambda x: x.mean(dim=(2, 3), keepdim=True)),
    Case("GlobalAveragePool", (Free(("N", 3, 7)),), torch=lambda x: x.mean(dim=2, keepdim=True)),
    Case("GlobalMaxPool", (X,), torch=lambda x: F.adaptive_max_pool2d(x, 1)),
    Case("GlobalMaxPool", (Free(("N", 3, 7), "distinct"),), torch=lambda x: F.adaptive_max_pool1d(x, 1)),
    Case("LpPool", (X,), {"kernel_shape": [2, 3], "strides": [2, 1]},
         torch=lambda x: (F.avg_pool2d(x**2, (2, 3), (2, 1)) * 6).sqrt()),
    Case("LpPool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "p": 3, "pads": [1] * 4},
         torch=lambda x: (F.avg_pool2d(x.abs() ** 3, 3, 2, 1) * 9) ** (1 / 3)),
    Case("LpPool", (Free(("N", 2, 6, 6), "away"),), {"kernel_shape": [2, 2], "p": 1},
         torch=lambda x: F.avg_pool2d(x.abs(), 2, 1) * 4),
    Case("LpPool", (Free(("N", 2, 11), "away"),), {"kernel_shape": [3], "strides": [2]}),
    Case("GlobalLpPool", (X,), {"p": 3}, skip=STATIC),
    Case("GlobalLpPool", (X,), skip=STATIC, torch=lambda x: torch.linalg.vector_norm(x, 2, (2, 3), True)),
    Case("GlobalLpPool", (Free((3, 2, 4, 5), "away"),), {"p": 1}, torch=lambda x: x.abs().sum((2, 3), True)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


TIES = np.random.default_rng(0).integers(0, 3, (2, 3, 8, 9)).astype(np.float64)


@pytest.mark.parametrize("options", [(3, 2, 1), (2, 2, 0), (3, 1, 1), (3, 3, 0), (4, 3, 2)], ids=str)
def test_ties_go_to_the_first_maximum(options: tuple[int, int, int]) -> None:
    """Few values, so that most windows hold several maxima; negative ones, so that padding must not win."""
    kernel, stride, padding = options
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
    case = Case("MaxPool", (Free((2, 3, 8, 9)),), attributes, torch=lambda x: F.max_pool2d(x, kernel, stride, padding))
    check_at(case, TIES)
    check_at(case, TIES - 5)
    check_at(case, TIES * 0)


def test_ties_in_one_and_three_dimensions() -> None:
    line = Case(
        "MaxPool", (Free((6, 8, 9)),), {"kernel_shape": [4], "strides": [2]}, torch=lambda x: F.max_pool1d(x, 4, 2)
    )
    check_at(line, TIES.reshape(6, 8, 9))
    cube = {"kernel_shape": [2, 3, 3], "strides": [1, 2, 2]}
    check_at(
        Case("MaxPool", (Free((1, 2, 3, 8, 9)),), cube, torch=lambda x: F.max_pool3d(x, (2, 3, 3), (1, 2, 2))),
        TIES[None],
    )


def test_global_ties_go_to_the_first_maximum() -> None:
    check_at(Case("GlobalMaxPool", (Free((2, 3, 8, 9)),), torch=lambda x: F.adaptive_max_pool2d(x, 1)), TIES)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_norms_of_zeros_have_slope_zero(p: int) -> None:
    """torch's own p-norm says so; its lp_pool has NaN there."""
    norm = lambda x: torch.linalg.vector_norm(x, p, (2, 3), True)  # noqa: E731
    check_at(Case("GlobalLpPool", (Free((2, 3, 8, 9)),), {"p": p}, torch=norm), TIES * 0)
    whole = Case("LpPool", (Free((2, 3, 8, 9)),), {"kernel_shape": [8, 9], "p": p}, torch=norm)
    check_at(whole, TIES - 1)
    check_at(whole, TIES * 0)
