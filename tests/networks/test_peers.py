"""The maps of pytorch-grad-cam, the reference that most people have, before its own resizing."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from xai_exporters import Request, export

from xai_deploy import Explainer

from ..support import smaller
from .oracle import calibrate, randomise
from .peer_maps import PEERS, peer_map

CASES = ["resnet18:layer4", "resnet18:layer2", "mobilenet_v2:features"]


@pytest.mark.parametrize("case", CASES)
def test_maps_are_pytorch_grad_cams(case: str, tmp_path: Path) -> None:
    name, _, layer = case.partition(":")
    torch.manual_seed(0)
    network = randomise(getattr(smaller, name)())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    calibrate(network, x)
    torch.save(network.state_dict(), tmp_path / f"{name}.pt")
    arch = f"{smaller.__file__}:{name}"
    done = export(
        Request(
            tmp_path / f"{name}.pt",
            layer,
            tmp_path / "net.xai",
            arch=arch,
            input_shape=(3, 64, 64),
            preprocess="assume",
        )
    )
    with torch.no_grad():
        targets = network(x).argmax(1).tolist()
    explainers = [Explainer(done.path, backend) for backend in ("onnxruntime", "openvino")]
    for method, (_, options) in PEERS.items():
        wanted = peer_map(method, network, layer, x, [itemgetter(t) for t in targets])
        for explainer in explainers:
            got = explainer.explain(x.numpy(), method, targets, **options).raw
            assert got.shape == wanted.shape
            assert wanted.any()
            for mine, theirs in zip(got, wanted, strict=True):
                assert np.abs(mine - theirs).max() <= 1e-4 * np.abs(wanted).max(), (method, explainer.backend)
