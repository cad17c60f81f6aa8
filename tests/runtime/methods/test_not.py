"""Every method for "not a": the formulas with the gradient's sign turned, in torch; identities for probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer, Not
from xai_deploy.constant_maps import NEGATIVE
from xai_deploy.methods import applicable

from .. import dense, small, tiny
from ..conftest import Bundles
from .test_dense import close, unit
from .test_gradient_methods import CAMS, KINDS, formula, gradient, input_gradient, one_hot
from .test_methods import assert_close

N = tiny.CLASSES


@pytest.mark.parametrize("kind", KINDS)
def test_cams_by_the_negated_gradient(bundles: Bundles, backend: str, kind: tiny.Kind) -> None:
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, 3)
    explainer = Explainer(net.path, backend, batch_size=2)
    predicted = net.logits(x).argmax(dim=1).numpy()
    targets: list[Any] = [f"not {tiny.LABELS[1]}", Not(None), [Not(4), "not 0", Not(2)], [3, "not 1", "0 vs 2"]]
    seeds: list[Any] = [-one_hot([1] * 3), -one_hot(predicted), -one_hot([4, 0, 2]), one_hot([3, 1, 0])]
    seeds[3] *= [[1], [-1], [1]]
    seeds[3][2, 2] = -1
    found = explainer.explain_many(x, CAMS, targets)
    varying = 0
    for m, method in enumerate(CAMS):
        for t, seed in enumerate(seeds):
            wanted = formula(method, *gradient(net, x, seed))
            raw = found[m * len(targets) + t].raw
            if np.ptp(wanted) > 0:
                assert_close(raw, wanted)
                varying += 1
            else:
                assert not raw.any()
    assert varying >= len(found) // 2


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_pixels_by_the_negated_gradient(bundles: Bundles, backend: str, kind: tiny.Kind) -> None:
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, 3)
    explainer = Explainer(net.path, backend, batch_size=2)
    g = input_gradient(net, x, -one_hot([1, 0, 2]))
    planes = x.transpose(0, 3, 1, 2) if kind == "nhwc" else x
    target = [Not(1), Not(0), Not(2)]
    assert_close(explainer.explain(x, "gradient", target, channels="sum").raw, g.sum(1))
    assert_close(explainer.explain(x, "gradient", target).raw, np.abs(g).max(1))
    assert_close(explainer.explain(x, "input-x-gradient", target).raw, (g * planes).sum(1))
    # Complete: the map's sum is the change of -logit from the black image.
    ig = explainer.explain(x, "integrated-gradients", target).raw.sum((1, 2))
    change = -(net.logits(x) - net.logits(np.zeros_like(x))).numpy()[range(3), [1, 0, 2]]
    np.testing.assert_allclose(ig, change, atol=0.05 * np.abs(change).max())


@pytest.mark.parametrize("kind", ["pooled", "residual"])
def test_as_the_same_weights_by_hand(bundles: Bundles, backend: str, kind: tiny.Kind) -> None:
    """Every method whose score is a logit; guided backpropagation is not linear in the seed, and has its own map."""
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, 2)
    explainer = Explainer(net.path, backend)
    methods = [m for m in applicable([explainer.bundle.manifest]) if m != "cam"]
    specs: list[Any] = [*methods, ("score-cam", {"score": "logit"}), ("rise", {"score": "logit", "masks": 30})]
    specs += ["smoothgrad", ("smooth-grad-cam++", {"samples": 3}), "integrated-gradients"]
    assert len(methods) >= 9
    hand = -np.eye(N, dtype=np.float64)[[3, 1]]
    found = explainer.explain_many(x, specs, [[Not(3), Not(1)], hand])
    for turned, by_hand in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_array_equal(turned.raw, by_hand.raw)
        assert turned.target.tolist() == [3, 1]


@pytest.mark.parametrize("kind", ["pooled", "residual"])
@pytest.mark.parametrize("score", ["softmax", "probability"])
def test_probabilities(bundles: Bundles, backend: str, kind: tiny.Kind, score: str) -> None:
    """f = 1 - p_a is the sum of all other classes' probabilities, and the maps are linear in f (nothing is clipped here)."""
    net, x = bundles(kind), tiny.inputs(kind, 2)
    explainer = Explainer(net.path, backend)
    for method in ("reciprocam", "score-cam", "rise"):
        spec = (method, {"score": score, **({"masks": 40} if method == "rise" else {})})
        turned, *each = explainer.explain_many(x, [spec], [Not(2), 0, 1, 3, 4])
        assert_close(turned.raw, np.stack([e.raw for e in each]).sum(axis=0), 1e-4)
    mixed = explainer.explain(x, "rise", [2, "not 2"], score=score, masks=40).raw
    alone = [explainer.explain(x, "rise", t, score=score, masks=40).raw for t in (2, "not 2")]
    np.testing.assert_allclose(mixed, [alone[0][0], alone[1][1]], rtol=1e-6)


