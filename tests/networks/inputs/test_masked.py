"""A mask as a second input, resized to the size of the feature maps that it weighs: only their size comes from the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export

from xai_deploy import Explainer

from ..outputs.nets import grad_cam
from .exported import seeded
from .nets import SIZE, Branch, saved

IMAGES = np.random.default_rng(1).integers(0, 256, (3, *SIZE, 3)).astype(np.uint8)
MASKS = (np.random.default_rng(2).random((3, 1, *SIZE)) > 0.3).astype(np.float32)


class MaskedPooling(nn.Module):
    """The mean of the maps over a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.last = Branch(3), nn.Linear(5, 3)

    def features(self, x: Tensor, mask: Tensor) -> Tensor:
        """The maps inside the mask."""
        maps: Tensor = self.branch(x)
        return maps * self.fitted(mask, maps)

    @staticmethod
    def fitted(mask: Tensor, maps: Tensor) -> Tensor:
        """The mask in the maps' size."""
        return functional.interpolate(mask, size=maps.shape[2:], mode="nearest")

    def scores(self, activation: Tensor, mask: Tensor) -> Tensor:
        """The logits."""
        weights = self.fitted(mask, activation).sum((2, 3))
        return Tensor(self.last(activation.sum((2, 3)) / weights.clamp(min=1)))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """The logits."""
        return self.scores(self.features(x, mask), mask)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_masked_pooling(backend: str, tmp_path: Path) -> None:
    """No layer was found: the mask's size, read from the maps, was taken for a part of the image beside every layer."""
    network = seeded(MaskedPooling)
    file = saved(network, tmp_path / "net.onnx", (torch.rand(2, 3, *SIZE), torch.rand(2, 1, *SIZE)), ("image", "mask"))
    done = export(Request(file, output_path=tmp_path / "net.xai", preprocess="unit", input=("mask=array",)))
    assert done.manifest.is_cut
    x, mask = torch.from_numpy((IMAGES / 255).astype(np.float32).transpose(0, 3, 1, 2)), torch.from_numpy(MASKS)
    got = Explainer(done.path, backend).explain(IMAGES, "grad-cam", 2, inputs={"mask": MASKS})
    np.testing.assert_allclose(got.logits, network(x, mask).detach().numpy(), atol=1e-5)
    want, _ = grad_cam(network.features(x, mask), lambda a: network.scores(a, mask)[:, 2])
    np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
    assert want.any()
