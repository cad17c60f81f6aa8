"""Classifiers of volumes: every map is that of autograd, or of its formula, on the live network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export
from xai_exporters.cli import main
from xai_exporters.errors import RequestError

from xai_deploy import Explainer, Not
from xai_deploy.errors import NotApplicableError
from xai_deploy.methods.method import create
from xai_deploy.preprocess import Prepared

from ...exporters.running import HEAD_AND_TAIL
from ...few import few
from .exported import Exported, Maps
from .nets import SIZE, TARGETS, Chain, Dense, ResNet, noise, saved, worst

BACKENDS = ["onnxruntime", "openvino"]


def images(net: Exported, count: int) -> Maps:
    return noise(count, *((*SIZE, 3) if net.network.last else (3, *SIZE)))


def gradients(net: Exported, x: Maps, targets: list[int]) -> tuple[Maps, Maps, Maps]:
    """The activation, and the gradients of the targets' logits there and at the input, by autograd."""
    at = torch.from_numpy(x).requires_grad_()
    activation = net.network.features(at)
    rows = net.network.logits(activation)[range(len(x)), targets]
    g, own = torch.autograd.grad(rows.sum(), [activation, at])
    return activation.detach().numpy(), g.numpy(), own.numpy()


def relu(a: Maps) -> Maps:
    return np.maximum(a, 0)


def by_formula(a: Maps, g: Maps) -> dict[str, Maps]:
    """The gradient methods, over the axes 2, 3 and 4."""
    over: Any = {"axis": (2, 3, 4), "keepdims": True}
    total = a.sum(**over)
    alpha = 1 / (2 + total * g)  # nowhere 0 here
    return {
        "grad-cam": relu((g.mean(**over) * a).sum(1)),
        "grad-cam++": relu(((alpha * relu(g)).sum(**over) * a).sum(1)),
        "xgrad-cam": relu(((g * a).sum(**over) / np.where(total == 0, np.inf, total) * a).sum(1)),
        "layer-cam": relu((relu(g) * a).sum(1)),
        "hires-cam": relu((g * a).sum(1)),
    }


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(resnet: Exported, backend: str, count: int) -> None:
    x = images(resnet, count)
    a, g, own = gradients(resnet, x, TARGETS[:count])
    for method, want in by_formula(a, g).items():
        assert worst(resnet.explain(backend, x, method, TARGETS[:count]), want) < 1e-4, method
    weight = resnet.network.fc.weight.detach().numpy()[TARGETS[:count]]
    cam = resnet.explain(backend, x, "cam", TARGETS[:count])
    assert worst(cam, relu(np.einsum("nk,nkdhw->ndhw", weight, a))) < 1e-4
    channels = 4 if resnet.network.last else 1
    assert worst(resnet.explain(backend, x, "gradient", TARGETS[:count]), np.abs(own).max(channels)) < 1e-4
    assert worst(resnet.explain(backend, x, "input-x-gradient", TARGETS[:count]), (x * own).sum(channels)) < 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mask", ["pixel", "gaussian", "gaussian-centre"])
def test_one_position_at_a_time(resnet: Exported, backend: str, mask: str) -> None:
    """ReciproCAM: every position masked by itself, on the live network; with probabilities, and with logits, which need no run."""
    x = images(resnet, 2)
    activation = resnet.network.features(torch.from_numpy(x)).detach()
    places = list(np.ndindex(3, 5, 6))
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    rows = []
    for place in places:
        near = torch.zeros(5, 7, 8)
        if mask == "pixel":
            near[tuple(i + 1 for i in place)] = 1
        else:
            z, y, w = place
            near[z : z + 3, y : y + 3, w : w + 3] = torch.einsum("i,j,k->ijk", kernel, kernel, kernel)
        near = near[1:-1, 1:-1, 1:-1]
        own = activation[(..., *place)][..., None, None, None] if mask == "gaussian-centre" else activation
        rows.append(resnet.network.logits(own * near))
    logits = torch.stack(rows, 1).detach()  # [n,positions,classes]
    for score, values in (("logit", logits), ("softmax", logits.softmax(2))):
        want = values[[0, 1], :, TARGETS[:2]].reshape(2, 3, 5, 6).numpy()
        got = resnet.explain(backend, x, "reciprocam", TARGETS[:2], mask=mask, score=score)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.ptp(want))


