"""The other direction of a class, as a user writes it: `negated.py`."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from xai_deploy import Contrast, Explainer, Not
from xai_deploy.errors import TargetError, UnknownClassError, UnknownLabelError
from xai_deploy.targets import ScoreSpace, read
from xai_deploy.targets.negated import _say_label

from .. import tiny
from ..conftest import Bundles

LABELS = ("cat", "dog, or wolf", "not cat", "7", "not")
LOGITS = np.array([[1, 5, 3, 4, 2], [9, 1, 8, 0, 3]], np.float32)


def weights(target: Any, labels: tuple[str, ...] = LABELS) -> list[list[list[float]]]:
    """The seed of each target that a text stands for, a weight per class."""
    return [one.seed(lambda: LOGITS).dense(5).tolist() for one in read([target], 2, ScoreSpace(5, labels))]


def minus(*classes: int) -> list[list[float]]:
    return (-np.eye(5)[list(classes)]).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("not dog, or wolf", (1, 1)),
        ("NOT Dog, or Wolf", (1, 1)),
        ("not 0", (0, 0)),
        ("not 7", (3, 3)),  # a label goes before an index
        ("not not cat", (2, 2)),
        ("not not", (4, 4)),
        ("not -1", (1, 0)),
        (Not("cat"), (0, 0)),
        (Not(3), (3, 3)),
        (Not(np.int64(3)), (3, 3)),  # type: ignore[arg-type]
        (Not(None), (1, 0)),
        ([Not(2), "not 0"], (2, 0)),
    ],
    ids=str,
)
def test_readings(target: Any, wanted: tuple[int, int]) -> None:
    assert weights(target) == [minus(*wanted)]


def test_against_the_best_classes() -> None:
    assert weights("not top2") == weights(Not("top2")) == [minus(1, 0), minus(3, 2)]


def test_a_label_means_itself(caplog: pytest.LogCaptureFixture) -> None:
    """And the user is told once that it could have meant something else."""
    _say_label.cache_clear()
    unit = np.eye(5)
    for text in ("not cat", "Not Cat", "not"):
        [[row, _]] = weights(text)
        assert row == unit[4 if text == "not" else 2].tolist()
    assert weights("not cat") == [[unit[2].tolist()] * 2]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "target 'not cat' is the label of that name; for what speaks against 'cat' give its index",
        "target 'Not Cat' is the label of that name; for what speaks against 'Cat' give its index",
    ]


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("not dgo, or wolf", UnknownLabelError, "no label 'dgo, or wolf'; the nearest are 'dog, or wolf'"),
        ("not 5", UnknownClassError, "class 5 does not exist; the network has classes 0 to 4"),
        (Not(-2), UnknownClassError, "class -2 does not exist"),
        ("not ", UnknownLabelError, "no label 'not '"),
        ("not top6", UnknownClassError, "target 'top6': the network has 5 classes"),
        (
            "not 0 vs 1",
            TargetError,
            "target 'not 0 vs 1': a contrast is turned round by swapping its sides, not by 'not'",
        ),
        (Not(Contrast(0, 1)), TargetError, "not: takes a class index or a label, not Contrast.*swapping its sides"),
        (Not(Not(0)), TargetError, r"not: takes a class index or a label, not Not\(target=0\)"),
        (Not(0.5), TargetError, "a target is a class index or a label, not 0.5"),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_refusals(target: Any, error: type[TargetError], message: str) -> None:
    with pytest.raises(error, match=message):
        weights(target)


def test_a_contrast_of_labels_that_begin_so() -> None:
    assert weights("not cat vs cat") == [[[-1, 0, 1, 0, 0]] * 2]


def test_what_the_explanation_says(bundles: Bundles) -> None:
    """In one chunk and in several, beside classes and contrasts."""
    x = tiny.inputs("pooled", 4)
    for batch_size in (1, 3, 16):
        explainer = Explainer(bundles("pooled").path, "onnxruntime", batch_size=batch_size)
        e = explainer.explain(x, "cam", ["not beagle", 1, "0 vs 2", Not(0)])
        assert e.target.tolist() == [2, 1, 0, 0]
        assert e.sign.tolist() == [-1, 1, 1, -1]
        assert e.sign.dtype == np.int8
        assert e.versus is not None
        assert e.versus.tolist() == [-1, -1, 2, -1]
    assert explainer.explain(x, "cam", 1).sign.tolist() == [1] * 4


def test_metrics_are_of_one_class(bundles: Bundles) -> None:
    """`xai-evaluate` scores how a class's probability falls, which "not" has no part in."""
    [target] = read(["not 0"], 1, ScoreSpace(5))
    assert target.classes is None
