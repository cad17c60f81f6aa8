"""Every method and option against its formula in torch, float64, on every backend."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Bundle, Explainer
from xai_deploy.backends import Session
from xai_deploy.backends.backend import Tensor
from xai_deploy.errors import NotApplicableError, OptionError, UnknownMethodError
from xai_deploy.methods import applicable, create
from xai_deploy.methods.method import softmax
from xai_deploy.methods.reciprocam import position_masks

from .. import oracles, tiny
from ..conftest import Bundles

KINDS: tuple[tiny.Kind, ...] = ("pooled", "residual", "nhwc", "uint8")
TARGET = 1


def assert_close(found: NDArray[Any], wanted: NDArray[Any], tolerance: float = 2e-5) -> None:
    """Equal up to float32 rounding, relative to the largest value; the values must differ by far more than that."""
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    scale = np.abs(wanted).max()
    assert np.ptp(wanted) > 1e-3 * scale > 0, "the oracle is flat and would accept anything"
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3])
def test_logits(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind), tiny.inputs(kind, count)
    logits = Explainer(net.path, backend).predict(x)
    assert_close(logits, net.logits(oracles.network_input(kind, x)).numpy(), 1e-5)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("kind", "pixelwise"),
    [(kind, pixelwise) for kind in KINDS for pixelwise in (True, False) if not (kind == "residual" and pixelwise)],
)
def test_reciprocam(bundles: Bundles, backend: str, kind: tiny.Kind, count: int, pixelwise: bool) -> None:
    net, x = bundles(kind, pixelwise), tiny.inputs(kind, count)
    explainer = Explainer(net.path, backend, batch_size=7)  # divides neither 20 nor 60 positions
    for score, mask in itertools.product(("logit", "softmax"), ("pixel", "gaussian", "gaussian-centre")):
        found = explainer.explain(x, "reciprocam", TARGET, score=score, mask=mask)
        raw = oracles.reciprocam(net, oracles.network_input(kind, x), TARGET, score, mask)
        assert_close(found.raw, raw)
        np.testing.assert_allclose(found.heatmap, oracles.heatmap(raw), atol=1e-4)
        assert found.options == {"score": score, "mask": mask}
        assert found.target.tolist() == [TARGET] * count


def test_methods_that_set_classes_against_each_other_need_several(bundles: Bundles) -> None:
    manifest = Bundle.open(bundles("pooled", gradients=True).path).manifest
    whole = replace(manifest, graphs={**manifest.graphs, "pixel-relevance": manifest.graphs["tail"]})
    several, single = applicable([whole]), applicable([whole, replace(whole, classes=1)])
    assert "sglrp" in several
    assert several == sorted([*single, "sglrp"])


def test_reciprocam_shortcut_equals_definition(bundles: Bundles, backend: str) -> None:
    x = tiny.inputs("pooled", 2)
    fast = Explainer(bundles("pooled", True).path, backend)
    slow = Explainer(bundles("pooled", False).path, backend)
    for score, mask in itertools.product(("logit", "softmax"), ("pixel", "gaussian", "gaussian-centre")):
        specs = [("reciprocam", {"score": score, "mask": mask})]
        for a, b in zip(fast.explain_many(x, specs, ["top3"]), slow.explain_many(x, specs, ["top3"]), strict=True):
            np.testing.assert_array_equal(a.target, b.target)
            np.testing.assert_allclose(a.raw, b.raw, atol=1e-5 * np.abs(b.raw).max(), rtol=0)


def test_reciprocam_on_pooled_tail_is_signed_cam_plus_constant(explainer: Explainer) -> None:
    x = tiny.inputs("pooled", 2)
    reciprocam = explainer.explain(x, "reciprocam", TARGET).raw
    cam = explainer.explain(x, "cam", TARGET, relu=False).raw / (tiny.H * tiny.W)
    constant = (reciprocam - cam).reshape(2, -1)
    np.testing.assert_allclose(constant, tiny.weights()["bias"][TARGET], atol=1e-5)


def test_position_masks_by_hand() -> None:
    masks = position_masks(np.arange(12), (3, 4), "gaussian") * 16
    assert masks.shape == (12, 1, 3, 4)
    np.testing.assert_array_equal(masks[0, 0], [[4, 2, 0, 0], [2, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(masks[6, 0], [[0, 1, 2, 1], [0, 2, 4, 2], [0, 1, 2, 1]])
    np.testing.assert_array_equal(position_masks(np.arange(12), (3, 4), "pixel").reshape(12, 12), np.eye(12))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_score_cam(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind), tiny.inputs(kind, count)
    explainer = Explainer(net.path, backend, batch_size=4)
    for score, baseline, channel_softmax in (
        ("softmax", None, False),
        ("softmax", "zeros", False),
        ("logit", None, False),
        ("logit", "zeros", False),
        ("logit", None, True),
    ):
        options: dict[str, object] = {"score": score, "baseline": baseline, "channel_softmax": channel_softmax}
        fed = oracles.network_input(kind, x)
        found = explainer.explain_many(x, [("score-cam", options)], range(tiny.CLASSES))
        raws = oracles.score_cam(net, fed, score, baseline, channel_softmax)
        scale = max(np.ptp(raw) for raw in raws)
        assert scale > 0.1, "the oracle is flat and would accept anything"
        # rounding a masked pixel to 8 bits may fall on the other side of a half
        tolerance = scale * (2e-3 if kind == "uint8" else 2e-5)
        for explanation, raw in zip(found, raws, strict=True):
            assert explanation.options == {**options, "budget": None, "tolerance": None}
            np.testing.assert_allclose(explanation.raw, raw, rtol=0, atol=tolerance)
            if np.ptp(raw, axis=(1, 2)).min() > 0.1 * scale:
                np.testing.assert_allclose(
                    explanation.heatmap, oracles.heatmap(raw), rtol=0, atol=20 * tolerance / scale
                )


class CountingSession:
    """Counts the images that pass through a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.batches: list[int] = []

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        self.batches.append(len(next(iter(feeds.values()))))  # type: ignore[arg-type]
        return self.session.run(feeds, fetch)


