"""Kernel SHAP: against Shapley's definition over all orders of the segments, the networks in torch, float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.errors import OptionError
from xai_deploy.methods import create
from xai_deploy.methods.kernelshap import KernelShap, shapley

from .. import oracles, tiny
from ..conftest import Bundles
from .test_lime import KINDS, cells

Floats = NDArray[np.float64]
EXACT = {"segments": "grid:2", "samples": 14}


def every_score(net: tiny.Tiny, x: NDArray[Any], labels: NDArray[np.int64], score: str) -> Floats:
    """f of each set of segments, zeros behind: [2^M,classes]; bit i of the index: segment i is shown."""
    count = labels.max() + 1
    shown = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    masks = shown[:, labels]
    logits = net.logits(x * (masks[..., None] if net.kind == "nhwc" else masks[:, None]))
    return np.asarray(torch.softmax(logits, 1) if score == "probability" else logits)


def by_orders(f: Floats) -> Floats:
    """The mean over all orders of what a segment adds to those before it, [M,classes]."""
    count = len(f).bit_length() - 1
    values, orders = np.zeros((count, f.shape[1])), list(itertools.permutations(range(count)))
    for order in orders:
        before = 0
        for i in order:
            values[i] += f[before | 1 << i] - f[before]
            before |= 1 << i
    return values / len(orders)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_definition(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind), tiny.inputs(kind, count)
    explainer, given = Explainer(net.path, backend, batch_size=8), oracles.network_input(kind, x)
    labels = cells(2)
    for score in ("probability", "logit"):
        f = [every_score(net, one, labels, score) for one in given]
        want = np.stack([by_orders(one).T for one in f], axis=1)  # [classes,n,M]
        found = explainer.explain_many(
            x, [("kernel-shap", {**EXACT, "score": score, "baseline": "zeros"})], range(tiny.CLASSES)
        )
        for c, got in enumerate(found):
            np.testing.assert_allclose(got.raw, want[c][:, labels] / 80, rtol=0, atol=1e-6 * np.abs(want).max())
            change = [one[-1, c] - one[0, c] for one in f]
            np.testing.assert_allclose(got.raw.sum((1, 2), dtype=np.float64), change, rtol=0, atol=1e-5)
            assert got.signed == (True,) * count
            nothing = (0.0,) * count
            told = {"standard_error": nothing, "relative_error": nothing, "passes": (16.0,) * count}
            seen = [one[:, c] for one in f]  # each of the sets, once
            ranges = tuple(np.ptp(one) for one in seen)
            assert {**got.diagnostics, "score_range": nothing} == {**told, "score_range": nothing}
            np.testing.assert_allclose(got.diagnostics["score_range"], ranges, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", ["zeros", "black", "mean", "blur", "segment"])
def test_the_sum_of_samples(bundles: Bundles, backend: str, baseline: str) -> None:
    """f(x) - f(baseline), whatever is drawn; the baseline itself explained has only zeros."""
    explainer, x = Explainer(bundles("pooled").path, backend), tiny.inputs("pooled", 3)
    options: dict[str, Any] = {"segments": "grid:4", "samples": 60, "baseline": baseline, "score": "logit"}
    got = explainer.explain(x, "kernel-shap", "beagle vs tabby cat", **options)
    one = explainer.explain(x, "kernel-shap", "beagle vs tabby cat", **{**options, "segments": "grid:1"})
    if baseline != "segment":  # whose baseline depends on the segments
        np.testing.assert_allclose(got.raw.sum((1, 2)), one.raw.sum((1, 2)), rtol=0, atol=1e-3)
    assert all(error > 0 for error in got.diagnostics["standard_error"])
    if baseline == "zeros":
        logits = explainer.predict(x) - explainer.predict(np.zeros_like(x))
        np.testing.assert_allclose(got.raw.sum((1, 2)), logits[:, 2] - logits[:, 0], rtol=0, atol=1e-4)
        assert explainer.explain(np.zeros_like(x), "kernel-shap", 0, **options).constant[0] is not None


def test_its_standard_error(bundles: Bundles, backend: str) -> None:
    """That of the values: within a quarter of their distance from the exact ones, over 16 draws."""
    explainer, x = Explainer(bundles("residual").path, backend, batch_size=64), tiny.inputs("residual", 1)
    spec: dict[str, Any] = {"segments": "grid:3", "score": "logit"}
    [exact] = explainer.explain(x, "kernel-shap", 1, samples=510, **spec).raw
    found = [explainer.explain(x, "kernel-shap", 1, seed=seed, samples=100, **spec) for seed in range(16)]
    sizes = np.bincount(cells(3).ravel())
    corners = [tuple(np.argwhere(cells(3) == label)[0]) for label in range(9)]
    away = np.array(
        [[(one.raw[0][at] - exact[at]) * size for at, size in zip(corners, sizes, strict=True)] for one in found]
    )
    said = np.sqrt(np.mean([one.diagnostics["standard_error"][0] ** 2 for one in found]))
    assert 0.75 < said / np.sqrt((away**2).mean()) < 1.25


def test_sizes_are_drawn_by_the_kernel() -> None:
    """A score of 1 if three of 12 segments are shown: a third each. Another law of the sizes gives the others a share."""
    shown, weights = KernelShap(samples=40000)._drawn(12)

    def f(z: NDArray[np.bool_]) -> Floats:
        return z[:, :3].all(axis=1).astype(float)[None]

    [values], [errors] = shapley(shown, weights, f(shown) - f(~shown), np.ones(1))
    assert errors.max() < 0.003
    assert (np.abs(values - np.repeat([1 / 3, 0], [3, 9])) < 5 * errors).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "kernel-shap: samples are at least 2, not 1"),
        ({"seed": -1}, "kernel-shap: seed is 0 or more, not -1"),
        ({"segments": "slic:x"}, "kernel-shap: segments are grid:N, slic:N or a file of labels"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create("kernel-shap", options)


def test_too_few_samples(explainer: Explainer) -> None:
    message = "kernel-shap: 17 samples are too few for 9 segments; give at least 18, or fewer segments"
    with pytest.raises(OptionError, match=message):
        explainer.explain(tiny.inputs("pooled", 1), "kernel-shap", segments="grid:3", samples=17)
