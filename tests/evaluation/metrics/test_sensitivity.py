"""Class sensitivity and the sanity check: by hand, and against SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr  # type: ignore[import-untyped]

from xai_deploy.errors import NotApplicableError
from xai_deploy.evaluation.metrics import Case, create

from . import linear, peers
from .linear import explained

WEIGHT = np.array([[[[1.0, 2, 3, 4]]], [[[7, 9, 9, 7]]], [[[-3, -6, -9, -12.0]]]])


def sensitivity(found: Case) -> list[float]:
    return [float(value) for value in create("class-sensitivity", {}).measure(found)["class-sensitivity"]]


def test_most_and_least_likely_by_hand(tmp_path: Path) -> None:
    """Image 0: classes 1 and 2, uncorrelated; image 1, its negative: 2 and 1; whatever class is explained. With a bias of 100
    class 0 is the likeliest, class 2 its negative: -1."""
    x = np.ones((2, 1, 1, 4))
    x[1] = -1
    plain = linear.network(tmp_path / "plain", WEIGHT)
    for target in (None, 0, [1, 2]):
        assert sensitivity(explained(plain, x, target)) == pytest.approx([0, 0], abs=1e-6)
    biased = linear.network(tmp_path / "biased", WEIGHT, [100, 0, 0])
    assert sensitivity(explained(biased, x)) == pytest.approx([-1, 0], abs=1e-6)
    same = linear.network(tmp_path / "same", WEIGHT[[0, 0]], [1, 0])
    assert sensitivity(explained(same, x)) == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_against_scipy(tmp_path: Path, layout: str) -> None:
    x = peers.inputs()
    explainer = linear.network(tmp_path / "net", peers.weight(), peers.BIAS, layout=layout)  # type: ignore[arg-type]
    found = explained(explainer, x if layout == "NCHW" else np.moveaxis(x, 1, -1))
    logits = (peers.weight()[None] * x[:, None]).sum((2, 3, 4)) + peers.BIAS
    most, least = (peers.maps(x, rank) for rank in (logits.argmax(1), logits.argmin(1)))
    wanted = [pearsonr(a.ravel(), b.ravel())[0] for a, b in zip(most, least, strict=True)]
    assert sensitivity(found) == pytest.approx(wanted, abs=1e-6)


def test_constant_maps(tmp_path: Path) -> None:
    explainer = linear.network(tmp_path / "net", WEIGHT)
    assert np.isnan(sensitivity(explained(explainer, np.zeros((1, 1, 1, 4))))).all()


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_one_class(tmp_path: Path, activation: str) -> None:
    explainer = linear.network(tmp_path / "net", WEIGHT[:1], activation=activation)  # type: ignore[arg-type]
    with pytest.raises(
        NotApplicableError, match="class-sensitivity: the network has a single class; leave this metric out"
    ):
        sensitivity(explained(explainer, np.ones((1, 1, 1, 4))))


def test_sanity_by_hand(tmp_path: Path) -> None:
    """The ranks 1 2 3 4 beside 1 2 4 3, then 4 3 2 1, then four equal ones: 1 - 6 * 2 / (4 * 15) = 0.8, -1, none."""
    networks = [
        linear.network(tmp_path / str(i), np.array([[[w]], [[[0.0] * 4]]]))
        for i, w in enumerate(([1, 2, 3, 4], [1, 2, 40, 30], [4, 3, 2, 1], [1, 1, 1, 1]))
    ]
    found = explained(networks[0], np.ones((2, 1, 1, 4)), 0, randomised=networks[1:])
    result = create("sanity", {}).measure(found)
    assert list(result) == [column.name for column in create("sanity", {}).columns(3)]
    assert list(result) == ["sanity-1", "sanity-2", "sanity-3"]
    assert result["sanity-1"] == pytest.approx([0.8, 0.8], abs=1e-12)
    assert result["sanity-2"] == pytest.approx([-1, -1], abs=1e-12)
    assert np.isnan(result["sanity-3"]).all()


def test_sanity_keeps_the_class_explained(tmp_path: Path) -> None:
    """The randomised network would predict another class; against SciPy, with ties."""
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 4, (2, 2, 1, 5, 6)).astype(float)
    networks = [
        linear.network(tmp_path / str(i), w, bias)
        for i, (w, bias) in enumerate(zip(weights, ([9, 0], [0, 9]), strict=True))
    ]
    found = explained(networks[0], np.ones((1, 1, 5, 6)), None, randomised=networks[1:])
    wanted = spearmanr(weights[0, 0].ravel(), weights[1, 0].ravel())[0]
    assert create("sanity", {}).measure(found)["sanity-1"] == pytest.approx([wanted], abs=1e-12)