def counting(explainer: Explainer, role: str) -> CountingSession:
    """Put a counter before a session of the explainer."""
    counter = CountingSession(explainer._sessions(role))
    explainer._sessions.opened[role] = counter
    return counter


def test_score_cam_constant_channel_costs_no_inference(explainer: Explainer) -> None:
    x = tiny.inputs("pooled", 1)
    head = counting(explainer, "head")
    explainer.explain(x, "score-cam")
    varying = int(
        (np.ptp(tiny.Tiny.head(tiny.Tiny(explainer.bundle.path, "pooled"), x)[0].numpy(), axis=(2, 3)) > 0).sum()
    )
    assert varying < tiny.CHANNELS
    assert head.batches == [1, varying]
    head.batches.clear()
    explainer.explain(x, "score-cam", score="logit", channel_softmax=True)
    assert head.batches == [1, varying, 1]  # one black image stands for all constant channels


def test_score_cam_all_targets_share_the_passes(explainer: Explainer) -> None:
    head = counting(explainer, "head")
    explainer.explain_many(tiny.inputs("pooled", 1), ["score-cam"], ["top3"])
    once = sum(head.batches)
    head.batches.clear()
    explainer.explain_many(tiny.inputs("pooled", 1), ["score-cam"], [0])
    assert sum(head.batches) == once


@pytest.mark.parametrize("batch_size", [1, 2, 5, 16])
def test_batches_stay_within_the_limit(bundles: Bundles, batch_size: int) -> None:
    explainer = Explainer(bundles("pooled", False).path, "onnxruntime", batch_size=batch_size)
    counters = [counting(explainer, role) for role in ("head", "tail")]
    found = explainer.explain_many(tiny.inputs("pooled", 3), ["reciprocam", "score-cam"], [TARGET])
    assert max(max(counter.batches) for counter in counters) <= batch_size
    whole = Explainer(bundles("pooled", False).path, "onnxruntime").explain_many(
        tiny.inputs("pooled", 3), ["reciprocam", "score-cam"], [TARGET]
    )
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_allclose(a.raw, b.raw, atol=2e-5 * np.abs(b.raw).max(), rtol=0)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["pooled", "nhwc", "uint8"])
@pytest.mark.parametrize("relu", [True, False])
def test_cam(bundles: Bundles, backend: str, kind: tiny.Kind, count: int, relu: bool) -> None:
    net, x = bundles(kind), tiny.inputs(kind, count)
    found = Explainer(net.path, backend).explain(x, "cam", TARGET, relu=relu)
    assert_close(found.raw, oracles.cam(net, oracles.network_input(kind, x), TARGET, relu))


