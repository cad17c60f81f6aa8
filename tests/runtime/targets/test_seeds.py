"""Seeds, and the targets that become seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer
from xai_deploy.errors import TargetError, UnknownLabelError
from xai_deploy.targets import CheckedTarget, Contrast, One, ScoreSpace, Seed, read

from .. import tiny
from ..conftest import Bundles

LABELS = ("cat", "dog", "cat vs dog", "bird", "7")
LOGITS = np.array([[1, 5, 3, 4, 2], [9, 1, 8, 0, 3]], np.float32)


def checked(target: Any, images: int = 2, labels: tuple[str, ...] = LABELS) -> CheckedTarget:
    [one] = read([target], images, ScoreSpace(5, labels))
    return one


def resolve(target: Any, labels: tuple[str, ...] = LABELS) -> Seed:
    return checked(target, labels=labels).seed(lambda: LOGITS)


SEEDS = {
    "class": Seed.of_class(np.array([3, 0])),
    "contrast": Seed.contrast(np.array([3, 0]), np.array([1, 4])),
    "by hand": Seed.of_weights(np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_a_seed_is_a_weighted_sum(kind: str) -> None:
    seed, rng = SEEDS[kind], np.random.default_rng(1)
    weight = seed.dense(5)
    assert weight.shape == (2, 5)
    assert weight.dtype == np.float32
    for between in ((), (4,), (3, 2)):
        scores = rng.standard_normal((2, *between, 5)).astype(np.float32)
        np.testing.assert_allclose(seed.of(scores), np.einsum("nc,n...c->n...", weight, scores), rtol=1e-5, atol=1e-6)
    rows = rng.standard_normal((5, 7)).astype(np.float32)
    np.testing.assert_allclose(seed.combine(rows), weight @ rows, rtol=1e-5, atol=1e-6)
    batch = seed.rows(np.array([1, 1, 0]))
    np.testing.assert_array_equal(batch.dense(5), weight[[1, 1, 0]])
    scores = rng.standard_normal((4, 5)).astype(np.float32)  # the seed of one image serves any number of rows
    np.testing.assert_allclose(seed.rows(np.array([1])).of(scores), scores @ weight[1], rtol=1e-5, atol=1e-6)
    assert seed.classes.dtype == seed.target.dtype == np.int64


def test_kinds_of_seeds() -> None:
    assert [seed.is_class for seed in SEEDS.values()] == [True, False, False]
    found = SEEDS["contrast"].versus
    assert found is not None
    assert found.tolist() == [1, 4]
    assert SEEDS["class"].versus is SEEDS["by hand"].versus is None


def test_a_contrast_does_not_depend_on_what_shares_its_batch(bundles: Bundles) -> None:
    """Beside every other kind, of more and of fewer terms, each image is as alone; another caption or class would be a lie."""
    explainer, x = Explainer(bundles("pooled").path, "onnxruntime"), tiny.inputs("pooled", 1)
    every: list[One] = ["0 vs 2", "not 1", 3, "4 vs top3", "3 vs top1", "1 vs 0.5*top1", "2 vs 0", None]
    alone = [explainer.explain(x, "reciprocam", one) for one in every]
    assert [one.versus is not None for one in alone] == [True, False, False, False, True, False, True, False]
    for order in (every, every[::-1], every[:3], every[2:5]):
        for batch in (16, 3):
            batched = Explainer(bundles("pooled").path, "onnxruntime", batch_size=batch)
            got = batched.explain(np.repeat(x, len(order), axis=0), "reciprocam", order)
            for i, one in enumerate(order):
                own = alone[every.index(one)]
                assert got.caption(i) == own.caption(0)
                assert got.target[i] == own.target[0]
                assert (-1 if got.versus is None else got.versus[i]) == (-1 if own.versus is None else own.versus[0])


def test_the_weight_of_a_single_class_counts() -> None:
    """A network of one class: its seed of weights looks like a class, and is not one."""
    seed = Seed.of_weights(np.array([[-2.0]], np.float32))
    assert not seed.is_class
    assert seed.of(np.array([[3.0]], np.float32)).tolist() == [-6]
    assert seed.combine(np.array([[1.0, 2.0]], np.float32)).tolist() == [[-2, -4]]


@pytest.mark.parametrize("weights", [[0.5, -1.0], [-2.0, -1.0], [1.0, -0.5]])
def test_a_seed_of_two_classes_is_no_contrast(weights: list[float]) -> None:
    assert Seed.of_weights(np.array([weights], np.float32)).versus is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cat vs dog", (2, None)),
        ("CAT VS DOG", (2, None)),
        ("dog vs Cat", (1, 0)),
        ("dog VS 3", (1, 3)),
        ("-1 vs 7", (1, 4)),  # label 7 is class 4
        ("cat vs dog vs bird", (2, 3)),
        ("bird vs cat vs dog", (3, 2)),
    ],
)
def test_a_text_as_a_contrast(text: str, wanted: tuple[int, int | None]) -> None:
    seed = checked(text, 1).seed(lambda: LOGITS[:1])
    assert seed.target.tolist() == [wanted[0]]
    assert (None if seed.versus is None else seed.versus.tolist()) == (None if wanted[1] is None else [wanted[1]])


def test_a_text_with_two_readings() -> None:
    with pytest.raises(TargetError, match="target 'a vs b vs c' can be read in 2 ways; give indices"):
        resolve("a vs b vs c", ("a", "b vs c", "a vs b", "c", "d"))


@pytest.mark.parametrize("text", [" vs dog", "cat vs ", " vs "])
def test_a_contrast_has_two_sides(text: str) -> None:
    with pytest.raises(UnknownLabelError, match=f"no label '{text}'"):
        resolve(text)


def test_numbers_beyond_float32() -> None:
    with pytest.raises(TargetError, match="NaN or infinity as float32"):
        resolve(np.array([1e300, 0, 0, 0, 0]))
    with pytest.raises(TargetError, match="all zeros as float32"):
        resolve(np.array([1e-300, 0, 0, 0, 0]))
    with pytest.raises(TargetError, match="all zeros"):
        resolve(np.array([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]))


def test_whole_numbers_are_classes_and_floats_a_seed() -> None:
    assert resolve([1, 2]).target.tolist() == [1, 2]
    assert resolve(np.array([1, 2])).is_class
    with pytest.raises(TargetError, match=r"a target is a class index or a label, not 0\.5"):
        resolve([0.5, 1.0])
    with pytest.raises(TargetError, match=r"\[5\] or \[2,5\]; these have shape \[3, 5\]"):
        resolve(np.ones((3, 5)))


def test_when_the_logits_are_needed() -> None:
    def refuse() -> Any:
        raise AssertionError("asked for the logits")

    free: list[Any] = [1, "cat", "cat vs 1", [0, Contrast(1, 2)], np.ones(5)]
    for target in free:
        assert not checked(target).needs_logits
        checked(target).seed(refuse)
    bound: list[Any] = [None, -1, "-1 vs 2", [0, None], [0, "1 vs -1"], "top1"]
    for target in bound:
        assert checked(target).needs_logits
        with pytest.raises(AssertionError):
            checked(target).seed(refuse)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        (
            "cat",
            "the nearest are 'tiger cat', 'Egyptian cat', 'cat food'",
        ),  # labels with the word, before those that look alike
        ("Cat, egyptian", "the nearest are 'Egyptian cat'"),
        ("crat", "the nearest are 'crate', 'castle', 'carton'"),
        ("...", "there are 6, such as 'crate', 'tiger cat', 'cat food'"),
    ],
)
def test_the_labels_nearest_to_a_wrong_one(text: str, there: str) -> None:
    labels = ("crate", "tiger cat", "cat food", "castle", "Egyptian cat", "carton")
    with pytest.raises(UnknownLabelError) as error:
        read([text], 1, ScoreSpace(len(labels), labels))
    assert str(error.value) == f"no label {text!r}; {there}"