@pytest.mark.parametrize("backend", BACKENDS)
def test_masked_volumes(resnet: Exported, backend: str) -> None:
    """Score-CAM's masks are resized trilinearly, RISE's drawn along three axes."""
    x = images(resnet, 2)
    given = torch.from_numpy(x)

    @torch.no_grad()
    def shares(masks: Tensor) -> Tensor:
        """The targets' probabilities under masks [n,D,H,W]."""
        masks = masks[..., None] if resnet.network.last else masks[:, None]
        y: Tensor = resnet.network(given * masks).softmax(1)
        return y[[0, 1], TARGETS[:2]]

    activation = resnet.network.features(given).detach()
    up = functional.interpolate(activation, size=SIZE, mode="trilinear", align_corners=False)
    low, high = up.amin((2, 3, 4), keepdim=True), up.amax((2, 3, 4), keepdim=True)
    weights = torch.stack([shares(mask) for mask in ((up - low) / (high - low)).unbind(1)], 1)
    want = torch.relu((weights[..., None, None, None] * up).sum(1)).numpy()
    assert worst(resnet.explain(backend, x, "score-cam", TARGETS[:2]), want) < 1e-4

    rng, method = np.random.default_rng(0), create("rise", {"masks": 12, "cells": 3})
    masks = np.stack([method._mask(rng, *SIZE) for _ in range(12)])  # type: ignore[attr-defined]
    assert masks.shape[1:] == SIZE
    assert all(np.ptp(masks, axis=axis).max() > 0.5 for axis in (1, 2, 3))
    rows = np.stack([shares(torch.from_numpy(mask).expand(2, *SIZE)).numpy() for mask in masks])
    want = np.einsum("mn,mdhw->ndhw", rows, masks) / (12 * 0.5)
    assert worst(resnet.explain(backend, x, "rise", TARGETS[:2], masks=12, cells=3), want) < 1e-4


def test_every_method_runs(resnet: Exported) -> None:
    explainer, x = Explainer(resnet.path), images(resnet, 1)
    assert {"extremal-perturbation", "meaningful-perturbation"}.isdisjoint(explainer.methods())
    with pytest.raises(NotApplicableError, match="its masks are those of images, and the network takes volumes"):
        explainer.explain(Prepared(x), "extremal-perturbation", 2)
    for method in set(explainer.methods()) - {"rise", "score-cam", "lime", "kernel-shap"}:
        got = explainer.explain(Prepared(x), method, Not(2), **few(method))
        assert got.heatmap.shape == (1, *SIZE)
        assert got.raw.shape in ((1, *SIZE), (1, 3, 5, 6))


@torch.no_grad()
def shared(x: Tensor, layer: nn.Conv3d, r: Tensor) -> Tensor:
    """z+ by autograd: the terms x+ W+ and x- W- over their sum (Bach et al. 2015, equation 60; alpha 1, beta 0); epsilon 1e-6."""
    parts = []
    for sign in (1, -1):
        part = (sign * x).clamp(min=0).mul(sign)
        weight = (sign * layer.weight).clamp(min=0).mul(sign)
        parts.append((part, weight))

    def applied(v: Tensor, w: Tensor) -> Tensor:
        return functional.conv3d(v, w, None, layer.stride, layer.padding)

    share = r / (torch.stack([applied(v, w) for v, w in parts]).sum(0) + 1e-6)
    result = torch.zeros_like(x)
    for v, w in parts:
        with torch.enable_grad():
            at = v.clone().requires_grad_()
            [back] = torch.autograd.grad((applied(at, w) * share).sum(), at)
        result += v * back
    return result


