"""LayerCAM of all levels, against the algorithm of Ultralytics' `class_activation_map` (8.4, utils/plotting.py), written down here.

`scripts/check_detectors` runs the function itself on Ultralytics' networks. Of each prediction and level: relu(sum_k relu(g_k) A_k)
of the map that enters the head, resized, divided by its maximum (at least 1e-7); then the maximum over the levels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from . import nets
from .conftest import Made


def activation_map(own: Made, image: int) -> tuple[torch.Tensor, int]:
    """The map [H,W] of the best row, as for a `conf` that no row reaches, and which row that is."""
    seen: list[torch.Tensor] = []
    handle = own.network.body.register_forward_hook(lambda _module, _given, maps: seen.extend(maps))
    scores = own.network.raw(own.x[image : image + 1].requires_grad_(True))[0]  # [1,C,rows]
    handle.remove()
    best = scores.amax(1)
    cam = torch.zeros(nets.SIZE, dtype=torch.float64)
    for a, g in zip(seen, torch.autograd.grad(best.max(), seen, allow_unused=True), strict=True):
        level = torch.zeros_like(a[:, :1]) if g is None else (g.relu() * a).sum(1, keepdim=True).relu()
        level = F.interpolate(level, size=nets.SIZE, mode="bilinear", align_corners=False)[0, 0]
        cam = torch.maximum(cam, level / level.max().clamp(min=1e-7))
    return cam.detach(), int(best.argmax())


@pytest.mark.parametrize("image", [0, 1, 2])
def test_the_same_map(image: int, made: Callable[[str], Made]) -> None:
    own = made("yolov8")
    wanted, row = activation_map(own, image)
    assert wanted.max() == 1
    for explainer in own.explainers:
        got = explainer.explain(own.images[image : image + 1], "layer-cam", "box 0")
        assert got.rows[0] == (row,)
        assert len(got.layers) == len(nets.STRIDES)
        np.testing.assert_allclose(got.raw[0] / got.raw[0].max(), wanted, atol=1e-3)
