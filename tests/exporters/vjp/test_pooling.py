"""Poolings: overlapping, padded, dilated, ceil mode; ties as torch has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from .harness import Case, Free, check, evaluate, forward_model, gradient_model, to_float64

X = Free(("N", 2, 7, 9), "distinct")


def pool(op: str, *shape: int, **attributes: Any) -> Case:
    return Case(op, (Free(("N", *shape), "distinct"),), attributes)


CASES = [
    Case("MaxPool", (X,), {"kernel_shape": [2, 2], "strides": [2, 2]}, torch=lambda x: F.max_pool2d(x, 2)),
    Case("MaxPool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
         torch=lambda x: F.max_pool2d(x, 3, 2, 1)),
    Case("MaxPool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
         torch=lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)),
    Case("MaxPool", (X,), {"kernel_shape": [3, 2], "strides": [1, 1], "dilations": [2, 3]},
         torch=lambda x: F.max_pool2d(x, (3, 2), 1, 0, (2, 3))),
    pool("MaxPool", 2, 7, 9, kernel_shape=[2, 2], strides=[3, 4]),
    pool("MaxPool", 2, 7, 9, kernel_shape=[3, 2], strides=[2, 3], pads=[0, 1, 1, 0]),
    pool("MaxPool", 2, 8, 9, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    pool("MaxPool", 2, 11, kernel_shape=[3], strides=[2]),
    pool("MaxPool", 2, 4, 5, 6, kernel_shape=[2, 3, 2], strides=[2, 1, 2]),
    Case("AveragePool", (X,), {"kernel_shape": [2, 2], "strides": [2, 2]}, torch=lambda x: F.avg_pool2d(x, 2)),
    Case("AveragePool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
         torch=lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    Case("AveragePool", (X,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
         torch=lambda x: F.avg_pool2d(x, 3, 1, 1)),
    Case("AveragePool", (X,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
         torch=lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    pool("AveragePool", 2, 7, 9, kernel_shape=[3, 2], strides=[2, 3], pads=[0, 1, 1, 0], count_include_pad=1),
    pool("AveragePool", 2, 7, 9, kernel_shape=[3, 3], strides=[1, 1], pads=[2, 0, 1, 2]),
    pool("AveragePool", 2, 7, 9, kernel_shape=[2, 2], strides=[3, 4]),
    pool("AveragePool", 2, 8, 9, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    pool("AveragePool", 2, 8, 9, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER", count_include_pad=1),
    pool("AveragePool", 2, 8, 9, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    pool("AveragePool", 2, 11, kernel_shape=[3], strides=[2]),
    pool("AveragePool", 2, 4, 5, 6, kernel_shape=[2, 3, 2], strides=[2, 1, 2]),
    pool("AveragePool", 2, 7, 9, kernel_shape=[7, 9]),
    Case("GlobalAveragePool", (X,), torch=lambda x: x.mean(dim=(2, 3), keepdim=True)),
    Case("GlobalMaxPool", (X,), torch=lambda x: F.adaptive_max_pool2d(x, 1)),
    Case("GlobalMaxPool", (Free(("N", 3, 7), "distinct"),), torch=lambda x: F.adaptive_max_pool1d(x, 1)),
    Case("LpPool", (X,), {"kernel_shape": [2, 3], "strides": [2, 1]}),
    Case("LpPool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "p": 3, "pads": [1, 1, 1, 1]}),
    Case("LpPool", (Free(("N", 2, 6, 6), "away"),), {"kernel_shape": [2, 2], "p": 1}),
    Case("GlobalLpPool", (X,), {"p": 3}, reason="OpenVINO wants a fixed batch"),
    Case("GlobalLpPool", (X,), reason="OpenVINO wants a fixed batch"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("options", [(3, 2, 1), (2, 2, 0), (3, 1, 1), (3, 3, 0)])
def test_ties_go_to_the_first_maximum(options: tuple[int, int, int]) -> None:
    """Exactly as torch: few values, so that most windows hold several maxima."""
    kernel, stride, padding = options
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
    case = Case("MaxPool", (Free((2, 3, 8, 9)),), attributes)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (2, 3, 8, 9)).astype(np.float64)
    leaf = torch.from_numpy(x).requires_grad_()
    y = F.max_pool2d(leaf, kernel, stride, padding)
    dy = rng.standard_normal(tuple(y.shape))
    y.backward(torch.from_numpy(dy))  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    dx = evaluate(to_float64(gradient_model(forward_model(case), "x0")), {"x0": x, "dy": dy}, "dx")
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=0, atol=1e-12)


def test_global_ties_go_to_the_first_maximum() -> None:
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 4, 5)).astype(np.float64)
    leaf = torch.from_numpy(x).requires_grad_()
    F.adaptive_max_pool2d(leaf, 1).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    model = to_float64(gradient_model(forward_model(Case("GlobalMaxPool", (Free((2, 3, 4, 5)),))), "x0"))
    np.testing.assert_array_equal(evaluate(model, {"x0": x, "dy": np.ones((2, 3, 1, 1))}, "dx"), leaf.grad.numpy())