def test_relevance(tmp_path: Path) -> None:
    """z+ for convolutions, epsilon for the rest, layer by layer; and the zero rule, which is the input times its gradient."""
    network = Chain()
    source = saved(network, tmp_path / "chain.onnx", (3, *SIZE))
    (tmp_path / "zero.toml").write_text(
        'base = "none"\n[ops]\n' + "".join(f'{op} = "zero"\n' for op in ("Conv", "Gemm", "AveragePool", "ReduceMean"))
    )
    composites = ("epsilon-plus", str(tmp_path / "zero.toml"))
    done = export(
        Request(source, preprocess="unit", pixel_relevance=True, composite=composites, output_path=tmp_path / "c.xai")
    )
    x = torch.from_numpy(noise(3, 3, *SIZE))
    at = x.clone().requires_grad_()
    logits = network(at)[range(3), TARGETS]
    [gradient] = torch.autograd.grad(logits.sum(), at)
    product = (x * gradient).sum(1).numpy()

    with torch.no_grad():
        first = torch.relu(network.first(x))
        pooled = network.pool(first)
        second = torch.relu(network.second(pooled))
        mean = second.mean((2, 3, 4))
        r = mean * network.fc.weight[TARGETS]  # epsilon's rule of the linear layer: each term, the sum being the logit
        spread = second / second.sum((2, 3, 4), keepdim=True).clamp(min=1e-30) * r[..., None, None, None]
        back = shared(pooled, network.second, spread)
    with torch.enable_grad():  # an average is linear, without a bias: epsilon's rule is the gradient's
        inner = first.clone().requires_grad_()
        out = network.pool(inner)
        [below] = torch.autograd.grad((out * (back / out.detach().clamp(min=1e-30))).sum(), inner)
    want = shared(x, network.first, first * below).sum(1).numpy()
    for backend in BACKENDS:
        explainer = Explainer(done.path, backend)
        got = explainer.explain(Prepared(x.numpy()), "lrp", TARGETS, composite="zero").raw
        assert worst(got, product) < 1e-4
        got = explainer.explain(Prepared(x.numpy()), "lrp", TARGETS, composite="epsilon-plus").raw
        assert worst(got, want) < 1e-4


def test_a_densenet(tmp_path: Path) -> None:
    """OpenVINO computed the gradient of its transition a thousand times too large, in tensors of 8 axes."""
    network, shape = Dense(), (1, 24, 33, 40)
    source = saved(network, tmp_path / "dense.onnx", shape)
    done = export(
        Request(source, preprocess="unit", input_gradient=True, output_path=tmp_path / "dense.xai", roles=HEAD_AND_TAIL)
    )
    assert done.manifest.target.shape == (11, 3, 4, 5)
    x = torch.from_numpy(noise(3, *shape)).requires_grad_()
    rows = network(x)[range(3), TARGETS]
    [gradient] = torch.autograd.grad(rows.sum(), x)
    for backend in BACKENDS:
        got = Explainer(done.path, backend).explain(Prepared(x.detach().numpy()), "gradient", TARGETS)
        assert worst(got.raw, gradient.abs().amax(1).numpy()) < 1e-4


def test_programs_of_torch(tmp_path: Path) -> None:
    """A torch.export program says its own shape; one that is asked for has to be that."""
    shapes = ({0: torch.export.Dim("N")},)
    program = torch.export.export(ResNet().eval(), (torch.rand(2, 3, *SIZE),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "net.pt2")
    request = Request(
        tmp_path / "net.pt2", trust_code=True, preprocess="unit", output_path=tmp_path / "n.xai", roles=HEAD_AND_TAIL
    )
    assert export(request).manifest.input.size == SIZE
    with pytest.raises(RequestError, match=r"the program takes images of shape \(3, 5, 17, 23\), not \(3, 5, 17, 24\)"):
        export(replace(request, input_shape=(3, 5, 17, 24), overwrite=True))


def test_what_is_for_images_only(tmp_path: Path, resnet: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([str(resnet.source), "--preprocess", "unit", "-o", str(tmp_path / "n.xai"), "--input-shape", "3,17,23"])
        == 2
    )
    assert "give C,D,H,W" in capsys.readouterr().err
    assert main([str(resnet.source), "--preprocess", "unit", "-o", str(tmp_path / "n.xai"), "--split", "fc"]) == 2
    assert (
        "a layer to explain gives [N,K,d,h,w], [N,d,h,w,K], or tokens of patches [N,T,K], with the slices"
        in capsys.readouterr().err
    )
    assert main([str(resnet.source), "--list-layers"]) == 0
    assert "8 x 3 x 5 x 6" in capsys.readouterr().out
