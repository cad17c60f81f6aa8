"""Coherency, Complexity and ADCC: by hand, against SciPy, and beside OpenVINO XAI's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr  # type: ignore[import-untyped]

from xai_deploy.evaluation.metrics import create
from xai_deploy.evaluation.metrics.adcc import adcc

from . import linear, peers
from .linear import case, explained
from .test_confidence import by_hand


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_openvino_xais(tmp_path: Path, backend: str) -> None:
    """openvino-xai 1.1.0's ADCC and its three parts, see `peers`."""
    explainer = linear.network(tmp_path / "net", peers.weight(), peers.BIAS, backend=backend)
    found = explained(explainer, peers.inputs(), list(peers.TARGET))
    np.testing.assert_allclose(found.heatmaps, peers.maps(peers.inputs(), peers.TARGET), rtol=0, atol=1e-5)
    measured = create("adcc", {}).measure(found)
    names = {
        "adcc:coherency": "coherency",
        "adcc:complexity": "complexity",
        "adcc:drop": "average_drop",
        "adcc": "adcc",
    }
    assert list(measured) == ["adcc", "adcc:coherency", "adcc:complexity", "adcc:drop"]
    for ours, theirs in names.items():
        np.testing.assert_allclose(measured[ours], peers.OPENVINO_XAI[theirs], rtol=0, atol=2e-6, err_msg=ours)
    for name in ("coherency", "complexity"):
        np.testing.assert_array_equal(create(name, {}).measure(found)[name], measured[f"adcc:{name}"])


def test_of_means_is_openvino_xais_evaluate() -> None:
    """Its `evaluate`, and the ReciproCAM poster, take the means first; the mean of the images' ADCC is another figure."""
    means = {f"adcc:{n}": np.array([np.mean(peers.OPENVINO_XAI[t])]) for n, t in _PARTS.items()}
    column = {c.name: c for c in create("adcc", {}).columns(0)}["adcc-of-means"]
    assert column.of_means is not None
    coherent, dense, dropped = (float(means[f"adcc:{n}"][0]) for n in _PARTS)
    wanted = 3 / (1 / coherent + 1 / (1 - dense) + 1 / (1 - dropped))
    assert column.of_means(means) == pytest.approx([wanted], abs=1e-12)
    assert abs(wanted - np.mean(peers.OPENVINO_XAI["adcc"])) > 0.02


_PARTS = {"coherency": "coherency", "complexity": "complexity", "drop": "average_drop"}


def test_by_hand(tmp_path: Path) -> None:
    """At each pixel the contribution is ln 2, ln 3, ln 5, -ln 10, and times the map."""
    found = by_hand(tmp_path)
    contribution = np.array([math.log(2), math.log(3), math.log(5), -math.log(10)])
    map_ = np.array([1, 0.5, 0, 0.25])
    coherent = (pearsonr(map_, contribution * map_)[0] + 1) / 2
    dense = 1.75 / 4
    odds = 2 * math.sqrt(3) / 10**0.25
    kept = odds / (1 + odds) / 0.75
    measured = create("adcc", {}).measure(found)
    assert measured["adcc:coherency"] == pytest.approx([coherent], abs=1e-6)
    assert measured["adcc:complexity"].tolist() == [dense]
    assert measured["adcc:drop"] == pytest.approx([1 - kept], abs=1e-6)
    assert measured["adcc"] == pytest.approx([3 / (1 / coherent + 1 / (1 - dense) + 1 / kept)], abs=1e-6)


def test_coherency_of_the_image_is_another_than_of_the_input(tmp_path: Path) -> None:
    """Black is -1: a pixel of map 0 turns black, and contributes -w."""
    weight = np.array([[[[1.0, 2.0, 3.0, 5.0]]], [[[0.0] * 4]]])
    explainer = linear.network(tmp_path / "net", weight, mean=(0.5,), std=(0.5,))
    map_ = np.array([1, 0.25, 0, 0.5])
    x = np.array([1, 0.5, 0, 1])
    found = case(explainer, x.reshape(1, 1, 1, 4), [0], map_.reshape(1, 1, 4))
    for how, seen in (("input", x * map_), ("image", x * map_ - (1 - map_))):
        wanted = (pearsonr(map_, weight[0].ravel() * seen)[0] + 1) / 2
        measured = create("coherency", {"masked": how}).measure(found)["coherency"]
        assert measured == pytest.approx([wanted], abs=1e-6)
        assert create("adcc", {"masked": how}).measure(found)["adcc:coherency"] == pytest.approx([wanted], abs=1e-6)


