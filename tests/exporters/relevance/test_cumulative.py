"""Cumulative sums, cumulative products and affine grids: `cumulative.py`, against loops and dense matrices."""

import numpy as np
import pytest
import torch
from onnx import helper

from .running import Relevance
from .test_poolings import IMAGE, agree, draw, net, node


def test_zero_rule() -> None:
    x, r = np.abs(draw(3, *IMAGE[1:])) + 0.1, draw(3, *IMAGE[1:], seed=1)  # type: ignore[arg-type]
    w = np.tril(np.ones((4, 4)))  # y = W x
    agree(Relevance(net(node("CumSum", "x axis"), axis=np.array(-1))), {"x": x, "r": r}, x=x * ((r / (x @ w.T)) @ w))


@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_products_share_equally(exclusive: int, reverse: int) -> None:
    """Each factor of a product takes R / n, factor by factor; a product of none has nobody to give it to."""
    x, r = draw(3, *IMAGE[1:]), draw(3, *IMAGE[1:], seed=1)  # type: ignore[arg-type]
    want, size = np.zeros_like(x), x.shape[2]
    for j in range(size):
        before = range(j + 1 - exclusive) if not reverse else range(j + exclusive, size)
        for i in before:
            want[:, :, i] += r[:, :, j] / len(before)
    model = net(node("CumProd", "x axis", exclusive=exclusive, reverse=reverse), axis=np.array(2))
    model.opset_import[0].version = 26
    model.ir_version = 13
    agree(Relevance(model, skip=["openvino"]), {"x": x, "r": r}, x=want)  # it has no such operator


@pytest.mark.parametrize("aligned", [0, 1])
def test_affine_grids(aligned: int) -> None:
    """theta w R / y, by the matrix that torch's affine_grid stands for."""
    theta, r = draw(3, 2, 3), draw(3, 4, 5, 2, seed=1)
    units = torch.eye(6, dtype=torch.float64).reshape(6, 2, 3)
    w = torch.nn.functional.affine_grid(units, [6, 1, 4, 5], bool(aligned)).numpy().reshape(6, -1)
    flat = theta.reshape(3, 6)
    want = flat * ((r.reshape(3, -1) / (flat @ w)) @ w.T)
    size = np.array([3, 1, 4, 5])
    model = net(node("AffineGrid", "x size", align_corners=aligned), inputs={"x": [3, 2, 3]}, size=size)
    model.opset_import[0].CopyFrom(helper.make_opsetid("", 20))
    agree(Relevance(model), {"x": theta, "r": r}, x=want.reshape(theta.shape))
