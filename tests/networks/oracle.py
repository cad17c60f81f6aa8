"""The methods written straight from their formulas, in torch and float64, on the live network.

The target layer is read and replaced by forward hooks, so nothing here shares code, graphs or cuts with the product: masked
activations run through the rest of the live network, whatever stands beside the layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Raw = NDArray[np.float64]
CHUNK = 32


class Oracle:
    """A live network with a target layer. Images are float64 [N,C,H,W].

    Score-CAM's hundreds of full passes run in float32, where torch differs from float64 by 1e-6 at most.
    """

    def __init__(self, network: torch.nn.Module, layer: str) -> None:
        self.network = network.double().eval()
        self.layer: Any = network.get_submodule(layer)

    @torch.no_grad()
    def activation(self, x: torch.Tensor) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        with self._hook(lambda _m, _i, out: seen.append(out.clone())):
            self.network(x)
        return seen[0]

    @torch.no_grad()
    def with_activation(self, x: torch.Tensor, activation: torch.Tensor) -> torch.Tensor:
        """Logits of image x [1,C,H,W] with the layer's output replaced by each of activation [B,K,h,w]."""
        parts = []
        for part in torch.split(activation, CHUNK):
            with self._hook(lambda _m, _i, _o, part=part: part):
                parts.append(self.network(x.expand(len(part), -1, -1, -1)))
        return torch.cat(parts)

    def reciprocam(self, x: torch.Tensor, target: int, score: str, mask: str) -> Raw:
        """y_n = score(tail(M_n * A))_c, position by position, as the loops of the authors' code have it."""
        y = self.masked_logits(x, mask)
        y = y.softmax(1) if score == "softmax" else y
        h, w = self.activation(x).shape[2:]
        result: Raw = y[:, target].reshape(h, w).numpy()
        return result

    @cache  # noqa: B019 - an oracle lives as long as its test module; the rows serve both scores and both runtimes
    def masked_logits(self, x: torch.Tensor, mask: str) -> torch.Tensor:
        """Logits [h*w,classes], one row for each position's mask."""
        [a] = self.activation(x)
        _, h, w = a.shape
        kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=torch.float64) / 16
        masked = torch.zeros(h * w, *a.shape, dtype=torch.float64)
        for i in range(h):
            for j in range(w):
                new = masked[i * w + j]
                if mask == "pixel":
                    new[:, i, j] = a[:, i, j]
                    continue
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        if 0 <= i + di < h and 0 <= j + dj < w:
                            source = a[:, i, j] if mask == "gaussian-centre" else a[:, i + di, j + dj]
                            new[:, i + di, j + dj] = source * kernel[di + 1, dj + 1]
        return self.with_activation(x, masked)

    @cache  # noqa: B019
    @torch.no_grad()
    def scorecam(
        self, x: torch.Tensor, target: int, score: str, baseline: str | None = None, channel_softmax: bool = False
    ) -> Raw:
        """weight_k = f(x * minmax(up(A_k)))_c [- f(0)_c]; ReLU(sum_k weight_k up(A_k))."""
        self.network.float()
        try:
            return self._scorecam(x.float(), target, score, baseline, channel_softmax)
        finally:
            self.network.double()

    def _scorecam(self, x: torch.Tensor, target: int, score: str, baseline: str | None, channel_softmax: bool) -> Raw:
        [a] = self.activation(x)
        up = F.interpolate(a[None], x.shape[2:], mode="bilinear", align_corners=False)[0]
        flat = up.flatten(1)
        low, high = flat.min(1).values, flat.max(1).values
        masks = (up - low[:, None, None]) / torch.where(high > low, high - low, 1)[:, None, None]
        constant = a.flatten(1).max(1).values == a.flatten(1).min(1).values
        masks[constant] = 0
        y = torch.cat([self.network(x * part[:, None]) for part in torch.split(masks, CHUNK)])
        weights = (y.softmax(1) if score == "softmax" else y)[:, target]
        if channel_softmax:
            low_resolution: Raw = torch.relu((weights.softmax(0)[:, None, None] * a).sum(0)).numpy()
            return low_resolution
        if baseline == "zeros":
            zero = self.network(torch.zeros_like(x))
            weights = weights - (zero.softmax(1) if score == "softmax" else zero)[0, target]
        weights = torch.where(constant, 0, weights)
        result: Raw = torch.relu((weights[:, None, None] * up).sum(0)).numpy()
        return result

    def cam(self, x: torch.Tensor, target: int, weight: torch.Tensor, relu: bool) -> Raw:
        """sum_k w_k A_k, weight the classifier's [classes,K]."""
        [a] = self.activation(x)
        raw = (weight[target].double().detach()[:, None, None] * a).sum(0)
        result: Raw = (torch.relu(raw) if relu else raw).numpy()
        return result

    def _hook(self, function: Any) -> Any:
        return _Removing(self.layer.register_forward_hook(function))


class _Removing:
    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def randomise(network: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Give every BatchNorm statistics, scales (one in five negative) and biases that a bug can't hide behind."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    for module in _batch_norms(network):
        assert module.running_mean is not None
        assert module.running_var is not None
        module.weight.data = uniform(module.weight, 0.5, 1.5)
        module.weight.data[::5] *= -1
        module.bias.data = uniform(module.bias, -0.3, 0.3)
        module.running_mean = uniform(module.running_mean, -0.3, 0.3)
        module.running_var = uniform(module.running_var, 0.5, 1.5)
    return network.eval()


@torch.no_grad()
def calibrate(network: torch.nn.Module, x: torch.Tensor) -> None:
    """Scale the classifier so that the logits spread over a few units, as a trained network's do: the untrained ones run
    into hundreds, where a softmax is one and zeros."""
    last = [m for m in network.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))][-1]
    factor = 2 / network(x).std()
    last.weight.mul_(factor)
    if last.bias is not None:
        last.bias.mul_(factor)


def _batch_norms(network: torch.nn.Module) -> Iterator[torch.nn.BatchNorm2d]:
    return (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
