"""The methods once more, straight from their formulas: torch, float64, one position or channel at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import tiny

KERNEL = [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]]


def network_input(kind: tiny.Kind, x: NDArray[Any]) -> NDArray[Any]:
    """What reaches the network: 8-bit pixels [n,h,w,3] as [n,3,h,w], the rest as it is."""
    return np.moveaxis(x, -1, 1) if kind == "uint8" else x


def reciprocam(net: tiny.Tiny, x: NDArray[Any], target: int, score: str, mask: str) -> NDArray[np.float64]:
    """Raw maps [n,h,w]."""
    activation, side = net.head(x)
    n, channels, h, w = activation.shape
    raw = np.zeros((n, h, w))
    for i in range(n):
        for y in range(h):
            for col in range(w):
                masked = torch.zeros(1, channels, h, w, dtype=torch.float64)
                if mask == "pixel":
                    masked[0, :, y, col] = activation[i, :, y, col]
                else:
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            yy, xx = y + dy, col + dx
                            if 0 <= yy < h and 0 <= xx < w:
                                feature = activation[i, :, yy, xx] if mask == "gaussian" else activation[i, :, y, col]
                                masked[0, :, yy, xx] = KERNEL[dy + 1][dx + 1] * feature
                logits = net.tail(masked, None if side is None else side[i : i + 1])[0]
                raw[i, y, col] = (torch.softmax(logits, 0) if score == "softmax" else logits)[target]
    return raw


def upsample(maps: torch.Tensor) -> torch.Tensor:
    """[K,h,w] -> [K,H,W], bilinear."""
    size = (tiny.HEIGHT, tiny.WIDTH)
    return torch.nn.functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def score_cam(
    net: tiny.Tiny, x: NDArray[Any], score: str, baseline: str | None, channel_softmax: bool
) -> NDArray[np.float64]:
    """Raw maps of all classes [classes,n,H,W], or [classes,n,h,w] with channel_softmax."""

    def f(masked: NDArray[Any]) -> torch.Tensor:
        logits = net.logits(masked[None])[0]
        return torch.softmax(logits, 0) if score == "softmax" else logits

    maps = []
    for i in range(len(x)):
        activation = net.head(x[i : i + 1])[0][0]
        enlarged = upsample(activation)
        weights, summands = [], []
        for k in range(len(activation)):
            low, high = activation[k].min(), activation[k].max()
            constant = bool(low == high)
            if constant and not channel_softmax:
                continue
            up = enlarged[k]
            mask = torch.zeros_like(up) if constant else (up - up.min()) / (up.max() - up.min())
            layered = mask.numpy()[..., None] if net.kind == "nhwc" else mask.numpy()[None]
            masked = x[i] * layered
            if net.kind == "uint8":
                masked = np.rint(masked)
            weights.append(f(masked) - (f(np.zeros_like(masked)) if baseline == "zeros" else 0))
            summands.append(activation[k] if channel_softmax else up)
        weight = torch.stack(weights)  # [K,classes]
        if channel_softmax:
            weight = torch.softmax(weight, 0)
        maps.append(torch.relu(torch.einsum("kc,khw->chw", weight, torch.stack(summands))).numpy())
    return np.stack(maps, axis=1)


def cam(net: tiny.Tiny, x: NDArray[Any], target: int, relu: bool) -> NDArray[np.float64]:
    """Raw maps [n,h,w]."""
    activation, _ = net.head(x)
    weight = torch.from_numpy(tiny.weights()["linear"]).double()[:, target]
    signed = (activation * weight[None, :, None, None]).sum(1)
    return (torch.relu(signed) if relu else signed).numpy()


def heatmap(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n,h,w] -> [n,H,W] in [0,1]."""
    maps = upsample(torch.from_numpy(raw)).numpy()
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.float64] = (maps - low) / (high - low)
    return scaled
