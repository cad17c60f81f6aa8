"""Extremal perturbations: the formulas of the paper on the live torch network, with autograd and torch's SGD."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.errors import OptionError
from xai_deploy.methods.smooth_masks import Fading, SmoothMasks

from .outputs.nets import Embedding, images, saved

STEP, SIGMA = 4, 8


def smooth_maximum(parameters: torch.Tensor, size: tuple[int, int], step: int, sigma: int) -> torch.Tensor:
    """The mask with its margin, pixel by pixel from the definition: a smooth maximum over all nodes near enough.

    Near enough is what the authors' window holds: the nodes of 2 r + 1 cells around the pixel's cell, r = 1 + ceil(sigma / step).
    """
    margin, radius, pad = sigma, 1 + math.ceil(sigma / step), 1 + math.ceil(2 * sigma / step)
    rows, columns = parameters.shape
    high, wide = (step * (math.ceil(n / step) + 2 * pad - 2 * radius - 1) + 1 for n in size)
    y, x = torch.arange(high).double(), torch.arange(wide).double()
    values = []
    for ky in range(2 * radius + 1):
        for kx in range(2 * radius + 1):
            i, j = (y // step).long() + ky - pad, (x // step).long() + kx - pad
            inside = ((i >= 0) & (i < rows))[:, None] & ((j >= 0) & (j < columns))[None]
            at = parameters[i.clamp(0, rows - 1)][:, j.clamp(0, columns - 1)] * inside
            apart = torch.sqrt((y - margin - step * i)[:, None] ** 2 + (x - margin - step * j)[None] ** 2) / sigma
            values.append(at * torch.exp(-2 * (apart - 0.5).clamp(min=0) ** 2))
    v = torch.stack(values)
    return (v * torch.softmax(20 * v, 0)).sum(0)


@pytest.mark.parametrize(("size", "step", "sigma"), [((23, 31), 4, 8), ((17, 16), 5, 5), ((14, 21), 7, 21)])
def test_masks_and_their_gradient(size: tuple[int, int], step: int, sigma: int) -> None:
    masks, rng = SmoothMasks(size, step, sigma), np.random.default_rng(0)
    parameters = rng.random((3, *masks.grid), dtype=np.float32)
    mine, full = masks.masks(parameters)
    assert mine.shape == (3, *size)
    of_masks = rng.standard_normal(mine.shape).astype(np.float32)
    of_full = rng.standard_normal(full.shape).astype(np.float32)
    got = masks.gradient(parameters, of_masks, of_full)
    for i in range(3):
        p = torch.from_numpy(parameters[i]).double().requires_grad_()
        whole = smooth_maximum(p, size, step, sigma)
        part = whole[sigma : sigma + size[0], sigma : sigma + size[1]]
        np.testing.assert_allclose(full[i], whole.detach(), atol=1e-5)
        np.testing.assert_allclose(mine[i], part.detach(), atol=1e-5)
        number = (part * torch.from_numpy(of_masks[i])).sum() + (whole * torch.from_numpy(of_full[i])).sum()
        [want] = torch.autograd.grad(number, p)
        np.testing.assert_allclose(got[i], want, atol=1e-4 * float(want.abs().max()))


def blurred(planes: torch.Tensor, spread: float) -> torch.Tensor:
    """A normalised Gaussian of 4 standard deviations to each side, by torch's convolution, zeros outside."""
    reach = math.ceil(4 * spread)
    if reach == 0:
        return planes
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / spread) ** 2)
    taps /= taps.sum()
    planes = functional.conv2d(planes[:, None], taps.reshape(1, 1, -1, 1), padding=(reach, 0))
    return functional.conv2d(planes, taps.reshape(1, 1, 1, -1), padding=(0, reach))[:, 0]


def faded(planes: torch.Tensor, mask: torch.Tensor, levels: int, blur: float) -> torch.Tensor:
    """Linear interpolation between versions of the image, each blurred less than the one before."""
    versions = torch.stack([blurred(planes, blur * (1 - i / (levels - 1))) for i in range(levels)])
    weights = torch.stack([(1 - (mask * (levels - 1) - i).abs()).clamp(min=0) for i in range(levels)])
    return (weights[:, None] * versions).sum(0)


