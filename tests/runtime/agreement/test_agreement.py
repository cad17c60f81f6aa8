"""The figures of a check, by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.agreement import compare as agreement
from xai_deploy.agreement.compare import Explained, ImageAgreement, Limits
from xai_deploy.errors import NotApplicableError, ShapeError

from .. import small
from ..conftest import Bundles

Array = NDArray[np.float32]
RAMP = np.arange(20, dtype=np.float32).reshape(1, 4, 5)


def explained(logits: Any, maps: Any, probabilities: Any = None) -> Explained:
    scores = np.asarray(logits, np.float32)
    shares = scores if probabilities is None else np.asarray(probabilities, np.float32)
    return Explained(scores, shares, {"cam": np.asarray(maps, np.float32)})


def compare_maps(one: Any, other: Any) -> tuple[float, float]:
    """Rank correlation and overlap of two maps [1,h,w]."""
    (found,) = agreement.compare(["a"], explained([[1, 0]], one), explained([[1, 0]], other))
    return found.rank_correlation["cam"], found.top_overlap["cam"]


def test_an_image_by_hand() -> None:
    """Of 20 pixels two are the top tenth; the second and the third change places."""
    swapped = RAMP.copy()
    swapped[0, 3, 3], swapped[0, 3, 2] = 17, 18
    reference = explained([[0, 3, 1], [2, 1, 0]], [*RAMP, *RAMP], [[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]])
    deployed = explained([[0, 3, 1], [1, 2, 0]], [*swapped, *-RAMP], [[0.1, 0.5, 0.4], [0.25, 0.7, 0.05]])
    first, second = agreement.compare(["a.png", "b.png"], reference, deployed)
    assert (first.image, first.reference, first.deployed) == ("a.png", 1, 1)
    assert first.probability_difference == pytest.approx(0.2)
    assert first.rank_correlation == {"cam": pytest.approx(1 - 6 * 2 / (20 * 399))}  # 1 - 6 sum d^2 / (n^3 - n)
    assert first.top_overlap == {"cam": 0.5}
    assert (second.image, second.reference, second.deployed) == ("b.png", 0, 1)
    assert second.probability_difference == pytest.approx(0.35)  # of the reference's class, not of each one's own
    assert second.rank_correlation == {"cam": pytest.approx(-1)}
    assert second.top_overlap == {"cam": 0.0}


def test_only_the_order_of_pixels_counts() -> None:
    assert compare_maps(RAMP, np.exp(RAMP)) == pytest.approx((1, 1))


def test_equal_maps_agree_to_exactly_1() -> None:
    """Else a limit of 1 could not be met."""
    maps = np.random.default_rng(0).random((200, 7, 9), dtype=np.float32)
    for one in maps:
        assert compare_maps(one[None], one[None]) == (1, 1)


@pytest.mark.parametrize(
    ("one", "other", "expected"), [(0, 0, 1), (0, RAMP, 0), (RAMP, 0, 0), (0.5, 0, 0)], ids=["0=0", "0,x", "x,0", "c,0"]
)
def test_constant_maps(one: Any, other: Any, expected: float) -> None:
    assert compare_maps(RAMP * 0 + one, RAMP * 0 + other) == (expected, expected)


def test_another_size_is_resampled_to_the_references() -> None:
    fine = RAMP.repeat(2, axis=1).repeat(2, axis=2)  # halving it meets equal pixels alone
    assert compare_maps(RAMP, fine) == (1, 1)
    turned = np.rot90(fine, 2, (1, 2))
    assert compare_maps(RAMP, turned) == pytest.approx((-1, 0))


def test_other_numbers_of_classes_are_refused() -> None:
    message = "the reference has 2 classes, the deployed network 3; they can't be compared"
    with pytest.raises(ShapeError, match=re.escape(message)):
        agreement.compare(["a"], explained([[1, 0]], RAMP), explained([[1, 0, 0]], RAMP))


def row(i: int, same: bool = True, difference: float = 0.0, correlation: float = 1.0, overlap: float = 1.0) -> Any:
    return ImageAgreement(f"{i}", 3, 3 if same else 4, difference, {"cam": correlation}, {"cam": overlap})


def test_figures_by_hand() -> None:
    """Eleven images: the percentiles fall on the second and the tenth."""
    rows = [row(i, i != 5, i / 100, i / 10, 1 - i / 20) for i in range(11)]
    top1, difference, correlation, overlap = agreement.judge(rows, Limits(0.95, 0.2, 0.4, 0.8))
    assert (top1.name, top1.worst, top1.limit, top1.passed) == ("top-1 agreement", None, 0.95, False)
    assert top1.value == pytest.approx(10 / 11)
    assert (difference.name, difference.limit, difference.passed) == ("probability difference", 0.2, True)
    assert (difference.value, difference.worst) == pytest.approx((0.05, 0.09))
    assert (correlation.name, correlation.limit, correlation.passed) == ("cam: rank correlation", 0.4, True)
    assert (correlation.value, correlation.worst) == pytest.approx((0.5, 0.1))
    assert (overlap.name, overlap.limit, overlap.passed) == ("cam: top 10 % overlap", 0.8, False)
    assert (overlap.value, overlap.worst) == pytest.approx((0.75, 0.55))


BAD: dict[str, dict[str, Any]] = {
    "top1": {"same": False},
    "probability_difference": {"difference": 1.0},
    "rank_correlation": {"correlation": 0.0},
    "top_overlap": {"overlap": 0.0},
}


@pytest.mark.parametrize("field", BAD)
def test_a_limit_itself_passes_and_beyond_it_fails_that_figure_alone(field: str) -> None:
    rows = [row(i) for i in range(3)] + [row(3, **BAD[field])]
    limit = 0.25 if field == "probability_difference" else 0.75
    beyond = limit + (-0.01 if field == "probability_difference" else 0.01)
    generous = Limits(0, 1, 0, 0)
    assert all(figure.passed for figure in agreement.judge(rows, replace(generous, **{field: limit})))
    figures = agreement.judge(rows, replace(generous, **{field: beyond}))
    assert [figure.passed for figure in figures] == [name != field for name in BAD]


def test_each_method_has_figures_of_its_own() -> None:
    rows = [ImageAgreement("a", 0, 0, 0.0, {"cam": 1.0, "rise": 0.2}, {"cam": 1.0, "rise": 0.9})]
    verdicts = {figure.name: figure.passed for figure in agreement.judge(rows, Limits())}
    assert verdicts.pop("rise: rank correlation") is False
    assert all(verdicts.values())
    assert len(verdicts) == 5


def images(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8) for i in range(count)]


def test_the_reference_explains_what_it_predicts_and_the_deployed_the_same(bundles: Bundles) -> None:
    explainer = Explainer(bundles("pooled").path, "onnxruntime")
    methods: dict[str, agreement.Spec] = {"mine": ("reciprocam", {"score": "softmax"}), "cam": ("cam", {})}
    got = agreement.explain(explainer, images(3), methods)
    given = agreement.explain(explainer, images(3), methods, np.array([4, 0, 2]))
    for i, image in enumerate(images(3)):
        own = explainer.explain(image, "reciprocam", score="softmax")
        np.testing.assert_allclose(got.logits[i], own.logits[0], atol=1e-5)
        np.testing.assert_allclose(got.probabilities[i], own.outputs["scores"][0], atol=1e-6)
        np.testing.assert_allclose(got.heatmaps["mine"][i], own.heatmap[0], atol=1e-4)
        other = explainer.explain(image, "cam", target=[4, 0, 2][i])
        np.testing.assert_allclose(given.heatmaps["cam"][i], other.heatmap[0], atol=1e-4)
    assert list(got.heatmaps) == ["mine", "cam"]


def test_batches_change_nothing(bundles: Bundles, backend: str) -> None:
    path = bundles("pooled", gradients=True).path
    methods: dict[str, agreement.Spec] = {"a": ("reciprocam", {}), "b": ("grad-cam", {})}
    whole, *others = (
        agreement.explain(Explainer(path, backend, batch_size=size), images(7), methods) for size in (16, 1, 3)
    )
    for other in others:
        np.testing.assert_allclose(other.logits, whole.logits, atol=1e-5)
        for title in methods:
            np.testing.assert_allclose(other.heatmaps[title], whole.heatmaps[title], atol=1e-4)
        rows = agreement.compare(list("abcdefg"), whole, other)
        assert all(figure.value > 0.99 for figure in agreement.judge(rows, Limits()) if "difference" not in figure.name)


def test_one_output_says_yes_or_no() -> None:
    """Its only class is always the best one: what counts is on which side of one half it is."""
    yes, no = (
        explained([[s], [s], [-s]], RAMP.repeat(3, axis=0), [[p], [p], [1 - p]]) for s, p in ((2, 0.9), (-1, 0.3))
    )
    rows = agreement.compare(list("abc"), yes, no)
    assert [(row.reference, row.deployed) for row in rows] == [(1, 0), (1, 0), (0, 1)]
    assert [row.probability_difference for row in rows] == pytest.approx([0.6] * 3)
    [top1, *_] = agreement.judge([*rows, *agreement.compare(list("abc"), yes, yes)], Limits())
    assert (top1.value, top1.passed) == (0.5, False)


def test_one_output_that_is_no_probability(tmp_path: Path) -> None:
    explainer = Explainer(small.write(tmp_path / "net.xai", classes=1, activation=""))
    with pytest.raises(
        NotApplicableError, match=r"net\.xai: the network has a single output without a sigmoid; there is no"
    ):
        agreement.explain(explainer, images(1), {})


@pytest.mark.parametrize("classes", [1, 3])
def test_sigmoid_networks(tmp_path: Path, backend: str, classes: int) -> None:
    """A class's probability is its own logit's, also that of a single class, of which a softmax would say 1."""
    explainer = Explainer(small.write(tmp_path / "net.xai", classes=classes, activation="Sigmoid"), backend)
    got = agreement.explain(explainer, images(2), {"reciprocam": ("reciprocam", {})})
    np.testing.assert_allclose(got.probabilities, 1 / (1 + np.exp(-got.logits.astype(float))), atol=1e-6)
    own = explainer.explain(images(2)).outputs["scores"]
    np.testing.assert_allclose(got.probabilities, own, atol=1e-5)
    assert got.probabilities.shape == (2, classes)
