"""Maps of regions by their formulas, on the live network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .nets import SIZE, UNet

CHOSEN = (2, 1, 2)
PLACES = np.zeros((3, *SIZE), bool)
PLACES[0, 5:12, 7:20] = PLACES[1, :4] = PLACES[2, 20:, 30:] = True


def by_torch(network: UNet, x: Tensor, method: str) -> np.ndarray:
    """The maps of `CHOSEN` in `PLACES`, by their formulas on the live network."""
    maps = []
    for index, place, image in zip(CHOSEN, torch.from_numpy(PLACES), x[:, None], strict=True):
        activation, fine = (t.detach() for t in network.features(image))
        if method == "integrated-gradients":
            total = torch.zeros_like(image)
            for node, weight in zip(*np.polynomial.legendre.leggauss(8), strict=True):
                at = ((node + 1) / 2 * image).requires_grad_()
                score = network.dense(*network.features(at))[0, index][place].mean()
                total += weight / 2 * torch.autograd.grad(score, at)[0]
            maps.append((total * image).sum((0, 1)))
            continue
        with torch.no_grad():
            if method == "reciprocam":
                positions = torch.eye(12 * 16).reshape(-1, 1, 12, 16)
                scores = network.dense(activation * positions, fine.expand(12 * 16, -1, -1, -1))
                maps.append(scores[:, index][:, place].mean(1).reshape(12, 16))
                continue
            up = torch.nn.functional.interpolate(activation, SIZE, mode="bilinear", align_corners=False)[0]
            low, high = up.amin((1, 2), keepdim=True), up.amax((1, 2), keepdim=True)
            varies = (activation.amax((2, 3)) > activation.amin((2, 3)))[0]
            masks = ((up - low) / (high - low))[varies]
            shares = network.dense(*network.features(image * masks[:, None])).softmax(1)[:, index][:, place].mean(1)
            maps.append(torch.relu((shares[:, None, None] * up[varies]).sum(0)))
    return np.stack([m.numpy() for m in maps])
