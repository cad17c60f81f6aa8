"""The metrics' ingredients once more, one image and one pixel at a time, in float64; shares no code with the product."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter  # type: ignore[import-untyped]

from xai_deploy import Explainer

Floats = NDArray[np.float64]


class Linear:
    """The network of `linear.network`, on one input in its own layout.

    Args:
        weight: [classes,C,H,W].
        bias: [classes].
        explainer: Of which layout, dtype and activation are read.
    """

    def __init__(self, weight: Any, bias: Any, explainer: Explainer) -> None:
        manifest = explainer.bundle.manifest
        self.weight = np.asarray(weight, np.float32).astype(np.float64)
        self.bias = np.asarray(bias, np.float32).astype(np.float64)
        self.last = manifest.input.layout == "NHWC"
        self.dtype = np.dtype(manifest.input.dtype)
        self.sigmoid = manifest.activation == "sigmoid"
        self.mean, self.std = manifest.input.preprocess.mean, manifest.input.preprocess.std

    def planes(self, x: NDArray[Any]) -> Floats:
        """[C,H,W] of one input."""
        return np.moveaxis(x, -1, 0).astype(np.float64) if self.last else x.astype(np.float64)

    def seen(self, planes: Floats) -> Floats:
        """What the network gets of planes [C,H,W] that were worked on: rounded to its own type."""
        if self.dtype == np.uint8:
            planes = np.minimum(np.maximum(np.rint(planes), 0), 255)
        return planes.astype(self.dtype).astype(np.float64)

    def p(self, planes: Floats, target: int) -> float:
        """The probability of the class."""
        logits = [math.fsum((w * self.seen(planes)).ravel()) + b for w, b in zip(self.weight, self.bias, strict=True)]
        if self.sigmoid:
            return 1 / (1 + math.exp(-logits[target]))
        return 1 / math.fsum(math.exp(logit - logits[target]) for logit in logits)

    def masked(self, x: NDArray[Any], heat: NDArray[Any], how: str) -> Floats:
        """x * map, or the image itself times it, preprocessed again: [C,H,W]."""
        planes, share = self.planes(x), heat.astype(np.float64)
        if how == "input":
            return planes * share
        images = [plane * s + m for plane, m, s in zip(planes, self.mean, self.std, strict=True)]
        return np.stack([(image * share - m) / s for image, m, s in zip(images, self.mean, self.std, strict=True)])

    def empty(self, x: NDArray[Any], baseline: str) -> Floats:
        """What stands where a pixel is not, [C,H,W]."""
        planes = self.planes(x)
        if baseline == "zeros":
            return np.zeros_like(planes)
        if baseline == "black":
            return np.stack([np.full(planes.shape[1:], -m / s) for m, s in zip(self.mean, self.std, strict=True)])
        if baseline == "mean":
            return np.stack([np.full_like(plane, math.fsum(plane.ravel()) / plane.size) for plane in planes])
        assert baseline == "blur"
        # eclique/RISE, evaluation.py, gkern(11, 5) and conv2d with padding 5, commit fac5d54
        delta = np.zeros((11, 11))
        delta[5, 5] = 1
        kernel = gaussian_filter(delta, 5)
        return np.stack([convolve(plane, kernel, mode="constant") for plane in planes])


def curve(
    net: Linear, x: NDArray[Any], heat: NDArray[Any], target: int, steps: int, baseline: str, inserting: bool
) -> float:
    """eclique/RISE, evaluation.py, CausalMetric.single_run and auc: one pixel after the other, where steps divide them."""
    pixels, empty = net.seen(net.planes(x)), net.empty(x, baseline)
    start, finish = (empty.copy(), pixels) if inserting else (pixels.copy(), empty)
    order = sorted(range(heat.size), key=lambda at: (-float(heat.flat[at]), at))
    assert heat.size % steps == 0
    step = heat.size // steps
    scores = []
    for i in range(steps + 1):
        scores.append(net.p(start, target))
        for at in order[step * i : step * (i + 1)]:
            row, column = divmod(at, heat.shape[1])
            start[:, row, column] = finish[:, row, column]
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)
