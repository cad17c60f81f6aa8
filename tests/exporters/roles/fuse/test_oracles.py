"""Fused maps against formulas computed on the live torch network, which knows nothing of graphs, bundles or the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.exporters import nets
from tests.exporters.checks import Array
from tests.exporters.running import torch_request
from xai_deploy.format.bundle import SALIENCY

from .harness import IMAGES, ORT, Fused, compare, fuse


@dataclass(frozen=True)
class Live:
    """One image's activation, and what the rest of the network makes of one; the network on images. All float64."""

    x: torch.Tensor
    activation: torch.Tensor
    rest: Callable[[torch.Tensor], torch.Tensor]
    whole: Callable[[torch.Tensor], torch.Tensor]
    target: int

    def gradient(self, at: torch.Tensor, of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        at = at.clone().requires_grad_()
        return torch.autograd.grad(of(at)[:, self.target].sum(), at)[0]

    @property
    def g(self) -> torch.Tensor:
        return self.gradient(self.activation, self.rest)


def relu(maps: torch.Tensor) -> torch.Tensor:
    return torch.relu(maps)


def grad_cam(live: Live) -> torch.Tensor:
    return relu((live.g.mean((2, 3), keepdim=True) * live.activation).sum(1))


def grad_cam_plus_plus(live: Live) -> torch.Tensor:
    """With the authors' alpha, g^2 not cancelled."""
    g, a = live.g, live.activation
    below = 2 * g**2 + a.sum((2, 3), keepdim=True) * g**3
    alpha = torch.where(below != 0, g**2 / torch.where(below != 0, below, torch.ones_like(below)), torch.zeros_like(g))
    return relu(((alpha * relu(g)).sum((2, 3), keepdim=True) * a).sum(1))


def x_grad_cam(live: Live) -> torch.Tensor:
    a = live.activation
    weights = (live.g * a).sum((2, 3), keepdim=True) / a.sum((2, 3), keepdim=True)
    return relu((weights * a).sum(1))


def reciprocam(live: Live) -> torch.Tensor:
    _, _, h, w = live.activation.shape
    maps = torch.zeros(1, h, w, dtype=torch.float64)
    for y in range(h):
        for x in range(w):
            masked = torch.zeros_like(live.activation)
            masked[:, :, y, x] = live.activation[:, :, y, x]
            maps[0, y, x] = live.rest(masked)[0, live.target]
    return maps


def integrated_gradients(live: Live) -> torch.Tensor:
    """From zeros, by the quadrature's 50 points on [-1,1]."""
    total = torch.zeros_like(live.x)
    for point, share in zip(*np.polynomial.legendre.leggauss(50), strict=True):
        total += share / 2 * live.gradient((point + 1) / 2 * live.x, live.whole)
    return (total * live.x).sum(1)


def score_cam(live: Live) -> torch.Tensor:
    up = torch.nn.functional.interpolate(live.activation, live.x.shape[2:], mode="bilinear", align_corners=False)
    low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
    masks = ((up - low) / (high - low))[0]
    weights = torch.cat([live.whole(live.x * mask).softmax(1)[:, live.target] for mask in masks])
    return relu((weights[None, :, None, None] * up).sum(1))


ORACLES: dict[str, Callable[[Live], torch.Tensor]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "hires-cam": lambda live: relu((live.g * live.activation).sum(1)),
    "layer-cam": lambda live: relu((relu(live.g) * live.activation).sum(1)),
    "xgrad-cam": x_grad_cam,
    "gradient": lambda live: live.gradient(live.x, live.whole).abs().amax(1),
    "integrated-gradients": integrated_gradients,
    "reciprocam": reciprocam,
    "score-cam": score_cam,
}


@pytest.fixture(scope="module")
def network() -> nets.Residual:
    net = nets.Residual()
    nets.randomise(net)
    return net.double()


@pytest.fixture(scope="module")
def case(network: nets.Residual, tmp_path_factory: pytest.TempPathFactory) -> Fused:
    folder = tmp_path_factory.mktemp("oracles")
    single = nets.Residual()
    single.load_state_dict(network.state_dict())
    return fuse(torch_request(folder, single, split="layer1", preprocess_fields=IMAGES), *ORACLES)


def live(network: nets.Residual, image: Array, target: int) -> Live:
    def rest(a: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(network.fc(network.layer2(a).mean((2, 3))))

    x = torch.from_numpy(image.astype(np.float64))
    with torch.no_grad():
        activation = network.layer1(network.stem(x))
        chosen = int(network(x).argmax()) if target == -1 else target
    return Live(x, activation, rest, network, chosen)


@pytest.mark.parametrize("name", ORACLES)
def test_formula(case: Fused, network: nets.Residual, name: str) -> None:
    x, targets = case.images(2), (-1, 3)
    raw = [ORACLES[name](live(network, x[i : i + 1], t)).detach().numpy() for i, t in enumerate(targets)]
    for runner, tolerance in ORT.items():
        compare(case.run(name, x, targets, runner)[SALIENCY], np.concatenate(raw), tolerance, epsilon=2.0**-20)
