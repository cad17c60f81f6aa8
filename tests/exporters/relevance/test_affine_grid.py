"""Affine grids: `affine_grid.py`, against the dense matrix."""

import numpy as np
import pytest
import torch
from onnx import helper

from .running import Relevance
from .test_poolings import agree, draw, net, node


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
