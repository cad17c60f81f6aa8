"""Maps that hardly vary: stretching them to 0 to 1 must not show the rounding of the sum over the channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.preprocess import Prepared

from ..exporters.nets import randomise
from ..exporters.running import both_ways
from .outputs.nets import fused

CHANNELS, SHAPE = 768, (3, 8, 8)
METHODS = ("grad-cam", "xgrad-cam")


class Offset(nn.Module):
    """A layer whose channels vary little beside their size, then pooling and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Conv2d(3, CHANNELS, 1), nn.Linear(CHANNELS, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(self.last(self.layer(x).mean((2, 3))))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Offset, Path]:
    folder, network = tmp_path_factory.mktemp("flat"), Offset()
    randomise(network, 3)
    with torch.no_grad():
        network.layer.weight.mul_(2)
        network.layer.bias = nn.Parameter(20 + torch.rand(CHANNELS, generator=torch.Generator().manual_seed(1)))
        network.last.weight.add_(0.1)  # the scores, and so the maps, are above 0
    onnx.save(both_ways(network, False, SHAPE), folder / "net.onnx")
    done = export(Request(folder / "net.onnx", "layer", folder / "net.xai", preprocess="unit", fuse=METHODS))
    return network.double(), done.path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("method", METHODS)
def test_the_rounding_of_the_sum_is_not_seen(method: str, backend: str, made: tuple[Offset, Path]) -> None:
    network, path = made
    x = np.random.default_rng(1).random((1, *SHAPE)).astype(np.float32)
    a = network.layer(torch.from_numpy(x).double()).detach().numpy()
    # after pooling and one linear layer both methods weight the channels by the class's row of the weight
    want = np.einsum("k,nkhw->nhw", network.last.weight[2].detach().numpy(), a)
    assert want.min() > 100 * np.ptp(want)
    want = (want - want.min()) / np.ptp(want)
    raw = Explainer(path, backend).explain(Prepared(x), method, 2).raw.astype(np.float64)
    assert np.abs((raw - raw.min()) / np.ptp(raw) - want).max() < 1e-4
    got = fused(path / f"fused-{method}.onnx", {"image": x, "target": np.array([2])}, backend)
    assert np.abs(got - want).max() < 1e-4
