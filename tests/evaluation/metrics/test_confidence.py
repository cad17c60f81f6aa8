"""Average Drop and Average Increase: by hand, against the definition pixel by pixel, and beside pytorch-grad-cam's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy.errors import NotApplicableError, OptionError, UnknownMetricError
from xai_deploy.evaluation.metrics import Case, create, metrics

from . import linear, oracle, peers
from .linear import case, explained

LN = math.log
HAND = np.array([[[[LN(2), LN(3)], [LN(5), -LN(10)]]], np.zeros((1, 2, 2))])  # the odds of class 0 are 2 * 3 * 5 / 10
HEAT = np.array([[1, 0.5], [0, 0.25]])


def by_hand(folder: Path, backend: str = "onnxruntime") -> Case:
    """p = 3/4; on x * map the odds are 2 * sqrt(3) / 10**(1/4)."""
    return case(linear.network(folder / backend, HAND, backend=backend), np.ones((1, 1, 2, 2)), [0], HEAT[None])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_drop_by_hand(tmp_path: Path, backend: str) -> None:
    odds = 2 * math.sqrt(3) / 10**0.25
    dropped = 100 * (0.75 - odds / (1 + odds)) / 0.75
    assert 11 < dropped < 12
    found = by_hand(tmp_path, backend)
    assert create("average-drop", {}).measure(found)["average-drop"] == pytest.approx([dropped], abs=1e-5)
    assert create("average-increase", {}).measure(found)["average-increase"].tolist() == [0]


def test_three_images_with_targets_of_their_own(tmp_path: Path) -> None:
    """Class 1's odds are the inverse of class 0's: what costs the one confidence gives it to the other. Image 2 loses nothing."""
    explainer = linear.network(tmp_path / "net", HAND)
    x = np.ones((3, 1, 2, 2))
    heat = np.stack([HEAT, HEAT, [[1, 1], [1, 0]]])
    found = case(explainer, x, [0, 1, 0], heat)
    odds = 2 * math.sqrt(3) / 10**0.25
    drops = create("average-drop", {}).measure(found)["average-drop"]
    assert drops == pytest.approx([100 * (1 - odds / (1 + odds) / 0.75), 0, 0], abs=1e-5)
    assert create("average-increase", {}).measure(found)["average-increase"].tolist() == [0, 100, 100]


def test_all_is_lost_and_nothing_is(tmp_path: Path) -> None:
    """A map of zeros shows nothing: p' = 1/2. A map of ones shows all: neither drop nor increase."""
    explainer = linear.network(tmp_path / "net", HAND)
    found = case(explainer, np.ones((2, 1, 2, 2)), [0, 0], [np.zeros((2, 2)), np.ones((2, 2))])
    assert create("average-drop", {}).measure(found)["average-drop"] == pytest.approx([100 / 3, 0], abs=1e-5)
    assert create("average-increase", {}).measure(found)["average-increase"].tolist() == [0, 0]


def test_a_class_of_no_probability_cannot_drop(tmp_path: Path) -> None:
    """exp(-2000) is 0 in float64: p = 0, and no division by it."""
    explainer = linear.network(tmp_path / "net", [[[[2000.0]]], [[[0.0]]]])
    found = case(explainer, np.ones((2, 1, 1, 1)), [1, 1], [[[1.0]], [[0.0]]])
    assert found.before.tolist() == [0, 0]
    assert create("average-drop", {}).measure(found)["average-drop"].tolist() == [0, 0]
    assert create("average-increase", {}).measure(found)["average-increase"].tolist() == [0, 100]


KINDS: dict[str, dict[str, Any]] = {
    "NCHW": {},
    "NHWC": {"layout": "NHWC"},
    "half": {"dtype": "float16"},
    "uint8": {"dtype": "uint8"},
    "uint8-NHWC": {"dtype": "uint8", "layout": "NHWC"},
    "sigmoid": {"activation": "sigmoid"},
    "logits": {"activation": "none"},
    "normalised": {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5)},
    "normalised-NHWC": {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5), "layout": "NHWC"},
    "one-sigmoid": {"activation": "sigmoid", "classes": 1},
    "openvino": {"backend": "openvino"},
    "openvino-uint8-NHWC": {"backend": "openvino", "dtype": "uint8", "layout": "NHWC"},
}