def test_coherency_explains_the_same_class_again(tmp_path: Path) -> None:
    """Masked, the image would be of the other class, whose map is the opposite."""
    weight = np.array([[[[1.0, 2.0, 4.0]]], [[[-1.0, -2.0, -4.0]]]])
    explainer = linear.network(tmp_path / "net", weight, [5, 0])
    found = case(explainer, -np.ones((1, 1, 1, 3)), [0], [[[0.0, 0.5, 1.0]]])
    assert found.logits.argmax(1).tolist() == [1]
    wanted = (pearsonr([0, 0.5, 1], [0, -1, -4])[0] + 1) / 2
    assert create("coherency", {}).measure(found)["coherency"] == pytest.approx([wanted], abs=1e-6)


def test_options_of_the_method_go_along(tmp_path: Path) -> None:
    """The second map is made as the first was: of softmax scores."""
    weight = np.array([[[[1.0, 3.0, 2.0]]], [[[1.0, -1.0, 0.0]]]])
    explainer = linear.network(tmp_path / "net", weight)
    method = ("reciprocam", {"score": "softmax"})
    found = explained(explainer, np.ones((1, 1, 1, 3)), 0, method=method)
    shares = [1 / (1 + math.exp(-z)) for z in (0, 4, 2)]
    heat = [(s - shares[0]) / (shares[1] - shares[0]) for s in shares]
    np.testing.assert_allclose(found.heatmaps[0, 0], heat, rtol=0, atol=1e-6)
    again = [1 / (1 + math.exp(-z * m)) for z, m in zip((0, 4, 2), heat, strict=True)]
    wanted = (pearsonr(heat, again)[0] + 1) / 2
    assert create("coherency", {}).measure(found)["coherency"] == pytest.approx([wanted], abs=1e-6)
    assert abs(wanted - (pearsonr(heat, np.multiply((0, 4, 2), heat))[0] + 1) / 2) > 1e-4


@pytest.mark.parametrize("count", [1, 3])
def test_constant_maps_have_no_coherency(tmp_path: Path, count: int) -> None:
    """A map of zeros leaves an input of zeros, whose map is constant too: 0, and so is ADCC; never NaN."""
    explainer = linear.network(tmp_path / "net", peers.weight())
    found = case(explainer, peers.inputs()[:count], peers.TARGET[:count], np.zeros((count, peers.HEIGHT, peers.WIDTH)))
    measured = create("adcc", {}).measure(found)
    assert measured["adcc"].tolist() == measured["adcc:coherency"].tolist() == [0] * count
    assert measured["adcc:complexity"].tolist() == [0] * count
    assert create("coherency", {}).measure(found)["coherency"].tolist() == [0] * count


def test_formula() -> None:
    """The harmonic mean, 0 as soon as one of the three is; 1/2, 1/3 and 1/4 give 3 / (2 + 3 + 4)."""
    assert adcc(*np.array([[0.5], [2 / 3], [0.75]])) == pytest.approx([1 / 3], abs=1e-15)
    assert adcc(*np.array([[1.0, 0, 1, 1, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 1]])).tolist() == [1, 0, 0, 0, 0]
    assert adcc(*np.array([[0.5], [1 + 1e-12], [0.5]])).tolist() == [0]  # a rounding beyond 1 must not give minus 0
    assert np.isnan(adcc(*np.array([[np.nan], [0.5], [0.5]]))).all()


def test_complexity_of_several_maps(tmp_path: Path) -> None:
    explainer = linear.network(tmp_path / "net", np.ones((2, 1, 2, 3)))
    heat = [[[0, 0, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]], [[1, 0, 0.5], [0, 0, 0.75]]]
    found = case(explainer, np.ones((3, 1, 2, 3)), [0, 0, 0], heat)
    assert create("complexity", {}).measure(found)["complexity"].tolist() == [0, 1, 0.375]