@pytest.mark.parametrize(("levels", "blur"), [(8, 5.0), (2, 3.0)])
def test_fading_and_its_derivative(levels: int, blur: float) -> None:
    rng = np.random.default_rng(1)
    planes, masks = rng.random((3, 19, 25), dtype=np.float32), rng.random((2, 19, 25), dtype=np.float32)
    images, rise = Fading(planes, levels, blur).images(masks)
    for mask, image, slope in zip(masks, images, rise, strict=True):
        m = torch.from_numpy(mask).double().requires_grad_()
        want = faded(torch.from_numpy(planes).double(), m, levels, blur)
        np.testing.assert_allclose(image, want.detach(), atol=1e-5)
        weights = torch.from_numpy(rng.standard_normal(planes.shape))
        [by_mask] = torch.autograd.grad((want * weights).sum(), m)
        np.testing.assert_allclose((slope * weights.numpy()).sum(0), by_mask, atol=1e-4)
    np.testing.assert_allclose(Fading(planes, levels, blur).images(np.ones((1, 19, 25), np.float32))[0][0], planes)


def reference(
    network: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    seed: torch.Tensor,
    area: float,
    delete: bool,
    steps: int,
) -> NDArray[Any]:
    """Equations 2 and 6 by autograd and torch's SGD; equal values in reading order."""
    size, step, sigma = (x.shape[1], x.shape[2]), STEP, SIGMA
    p = torch.ones(SmoothMasks(size, step, sigma).grid, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([p], lr=0.01, momentum=0.9, dampening=0.9)
    weight = 300.0
    for t in range(steps):
        full = smooth_maximum(p, size, step, sigma)
        mask = full[sigma : sigma + size[0], sigma : sigma + size[1]]
        image = faded(x, 1 - mask if delete else mask, 8, 20.0)
        score = network((image.flip(2) if t % 2 == 0 else image)[None])[0] @ seed
        flat = full.flatten()
        order = torch.sort((flat.detach() / 1e-6).round(), stable=True).indices
        wanted = (torch.arange(len(flat)) >= int(len(flat) * (1 - area))).double()
        energy = (-score if delete else score) - weight * ((flat[order] - wanted) ** 2).mean()
        optimiser.zero_grad()
        (-energy).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            p.clamp_(0, 1)
        weight *= 1.0035
    full = smooth_maximum(p, size, step, sigma)
    return full[sigma : sigma + size[0], sigma : sigma + size[1]].detach().numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    folder, network = tmp_path_factory.mktemp("extremal"), Embedding()
    request = Request(
        saved(network, folder / "net.onnx"), output_path=folder / "net.xai", preprocess="none",
        roles=("network", "input-gradient"),
    )  # fmt: skip
    return network.double(), export(request).path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("variant", ["preserve", "delete"])
def test_the_masks_are_the_papers(made: tuple[torch.nn.Module, Path], backend: str, variant: str) -> None:
    network, bundle = made
    explainer = Explainer(bundle, backend, batch_size=2)  # three rows: more than one batch
    options = {"iterations": 12, "area": 0.2, "step": STEP, "sigma": SIGMA, "variant": variant}
    for count, target, seed in ((1, 2, [0, 0, 1, 0, 0, 0]), (3, "4 vs 1", [0, -1, 0, 0, 1, 0])):
        x = images(count) * 3
        got = explainer.explain(x, "extremal-perturbation", target, **options)
        np.testing.assert_allclose(got.diagnostics["area"], got.raw.mean(axis=(1, 2)), rtol=1e-5)
        for i in range(count):
            args = torch.from_numpy(x[i]).double(), torch.tensor(seed).double(), 0.2, variant == "delete", 12
            np.testing.assert_allclose(got.raw[i], reference(network, *args), atol=1e-3)
            mask = torch.from_numpy(1 - got.raw[i] if variant == "delete" else got.raw[i]).double()
            score = network(faded(args[0], mask, 8, 20.0)[None])[0] @ args[1]
            np.testing.assert_allclose(got.diagnostics["score"][i], score.item(), rtol=1e-4, atol=1e-5)
    assert got.raw.std() > 0.05  # the masks have moved


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": 1.0}, "area is between 0 and 1, not 1.0"),
        ({"iterations": 0}, "iterations, step and sigma are at least 1"),
        ({"step": 6}, "sigma is a multiple of step, not 21 for 6"),
    ],
)
def test_bad_options(made: tuple[torch.nn.Module, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"extremal-perturbation: {message}"):
        Explainer(made[1]).explain(images(1), "extremal-perturbation", 0, **options)
