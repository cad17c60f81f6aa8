"""A map that is the same everywhere says why, for regions and similarities as for classes: each reason is built into a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from xai_exporters import Request, export

from xai_deploy import Explainer, Like, Region
from xai_deploy.constant_maps import INACTIVE, INDEPENDENT, NEGATIVE, SATURATED

from ...exporters.running import both_ways
from .nets import SIZE, images


class Built(nn.Module):
    """relu(conv), then scores at each position or an embedding; the reason for a map of zeros is built in."""

    def __init__(self, reason: str, dense: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.last = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 4, 1)
        self.reason, self.dense = reason, dense
        with torch.no_grad():
            self.last.weight.copy_(self.last.weight.abs())
            nn.init.ones_(self.last.bias).mul_(torch.tensor([0.4, 0.3, 0.2, 0.1]))  # type: ignore[arg-type]
            self.first.bias.fill_(-1e6 if reason == INACTIVE else 0.1)  # type: ignore[union-attr]
            self.first.weight.copy_(self.first.weight.abs())
            if reason == NEGATIVE:
                self.last.weight.mul_(torch.tensor([-1.0, 1, 1, 1])[:, None, None, None])
            if reason == INDEPENDENT:
                self.last.weight.mul_(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(torch.relu(self.first(x)))
        if not self.dense:
            y = y.mean((2, 3))
        if self.reason == SATURATED:
            y = torch.clamp(y * 1e4, 0, 6)
        return Tensor(y if self.dense else y / y.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("dense", [True, False], ids=["region", "similarity"])
@pytest.mark.parametrize(
    "reason", [INACTIVE, INDEPENDENT, SATURATED, NEGATIVE], ids=lambda reason: reason.split(":")[0]
)
def test_reasons(tmp_path: Path, reason: str, dense: bool) -> None:
    onnx.save(both_ways(Built(reason, dense), False, (3, *SIZE)), tmp_path / "net.onnx")
    done = export(Request(tmp_path / "net.onnx", "/Relu_output_0", tmp_path / "net.xai", preprocess="none"))
    # an embedding at one end of a clip moves to zeros only, which have no direction: 0/0
    if reason == INDEPENDENT or (reason == SATURATED and dense):
        assert set(done.dead.values()) == {reason}
    other = torch.tensor([1.0, 0, 0, 0]).numpy()
    target: Any = Region(0, (2, 3, 9, 8)) if dense else Like(other)
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(tmp_path / "net.xai", backend)
        got = explainer.explain(images(2), "grad-cam", target)
        assert not got.raw.any()
        assert got.constant == (reason, reason), backend
