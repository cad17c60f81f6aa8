"""torchvision's segmenters: pytorch-grad-cam's maps for a region, and autograd's score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import segmentation
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.fcn import FCN, FCNHead
from xai_exporters import Request, export

from xai_deploy import Explainer, Region

from ...exporters.running import both_ways
from ..oracle import calibrate, randomise
from ..peer_maps import PEERS, peer_map

SIZE = (65, 97)
MASK = np.zeros(SIZE, bool)
MASK[11:40, 20:71] = True


def fcn() -> nn.Module:
    """FCN as torchvision builds it, on the smallest of its ResNets."""
    made: nn.Module = FCN(IntermediateLayerGetter(torchvision.models.resnet18(), {"layer4": "out"}), FCNHead(512, 21))
    return made


MADE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "fcn": (fcn, "backbone.layer4"),
    "deeplabv3": (
        lambda: segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None),
        "backbone.16",
    ),
    "lraspp": (lambda: segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), "backbone.16"),
}


class Scores(nn.Module):
    """The segmenter's scores, without the dictionary around them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """[N,21,H,W]."""
        return Tensor(self.network(x)["out"])


@pytest.mark.parametrize("name", MADE)
def test_a_region_of_torchvisions_segmenters(name: str, tmp_path: Path) -> None:
    make, layer = MADE[name]
    torch.manual_seed(0)
    network = Scores(randomise(make())).eval()
    x = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    calibrate(network, x)
    onnx.save(both_ways(network, False, (3, *SIZE)), tmp_path / "net.onnx")
    split, roles = f"network.{layer}", ("gradient",)
    done = export(Request(tmp_path / "net.onnx", split, tmp_path / "net.xai", preprocess="none", roles=roles))
    with torch.no_grad():
        score = network(x)[:, 7][:, torch.from_numpy(MASK)].mean(1).numpy()

    def target(scores: Tensor) -> Tensor:  # pytorch-grad-cam's SemanticSegmentationTarget sums; its mean is ours
        return scores[7][torch.from_numpy(MASK)].mean()

    explainers = [Explainer(done.path, backend) for backend in ("onnxruntime", "openvino")]
    for method, (_, options) in PEERS.items():
        wanted = peer_map(method, network, split, x, [target] * 3)
        for explainer in explainers:
            for rows in (slice(1), slice(3)):
                got: Any = explainer.explain(x[rows].numpy(), method, Region(7, MASK), **options)
                assert wanted.any()
                np.testing.assert_allclose(got.raw, wanted[rows], atol=1e-4 * wanted.max(), err_msg=method)
                np.testing.assert_allclose(got.score, score[rows], rtol=1e-4, atol=1e-4)