def test_score_cam_with_a_baseline(bundles: Bundles, backend: str) -> None:
    """(1 - p) - (1 - p_b) = -(p - p_b): without the ReLU, the map with its sign turned."""
    x = tiny.inputs("pooled", 2)
    explainer = Explainer(bundles("pooled").path, backend)
    by_hand = explainer.explain(x, "score-cam", -np.eye(N)[2], baseline="zeros").raw
    np.testing.assert_allclose(explainer.explain(x, "score-cam", Not(2), baseline="zeros").raw, by_hand, atol=1e-6)


@pytest.mark.parametrize("kind", ["plain", "nhwc"])
def test_relevance(tmp_path: Path, backend: str, kind: dense.Kind) -> None:
    """Relevance is linear in its start, which the contrast of all other classes belongs to: the map with its sign turned."""
    x = dense.inputs(kind, 3)
    net = dense.Reference(kind, x)
    explainer = Explainer(dense.write(tmp_path / "net.xai", kind), backend, batch_size=2)
    classes = [2, 0, 4]
    axis = 3 if kind == "nhwc" else 1
    target = [Not(c) for c in classes]
    start = np.where(unit(classes) == 1, -1, 1 / N)
    close(
        explainer.explain(x, "relevance-cam", target).raw,
        (net.relevance(start).mean((2, 3), keepdims=True) * net.a).sum(1),
    )
    close(explainer.explain(x, "lrp", target).raw, net.pixel_relevance(-unit(classes) * net.logits).sum(axis), 2e-5)
    dual = net.pixel_relevance(np.where(unit(classes) == 1, -1, 1 / (N - 1)))
    close(explainer.explain(x, "clrp", target, relu=False).raw, dual.sum(axis), 2e-5)
    close(explainer.explain(x, "clrp", target).raw, np.maximum(dual, 0).sum(axis), 2e-5)
    close(
        explainer.explain(x, "sglrp", target).raw, -explainer.explain(x, "sglrp", classes).raw.astype(np.float64), 1e-5
    )
    # An image's map does not depend on the targets of the others.
    each: list[Any] = [2, "not 0", "1 vs 3"]
    mixed = explainer.explain(x, "relevance-cam", each).raw
    for i, one in enumerate(each):
        np.testing.assert_allclose(mixed[i], explainer.explain(x, "relevance-cam", one).raw[i], rtol=1e-4, atol=1e-5)


def test_the_other_end_of_a_single_output(tmp_path: Path, backend: str) -> None:
    """One sigmoid: 1 - p = sigmoid(-logit) is the probability of "no"."""
    path = small.write(tmp_path / "one.xai", classes=1, activation="Sigmoid")
    explainer = Explainer(path, backend)
    x = np.random.default_rng(3).standard_normal((2, 3, 24, 32)).astype(np.float32)
    yes, no = explainer.explain_many(x, [("cam", {"relu": False})], [0, "not 0"])
    np.testing.assert_allclose(no.raw, -yes.raw, rtol=1e-6)
    assert no.heatmap.sum() > 0
    np.testing.assert_allclose(no.heatmap, 1 - yes.heatmap, atol=1e-6)
    p = explainer.explain(x, "reciprocam", 0, score="probability").raw
    np.testing.assert_allclose(explainer.explain(x, "reciprocam", "not 0", score="probability").raw, 1 - p, atol=1e-6)
    plus, minus = (explainer.explain(x, "grad-cam", t).raw for t in (0, "not 0"))
    assert (plus + minus).any()
    np.testing.assert_allclose(plus - minus, yes.raw / yes.raw[0].size, atol=1e-6)  # ReLU(v) - ReLU(-v) = v


def test_why_nothing_speaks_against(bundles: Bundles) -> None:
    """A map that is empty because everything counts for the class says so, in words that fit both directions."""
    net, x = bundles("pooled", gradients=True), tiny.inputs("pooled", 8)
    e = Explainer(net.path, "onnxruntime").explain(x, "grad-cam", [Not(c % N) for c in range(8)])
    for raw, reason in zip(e.raw, e.constant, strict=True):
        assert reason == (None if np.ptp(raw) else NEGATIVE)
