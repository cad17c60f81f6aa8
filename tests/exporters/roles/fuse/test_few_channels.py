"""Fused Score-CAM with a budget: against the same formulas in float64, solved as a linear system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from tests.exporters import onnx_nets as o
from tests.exporters.checks import Array, Runner
from xai_deploy.format.bundle import ACTIVATION, LOGITS, SALIENCY

from .harness import RUNTIMES, Fused, compare, fuse_onnx, onnxruntime

K, C, BUDGET = 40, 5, 16
Numbers = NDArray[np.float64]


def network() -> onnx.ModelProto:
    """40 channels of 8 x 10, the last three of them constant."""
    b = o.Build(seed=7)
    x = b("Relu", b.conv("image", 3, K, strides=[2, 2]))
    alive = np.ones((1, K, 1, 1), np.float32)
    alive[:, -3:] = 0
    x = b("Mul", x, b.weight(alive), name="layer")
    hidden = b.pooled(b("Relu", b.conv(x, K, 6)))
    return b.model(
        b("Gemm", hidden, b.weight(4 * np.asarray(b.rng.standard_normal((6, C)), np.float32)), b.draw(C), out="scores")
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Fused:
    asked = (f"score-cam:budget={BUDGET}", f"score-cam:score=logit:budget={BUDGET}")
    return fuse_onnx(tmp_path_factory.mktemp("few"), network(), *asked)


def matern(masks: Numbers) -> Numbers:
    squares = ((masks[:, None] - masks[None]) ** 2).sum(-1)
    r = np.sqrt(5 * squares / (squares.sum() / (len(masks) * (len(masks) - 1))))
    return np.asarray((1 + r + r**2 / 3) * np.exp(-r))


def stretched(values: Numbers) -> Numbers:
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    return np.asarray((values - low) / np.where(high > low, high - low, 1))


def chosen(kernel: Numbers, norms: Numbers) -> list[int]:
    """One after the other, the channel whose score is least known from those before, times its norm."""
    found: list[int] = []
    while len(found) < BUDGET:
        own = kernel[np.ix_(found, found)] + 1e-3 * np.eye(len(found))
        known = (kernel[found] * np.linalg.solve(own, kernel[found])).sum(axis=0) if found else np.zeros(K)
        gain = np.maximum(np.diag(kernel) - known, 0) * norms
        gain[found] = -1
        found.append(int(gain.argmax()))
    return found


def definition(case: Fused, x: Array, target: int, score: str) -> Numbers:
    """The map [H,W]."""

    def scores(images: Array) -> Numbers:
        between = onnxruntime(case.bundle.graph("head"), {case.bundle.manifest.input.name: images})
        logits = onnxruntime(case.bundle.graph("tail"), between)[LOGITS].astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return np.asarray((logits if score == "logit" else shares)[:, target])

    activation = onnxruntime(case.bundle.graph("head"), {case.bundle.manifest.input.name: x})[ACTIVATION][0].astype(
        np.float64
    )
    flat = activation.reshape(K, -1)
    kernel = matern(stretched(flat))
    asked = chosen(kernel, np.linalg.norm(flat, axis=1) * (np.ptp(flat, axis=1) > 0))
    size = x.shape[2:]
    up = torch.nn.functional.interpolate(torch.from_numpy(activation)[None], size, mode="bilinear").numpy()[0]
    masks = stretched(up.reshape(K, -1)).reshape(K, *size)
    given = scores((x * masks[asked][:, None]).astype(np.float32))
    values = given if score == "logit" else np.sqrt(given)
    told = values.mean() + kernel[:, asked] @ np.linalg.solve(
        kernel[np.ix_(asked, asked)] + 1e-3 * np.eye(BUDGET), values - values.mean()
    )
    weights = told if score == "logit" else np.maximum(told, 0) ** 2
    weights[asked] = given
    weights[np.ptp(flat, axis=1) == 0] = 0
    return np.maximum(np.tensordot(weights, up, 1), 0)


@pytest.mark.parametrize("score", ["probability", "logit"])
@pytest.mark.parametrize("runner", RUNTIMES)
def test_definition(case: Fused, score: str, runner: Runner) -> None:
    asked = f"score-cam:{'score=logit:' if score == 'logit' else ''}budget={BUDGET}"
    x, targets = case.images(2), (2, 3)
    want = [definition(case, x[i : i + 1], target, score) for i, target in enumerate(targets)]
    compare(case.run(asked, x, targets, runner)[SALIENCY], np.stack(want), 1e-4, epsilon=2.0**-18)


def test_near_the_map_of_all_channels(case: Fused) -> None:
    """16 of 37 scores tell of the others."""
    asked, x, targets = f"score-cam:budget={BUDGET}", case.images(2), (2, 3)
    exact = case.raw("score-cam", x, targets)
    for one, other in zip(case.run(asked, x, targets)[SALIENCY], exact, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97


def test_a_budget_of_all_channels_is_exact(tmp_path: Path) -> None:
    case = fuse_onnx(tmp_path, o.classifier(), "score-cam:budget=16")
    x, targets = case.images(2), (0, -1)
    compare(case.run("score-cam:budget=16", x, targets)[SALIENCY], case.raw("score-cam", x, targets), 1e-5)
