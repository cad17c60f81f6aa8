"""What methods of masks say of a score that no mask changes; the network is linear, so its scores are written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ...evaluation.metrics import linear

SIDE = 6
METHODS: dict[str, dict[str, Any]] = {
    "rise": {"masks": 20, "cells": 3},
    "occlusion": {"size": 2, "stride": 2},
    "lime": {"segments": "grid:3", "samples": 30},
    "kernel-shap": {"segments": "grid:3", "samples": 40},
    "partition-shap": {"segments": "grid:3"},
    "score-cam": {},
    "score-cam:budget": {"budget": 16},
    "ablation-cam": {},
    "ss-cam": {"samples": 3},
    "is-cam": {"samples": 3},
}
SAID = "the score stays the same whatever is hidden, but for rounding, in {} of {} maps"


def explain(folder: Path, name: str, weight: Any, x: Any, backend: str, score: str = "logit") -> Any:
    explainer = linear.network(folder / "net", weight, [1.0, 2.0], backend=backend)
    return explainer.explain(x, name.partition(":")[0], 1, score=score, **METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_a_score_that_nothing_changes(
    tmp_path: Path, name: str, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Class 1 is 2 whatever the network sees, though its channels vary; its probability as well."""
    x = np.random.default_rng(0).random((2, 3, SIDE, SIDE)).astype(np.float32)
    nothing = np.zeros((2, 3, SIDE, SIDE))
    for score in ("logit", "probability"):
        caplog.clear()
        found = explain(tmp_path / score, name, nothing, x, backend, score)
        assert found.diagnostics["score_range"] == (0.0, 0.0)
        assert SAID.format(2, 2) in caplog.text
        assert ("score='logit' may tell more" in caplog.text) is (score == "probability")


@pytest.mark.parametrize("name", METHODS)
def test_of_each_image(tmp_path: Path, name: str, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """The second image has nothing that can be hidden where the network looks; the first has."""
    weight = np.zeros((2, 3, SIDE, SIDE))
    weight[1, 0] = np.random.default_rng(1).random((SIDE, SIDE))  # LIME's segments hide behind their own mean
    x = np.random.default_rng(0).random((2, 3, SIDE, SIDE)).astype(np.float32)
    x[1, 0] = 0
    found = explain(tmp_path, name, weight, x, backend)
    first, second = found.diagnostics["score_range"]
    assert first > 0.1
    assert second == 0
    assert SAID.format(1, 2) in caplog.text


def test_the_range(tmp_path: Path, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Occlusion sees the whole image, and each of nine patches hidden."""
    x = np.random.default_rng(0).random((1, 1, SIDE, SIDE)).astype(np.float32)
    weight = np.random.default_rng(1).standard_normal((2, 1, SIDE, SIDE))
    patches = (weight[1, 0] * x[0, 0]).reshape(3, 2, 3, 2).sum(axis=(1, 3)).ravel()
    scores = np.append(patches.sum() - patches, patches.sum())
    [told] = explain(tmp_path, "occlusion", weight, x, backend).diagnostics["score_range"]
    assert told == pytest.approx(np.ptp(scores), rel=1e-5)
    assert not caplog.records


@pytest.mark.parametrize(("change", "same"), [(1e-8, True), (1e-5, False)])
def test_rounding(tmp_path: Path, change: float, same: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What changes less than float32 holds is rounding, as a share of the score's size."""
    weight = np.full((2, 1, SIDE, SIDE), change)
    explain(tmp_path, "rise", weight, np.ones((1, 1, SIDE, SIDE), np.float32), "onnxruntime")
    assert ("the score stays the same" in caplog.text) is same


def test_one_mask_shows_no_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of one score nobody knows whether it changes."""
    explainer = linear.network(tmp_path / "net", np.ones((2, 1, SIDE, SIDE)), [1.0, 2.0])
    explainer.explain(np.ones((1, 1, SIDE, SIDE), np.float32), "rise", 1, score="logit", masks=1, cells=3)
    assert not caplog.records