@pytest.mark.parametrize("batch_size", [1, 16])
def test_classifier_weight_is_exact(bundles: Bundles, backend: str, batch_size: int) -> None:
    explainer = Explainer(bundles("pooled").path, backend, batch_size=batch_size)
    np.testing.assert_array_equal(explainer._network.classifier, tiny.weights()["linear"].T)


def test_targets_differ_per_image(explainer: Explainer) -> None:
    x = tiny.inputs("pooled", 3)
    mixed = explainer.explain(x, "cam", [0, "beagle", None])
    predicted = int(explainer.predict(x)[2].argmax())
    assert mixed.target.tolist() == [0, 2, predicted]
    for i, target in enumerate(mixed.target):
        alone = explainer.explain(x[i], "cam", int(target))
        np.testing.assert_allclose(mixed.raw[i], alone.raw[0], atol=1e-5)


def test_softmax_does_not_overflow() -> None:
    logits = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4]], np.float32)
    np.testing.assert_allclose(softmax(logits), np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]))


def test_unknown_method() -> None:
    with pytest.raises(
        UnknownMethodError, match=r"no method 'reciprocm' \(did you mean 'reciprocam'\?\); there are ablation-cam, "
    ):
        create("reciprocm", {})
    for name, meant in {
        "GradCAM": "grad-cam",
        "grad_cam": "grad-cam",
        "GradCAMPlusPlus": "grad-cam++",
        "GradCAMpp": "grad-cam++",
        "SmoothGradCAMpp": "smooth-grad-cam++",
        "HiResCAM": "hires-cam",
        "IntegratedGradients": "integrated-gradients",
        "GuidedBackprop": "guided-backprop",
        "LRP": "lrp",
    }.items():
        with pytest.raises(UnknownMethodError, match=re.escape(f"no method {name!r} (did you mean {meant!r}?); there")):
            create(name, {})
    with pytest.raises(UnknownMethodError, match=r"no method 'xyz'; there are ablation-cam, "):
        create("xyz", {})


def test_unknown_option() -> None:
    with pytest.raises(OptionError, match=r"cam: no option 'mask'; it has relu"):
        create("cam", {"mask": "pixel"})


@pytest.mark.parametrize(
    ("method", "option", "value", "message"),
    [
        ("cam", "relu", "maybe", r"cam\.relu: expected bool, got str"),
        ("cam", "relu", 1, r"cam\.relu: expected bool, got int"),
        ("reciprocam", "mask", "disc", r"reciprocam\.mask: expected one of 'pixel', 'gaussian', 'gaussian-centre'"),
        ("reciprocam", "mask", np.zeros(3), r"reciprocam\.mask: expected one of"),
        (
            "reciprocam",
            "score",
            None,
            r"reciprocam\.score: expected one of 'logit', 'probability', 'softmax', got None",
        ),
        ("score-cam", "baseline", "ones", r"score-cam\.baseline: expected one of 'zeros'"),
    ],
)
def test_bad_option_value(method: str, option: str, value: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create(method, {option: value})


def test_score_cam_refuses_options_that_exclude_each_other() -> None:
    for options in ({}, {"score": "logit", "baseline": "zeros"}):
        with pytest.raises(OptionError, match="channel_softmax takes raw logits"):
            create("score-cam", {"channel_softmax": True, **options})


def test_options_as_text() -> None:
    assert create("cam", {"relu": "False"}) == create("cam", {"relu": False})
    assert create("score-cam", {"baseline": "none"}) == create("score-cam", {})


def test_method_that_does_not_apply(bundles: Bundles) -> None:
    explainer = Explainer(bundles("residual").path, "onnxruntime")
    with pytest.raises(
        NotApplicableError, match=r"cam: this bundle has no 'pixelwise-tail' graph; CAM is defined only"
    ):
        explainer.explain(tiny.inputs("residual", 1), "cam")


def test_literals_of_reciprocam_are_all_tested() -> None:
    hints = {name: get_args(hint) for name, hint in _hints("reciprocam").items()}
    assert hints["score"] == ("logit", "probability", "softmax")
    assert hints["mask"] == ("pixel", "gaussian", "gaussian-centre")


def _hints(method: str) -> dict[str, Any]:
    import typing

    return typing.get_type_hints(type(create(method, {})))
