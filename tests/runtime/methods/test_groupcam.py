"""Group-CAM: against the authors' code (wofmanaf/Group-CAM, cam/groupcam.py), written again in torch, float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.errors import OptionError
from xai_deploy.methods import create
from xai_deploy.methods.groupcam import _blurred

from .. import tiny
from ..conftest import Bundles
from .test_gradient_methods import gradient, one_hot
from .test_methods import counting


def blur(x: torch.Tensor, width: int, sigma: float) -> torch.Tensor:
    """kornia's gaussian_blur2d with its border, "reflect": [n,C,H,W]."""
    place = torch.arange(width, dtype=x.dtype) - width // 2
    taps = torch.exp(-(place**2) / (2 * sigma**2))
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    padded = torch.nn.functional.pad(x, [width // 2] * 4, mode="reflect")
    return torch.nn.functional.conv2d(padded, kernel.expand(x.shape[1], 1, width, width), groups=x.shape[1])


def authors(net: tiny.Tiny, x: NDArray[Any], seed: NDArray[Any], groups: int, score: str) -> NDArray[Any]:
    """Images [n,3,h,w] and seeds [n,classes] -> maps [n,H,W] before their last min-max."""

    def f(images: torch.Tensor, weights: NDArray[Any]) -> torch.Tensor:
        given = np.rint(images.numpy()) if net.kind == "uint8" else images.numpy()
        logits = net.logits(np.moveaxis(given, 1, -1) if net.kind == "nhwc" else given)
        return (logits.softmax(1) if score == "softmax" else logits) @ torch.from_numpy(weights)

    maps = []
    a, g = gradient(net, np.moveaxis(x, 1, -1) if net.kind == "nhwc" else x, seed)
    for i in range(len(x)):
        image = torch.from_numpy(x[i : i + 1]).double()
        weighted = torch.from_numpy(a[i] * g[i].mean(axis=(1, 2), keepdims=True))[None]
        saliency = torch.cat([part.sum(1, keepdim=True) for part in weighted.chunk(groups, 1)])
        saliency = saliency.relu()
        saliency = saliency[saliency.amax((1, 2, 3)) > saliency.amin((1, 2, 3))]  # theirs is NaN then
        saliency = torch.nn.functional.interpolate(saliency, size=x.shape[2:], mode="bilinear", align_corners=False)
        low, high = saliency.amin((2, 3), keepdim=True), saliency.amax((2, 3), keepdim=True)
        masks = (saliency - low) / (high - low)
        blurred = blur(image, 9, 3.0)
        mixed = image * masks + blurred * (1 - masks)
        gain = (f(mixed, seed[i]) - f(blurred, seed[i])).relu()
        maps.append((gain[:, None, None] * saliency[:, 0]).sum(0).numpy())
    return np.stack(maps)


@pytest.mark.parametrize("kind", ["pooled", "residual", "nhwc", "uint8"])
@pytest.mark.parametrize("count", [1, 3])
def test_authors_code(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, count)
    planes = np.moveaxis(x, -1, 1) if kind in ("nhwc", "uint8") else x
    tolerance = 2e-3 if kind == "uint8" else 1e-4  # float32 rounds a few pixels to the other side
    explainer = Explainer(net.path, backend, batch_size=2)
    targets: list[Any] = [[3, 1, 0][:count], "0 vs 2"]
    seeds = [one_hot([3, 1, 0][:count]), one_hot([0] * count) - one_hot([2] * count)]
    for groups, score in ((4, "softmax"), (6, "logit"), (1, "logit")):  # of 6 channels: 3 groups of 2, 6 of 1, 1 of 6
        spec: Any = ("group-cam", {"groups": groups, "width": 9, "sigma": 3.0, "score": score})
        found = explainer.explain_many(x, [spec], targets)
        for e, seed in zip(found, seeds, strict=True):
            wanted = authors(net, planes, seed, groups, score)
            np.testing.assert_allclose(e.raw, wanted, rtol=0, atol=tolerance * np.abs(wanted).max() + 1e-7)
        assert groups == 1 or any(e.raw.any() for e in found)


def test_blur_is_torchs(backend: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 12, 30)).astype(np.float32)
    wanted = blur(torch.from_numpy(x).double(), 21, 50.0).numpy()
    np.testing.assert_allclose(_blurred(x, 21, 50.0), wanted, atol=1e-6)
    assert _blurred(np.ones((1, 1, 3, 4, 5), np.float32), 51, 50.0) == pytest.approx(
        1
    )  # volumes, smaller than the window


def test_other_inputs_and_runs(bundles: Bundles) -> None:
    """8-bit images; one run for the blurred image and one for each group that varies."""
    net, x = bundles("uint8", gradients=True), tiny.inputs("uint8", 2)
    explainer = Explainer(net.path, "onnxruntime")
    head = counting(explainer, "head")
    e = explainer.explain(x, "group-cam", 1, groups=6, width=9, sigma=3.0)
    assert e.raw.shape == (2, tiny.HEIGHT, tiny.WIDTH)
    assert sum(head.batches) <= 2 + 2 * 7
    a, g = gradient(net, np.moveaxis(x, -1, 1), one_hot([1, 1]))
    live = (np.ptp(a * np.maximum(g.mean(axis=(2, 3), keepdims=True), 0), axis=(2, 3)) > 0).sum()
    assert sum(head.batches) == 2 + 2 + live


@pytest.mark.parametrize("options", [{"width": 4}, {"width": -1}, {"sigma": 0.0}], ids=str)
def test_refusals(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="group-cam: width is an odd number of pixels, sigma is above 0"):
        create("group-cam", options)
    with pytest.raises(OptionError, match="group-cam: groups are at least 1, not 0"):
        create("group-cam", {"groups": 0})