def drawn(folder: Path, kind: str, count: int, height: int = 5, width: int = 7) -> tuple[Case, oracle.Linear]:
    """A case of random numbers, of no two sizes equal, and the oracle of its network."""
    options = dict(KINDS[kind])
    classes = options.pop("classes", 4)
    rng = np.random.default_rng(count)
    scale = 1 / 255 if options.get("dtype") == "uint8" else 1.0
    weight = rng.normal(0, 0.4 * scale, (classes, 3, height, width))
    bias = rng.normal(0, 0.4, classes)
    explainer = linear.network(folder / f"{kind}{count}", weight, bias, **options)
    x = rng.random((count, *explainer.bundle.manifest.input.image_shape)) * (255 if scale < 1 else 2)
    heat = rng.random((count, height, width))
    target = rng.integers(0, classes, count)
    return case(explainer, x, target, heat), oracle.Linear(weight, bias, explainer)


@pytest.mark.parametrize("how", ["input", "image"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network(tmp_path: Path, kind: str, count: int, how: str) -> None:
    found, net = drawn(tmp_path, kind, count)
    before = [net.p(net.planes(x), t) for x, t in zip(found.x, found.target, strict=True)]
    after = [
        net.p(net.masked(x, heat, how), t) for x, heat, t in zip(found.x, found.heatmaps, found.target, strict=True)
    ]
    dropped = [100 * max(0, p - q) / p for p, q in zip(before, after, strict=True)]
    increased = [100.0 if q > p else 0.0 for p, q in zip(before, after, strict=True)]
    # a product that falls on a half may be rounded otherwise in float16 and to 8 bits: one step of one pixel
    tolerance = {"half": 2e-2}.get(kind, 2e-2 if "uint8" in kind else 2e-4)
    np.testing.assert_allclose(found.before, before, rtol=1e-5)
    measured = create("average-drop", {"masked": how}).measure(found)["average-drop"]
    np.testing.assert_allclose(measured, dropped, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(
        create("average-increase", {"masked": how}).measure(found)["average-increase"], increased
    )


def test_input_and_image_differ_where_black_is_not_zero(tmp_path: Path) -> None:
    found, _ = drawn(tmp_path, "normalised", 3)
    x, share = found.x, found.heatmaps[:, None]
    black = np.array([-2.5, -1.6, -0.6], np.float32)[:, None, None]
    np.testing.assert_allclose(found.masked("input"), x * share, rtol=1e-6)
    np.testing.assert_allclose(found.masked("image"), x * share + black * (1 - share), rtol=0, atol=1e-6)


def test_black_of_an_8_bit_network_stays_a_pixel(tmp_path: Path) -> None:
    """It subtracts 10 from its pixels, and clips: black is 0, not -10, which would wrap around to 246."""
    weight = [[[[0.01]]], [[[0.0]]]]
    explainer = linear.network(tmp_path / "net", weight, dtype="uint8", mean=(10.0,))
    found = case(explainer, np.full((1, 1, 1, 1), 100), [0], np.zeros((1, 1, 1)))
    assert found.masked("image").tolist() == [[[[0]]]]
    assert found.masked("image").dtype == np.uint8
    deleted = create("deletion", {"baseline": "black", "steps": 1}).measure(found)["deletion"]
    assert deleted == pytest.approx([(1 / (1 + math.exp(-1)) + 0.5) / 2], abs=1e-6)


@pytest.mark.parametrize("logit", [-700.0, -60.0, -30.0, 0.0, 60.0, 700.0])
def test_sigmoid_keeps_its_digits(tmp_path: Path, logit: float) -> None:
    explainer = linear.network(tmp_path / "net", [[[[logit]]]], activation="sigmoid")
    found = case(explainer, np.ones((1, 1, 1, 1)), [0], np.ones((1, 1, 1)))
    wanted = math.exp(logit) / (1 + math.exp(logit)) if logit < 0 else 1 / (1 + math.exp(-logit))
    np.testing.assert_allclose(found.before, [wanted], rtol=1e-12)


@pytest.mark.parametrize("metric", ["average-drop", "average-increase", "insertion", "deletion", "adcc"])
def test_one_output_that_is_no_probability(tmp_path: Path, metric: str) -> None:
    explainer = linear.network(tmp_path / "net", np.ones((1, 3, 2, 2)), activation="none")
    found = explained(explainer, np.random.default_rng(0).random((1, 3, 2, 2)))
    with pytest.raises(NotApplicableError, match="single output that is not a probability; leave out the metrics"):
        create(metric, {}).measure(found)


def test_drop_and_increase_are_those_of_pytorch_grad_cam(tmp_path: Path) -> None:
    """grad-cam 1.5.7's DropInConfidence is max(0, p - p'), not divided by p; IncreaseInConfidence is p' > p, 0 or 1."""
    peer = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    import torch
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    weight, x, target = peers.weight(), peers.inputs(), list(peers.TARGET)
    layer = torch.nn.Linear(weight[0].size, peers.CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.reshape(peers.CLASSES, -1)))
        layer.bias.copy_(torch.tensor(peers.BIAS))
    model = torch.nn.Sequential(torch.nn.Flatten(), layer)
    heat = peers.maps(x, target).astype(np.float32)
    found = case(linear.network(tmp_path / "net", weight, peers.BIAS), x, target, heat)
    arguments: tuple[Any, ...] = (
        torch.from_numpy(x.astype(np.float32)),
        heat,
        [ClassifierOutputSoftmaxTarget(t) for t in target],
        model,
    )
    dropped = create("average-drop", {}).measure(found)["average-drop"]
    theirs = peer.DropInConfidence()(*arguments)
    assert theirs.max() > 0.1 > theirs.min()
    np.testing.assert_allclose(dropped * found.before / 100, theirs, rtol=0, atol=2e-6)
    increased: NDArray[Any] = create("average-increase", {}).measure(found)["average-increase"]
    theirs = peer.IncreaseInConfidence()(*arguments)
    assert set(theirs.tolist()) == {0, 1}
    np.testing.assert_array_equal(increased, 100 * theirs)


def test_drop_is_openvino_xais(tmp_path: Path) -> None:
    """openvino-xai 1.1.0's ADCC.average_drop, see `peers`."""
    x, target = peers.inputs(), np.array(peers.TARGET)
    found = case(linear.network(tmp_path / "net", peers.weight(), peers.BIAS), x, target, peers.maps(x, target))
    dropped = create("average-drop", {}).measure(found)["average-drop"]
    np.testing.assert_allclose(dropped / 100, peers.OPENVINO_XAI["average_drop"], rtol=0, atol=1e-6)


def test_what_is_masked_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = by_hand(tmp_path)
    calls = []
    predict = found.explainer.predict
    monkeypatch.setattr(found.explainer, "predict", lambda x: calls.append(1) or predict(x))  # type: ignore[func-returns-value]
    for name in ("average-drop", "average-increase", "adcc"):
        create(name, {}).measure(found)
    assert len(calls) == 1


def test_metrics_by_name_and_their_columns() -> None:
    assert set(metrics) >= {
        "adcc",
        "argmax-pointing",
        "average-drop",
        "average-increase",
        "class-sensitivity",
        "coherency",
        "complexity",
        "deletion",
        "energy-pointing",
        "insertion",
        "iou",
        "region",
        "region-truth",
        "sanity",
        "segmentation",
    }
    columns = {c.name: c for name in metrics for c in create(name, {}).columns(2)}
    assert {name for name, column in columns.items() if column.better == "lower"} == {
        "average-drop",
        "class-sensitivity",
        "complexity",
        "deletion",
        "infidelity",
        "max-sensitivity",
        "road-most",
    }
    neither = {"adcc:coherency", "adcc:complexity", "adcc:drop", "energy-uniform", "sanity-1", "sanity-2"}
    neither |= {"region-energy", "region-iou", "detection-energy", "detection-uniform"}
    assert {name for name, column in columns.items() if not column.better} == neither
    assert {name for name, column in columns.items() if column.percent} == {"average-drop", "average-increase"}
    assert [name for name, column in columns.items() if column.of_means] == ["adcc-of-means"]
    needs = {name: set(create(name, {}).needs) for name in metrics}
    assert {name: need for name, need in needs.items() if need} == {
        "detection": {"detection"},
        "emprt": {"randomised"},
        "mass-accuracy": {"masks"},
        "rank-accuracy": {"masks"},
        "argmax-pointing": {"boxes"},
        "energy-pointing": {"boxes"},
        "iou": {"boxes"},
        "region": {"region"},
        "road": {"images"},
        "region-truth": {"region", "masks"},
        "sanity": {"randomised"},
        "segmentation": {"masks"},
    }


def test_refusals() -> None:
    with pytest.raises(UnknownMetricError, match=r"no metric 'adc' \(did you mean 'adcc'\?\); there are adcc, "):
        create("adc", {})
    with pytest.raises(OptionError, match="average-drop: no option 'baseline'; it has masked"):
        create("average-drop", {"baseline": "zeros"})
    with pytest.raises(OptionError, match=r"adcc\.masked: expected one of 'input', 'image'"):
        create("adcc", {"masked": "pixels"})
    with pytest.raises(OptionError, match="complexity: no option 'masked'; it has none"):
        create("complexity", {"masked": "input"})
