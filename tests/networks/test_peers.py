"""The maps of pytorch-grad-cam, the reference that most people have, before its own resizing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from xai_exporters import Request, export

from xai_deploy import Explainer

from .oracle import calibrate, randomise

peer = pytest.importorskip("pytorch_grad_cam")

PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "grad-cam": ("GradCAM", {}),
    "grad-cam++": ("GradCAMPlusPlus", {"eps": 1e-6}),
    "xgrad-cam": ("XGradCAM", {"eps": 1e-7}),
    "hires-cam": ("HiResCAM", {}),
    "layer-cam": ("LayerCAM", {}),
}
CASES = ["resnet18:layer4", "resnet18:layer2", "mobilenet_v2:features"]


@pytest.mark.parametrize("case", CASES)
def test_maps_are_pytorch_grad_cams(case: str, tmp_path: Path) -> None:
    name, _, layer = case.partition(":")
    torch.manual_seed(0)
    network = randomise(torchvision.models.get_model(name, weights=None))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    calibrate(network, x)
    torch.save(network.state_dict(), tmp_path / f"{name}.pt")
    done = export(Request(tmp_path / f"{name}.pt", layer, tmp_path / "net.xai", input_shape=(3, 64, 64)))
    with torch.no_grad():
        targets = network(x).argmax(1).tolist()
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    for method, (peers_name, options) in PEERS.items():
        with getattr(peer, peers_name)(model=network, target_layers=[network.get_submodule(layer)]) as cam:
            raw: list[Any] = []
            weighted = cam.get_cam_image

            def keep(*arguments: Any, _weighted: Any = weighted, _raw: list[Any] = raw, **named: Any) -> Any:
                image = _weighted(*arguments, **named)
                _raw.append(np.maximum(image, 0))  # as its compute_cam_per_layer does next
                return image

            cam.get_cam_image = keep
            cam(input_tensor=x, targets=[ClassifierOutputTarget(t) for t in targets])
        [wanted] = raw
        for backend in ("onnxruntime", "openvino"):
            got = Explainer(done.path, backend).explain(x.numpy(), method, targets, **options).raw
            assert got.shape == wanted.shape
            assert wanted.any()
            for mine, theirs in zip(got, wanted, strict=True):
                assert np.abs(mine - theirs).max() <= 1e-4 * np.abs(wanted).max(), (method, backend)
