"""FullGrad of films whose frames are images of their own on the way: each frame's biases have their places in the film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export
from xai_exporters.errors import RuleError

from xai_deploy import Explainer
from xai_deploy.preprocess import Prepared

from .nets import CLASSES, noise, saved
from .test_frames import SIZE, Single


class Added(nn.Module):
    """Frames as images with their channels last: a linear layer on them, whose bias is an Add; then a mean over the film."""

    def __init__(self) -> None:
        super().__init__()
        self.of_image, self.point, self.fc = nn.Conv2d(3, 5, 3, 2), nn.Linear(5, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        frames = torch.relu(self.of_image(x.flatten(0, 1))).permute(0, 2, 3, 1)
        frames = torch.relu(self.point(frames)).mean((1, 2))
        return Tensor(self.fc(frames.reshape(x.shape[0], x.shape[1], 6).mean(1)))


class Turned(Single):
    """The frames are put first, before the films: where an image of them belongs is not seen."""

    def features(self, x: Tensor) -> Tensor:
        frames = torch.relu(self.of_image(x.transpose(0, 1).flatten(0, 1)))
        back = frames.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)
        return super(Single, self).features(back.transpose(1, 2))


def psi(values: Tensor, axis: int) -> Tensor:
    """A film's terms with the channels at an axis -> [D,H,W], rescaled over all of it."""
    size = values.abs().movedim(axis, 1)
    size = (size - size.min()) / (size.max() - size.min())
    return functional.interpolate(size, size=SIZE, mode="trilinear").sum(1)[0]


def full_gradient(network: Any, x: Tensor, target: int) -> Tensor:
    """The authors' sum on the live network, of one film; its terms add up to the score, as the paper proves."""
    kept: list[tuple[Tensor, Tensor, int]] = []

    def keep(module: Any, _inputs: Any, y: Tensor) -> None:
        if isinstance(module, nn.BatchNorm3d):
            norm: Any = module
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            kept.append((y, (norm.bias - norm.running_mean * scale)[:, None, None, None], 1))
        elif isinstance(module, nn.Conv2d):
            kept.append((y, module.bias[:, None, None], 2))  # type: ignore[index]
        elif module is getattr(network, "point", None):
            kept.append((y, network.point.bias, 4))

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    at = x.clone().requires_grad_()
    score = network(at)[0, target]
    for handle in handles:
        handle.remove()
    own, *back = torch.autograd.grad(score, [at, *(y for y, _, _ in kept)])
    products = [(own * at, 2)]
    for g, (_, bias, axis) in zip(back, kept, strict=True):
        product = g * bias
        products.append((product if axis == 1 else product[None], axis))  # [D,C,h,w] -> [1,D,C,h,w]
    total = sum((product.sum() for product, _ in products), network.fc.bias[target])
    torch.testing.assert_close(total, score)
    return torch.stack([psi(product.detach(), axis) for product, axis in products]).sum(0)


@pytest.mark.parametrize("made", [Single, Added])
def test_the_map_is_the_authors(made: type[nn.Module], tmp_path: Path) -> None:
    network: Any = made()
    source = saved(network, tmp_path / "net.onnx", (SIZE[0], 3, *SIZE[1:]))
    done = export(
        Request(source, preprocess="unit", full_gradient=True, roles=("network",), output_path=tmp_path / "net.xai")
    )
    x = noise(2, SIZE[0], 3, *SIZE[1:])
    want = [full_gradient(network.double(), torch.from_numpy(one[None]).double(), 2).numpy() for one in x]
    for backend in ("onnxruntime", "openvino"):
        got = Explainer(done.path, backend).explain(Prepared(x), "full-grad", 2).raw
        np.testing.assert_allclose(got, np.stack(want), atol=1e-4 * np.max(want))


def test_frames_that_can_not_be_placed(tmp_path: Path) -> None:
    source = saved(Turned(), tmp_path / "net.onnx", (SIZE[0], 3, *SIZE[1:]))
    request = Request(
        source, preprocess="unit", full_gradient=True, roles=("network",), output_path=tmp_path / "net.xai"
    )
    with pytest.raises(
        RuleError, match=r"FullGrad: the tensor .*, to which a bias is added, has no slices; take another"
    ):
        export(request)
