"""LIME and the SHAP family up to a tolerance: the map of so many samples, the error by hand, and the first samples of a seed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from xai_deploy import Explainer
from xai_deploy.errors import OptionError
from xai_deploy.methods import create
from xai_deploy.methods.hiding import drawn
from xai_deploy.methods.kernelshap import KernelShap

from .. import tiny
from ..conftest import Bundles

MORE: dict[str, dict[str, Any]] = {"lime": {"score": "logit"}, "kernel-shap": {"score": "logit"}}


@pytest.mark.parametrize("method", list(MORE))
def test_each_map_gets_what_it_needs(bundles: Bundles, backend: str, method: str) -> None:
    x, options = tiny.inputs("residual", 3), {**MORE[method], "segments": "grid:4"}
    path = bundles("residual").path
    found, other = (
        Explainer(path, backend, batch_size=size).explain_many(
            x, [(method, {**options, "samples": 600, "tolerance": 0.12})], [0, 3]
        )
        for size in (7, 64)
    )
    seen, explainer, beside = set(), Explainer(path, backend), 2 if method == "kernel-shap" else 0
    for explanation, again in zip(found, other, strict=True):
        np.testing.assert_allclose(explanation.raw, again.raw, rtol=0, atol=1e-4 * np.abs(again.raw).max())
        for i in range(3):
            said = {name: values[i] for name, values in explanation.diagnostics.items()}
            samples = int(said["passes"]) - beside
            seen.add(samples)
            assert samples % 64 == 0 or samples == 600
            assert said["relative_error"] <= 0.12 or samples == 600
            alone = explainer.explain(x[i], method, int(explanation.target[i]), samples=samples, **options)
            np.testing.assert_allclose(explanation.raw[i], alone.raw[0], rtol=0, atol=1e-4 * np.abs(alone.raw).max())
            values = alone.raw[0].astype(np.float64)
            if method == "kernel-shap":  # each segment's value is divided among its pixels
                values = values * 20
            corners = values[::4, ::5]
            by_hand = said["standard_error"] / np.sqrt((corners**2).mean())
            np.testing.assert_allclose(said["relative_error"], by_hand, rtol=2e-3)
    assert min(seen) < 600


def test_the_first_pairs_do_not_depend_on_their_number() -> None:
    (few, _), (many, _) = (KernelShap(samples=samples)._drawn(9) for samples in (40, 400))
    np.testing.assert_array_equal(few, many[:20])
    assert not np.array_equal(many[:20], many[20:40])


def test_groups_are_split_up_to_a_tolerance(bundles: Bundles) -> None:
    explainer, x = Explainer(bundles("residual").path, "onnxruntime"), tiny.inputs("residual", 2)
    spec: dict[str, Any] = {"segments": "grid:4", "score": "logit"}
    every = explainer.explain(x, "partition-shap", 1, samples=400, **spec)
    found = explainer.explain(x, "partition-shap", 1, samples=400, tolerance=0.5, **spec)
    for i in range(2):
        assert 0 < found.diagnostics["unsplit"][i] <= 0.5
        assert found.diagnostics["passes"][i] < every.diagnostics["passes"][i] <= 402
        samples = int(found.diagnostics["passes"][i]) - 2
        alone = explainer.explain(x[i], "partition-shap", 1, samples=samples, **spec)
        np.testing.assert_allclose(alone.raw[0], found.raw[i], rtol=0, atol=1e-5 * np.abs(found.raw[i]).max())


@pytest.mark.parametrize("method", [*MORE, "partition-shap"])
@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan")])
def test_refusals(method: str, tolerance: float) -> None:
    with pytest.raises(OptionError, match=f"{method}: tolerance is above 0, not|{method}.tolerance: expected"):
        create(method, {"tolerance": tolerance})


@pytest.mark.parametrize("method", ["rise", *MORE, "partition-shap", "score-cam"])
def test_a_tolerance_that_is_not_reached_is_said(
    bundles: Bundles, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    most = {"rise": {"masks": 70}, "score-cam": {"budget": 16}}.get(method, {"samples": 40, "segments": "grid:4"})
    found = Explainer(bundles("residual").path, "onnxruntime").explain(
        tiny.inputs("residual", 2), method, 1, score="logit", tolerance=1e-4, **most
    )
    [name] = found.diagnostics.keys() & {"relative_error", "unsplit"}
    said = f"{method}: the stated error is {max(found.diagnostics[name]):.3g}, above the tolerance 0.0001; give more "
    exact = max(found.diagnostics[name]) == 0  # the tiny network has few channels
    assert (said in caplog.text) == (not exact)
    assert exact == (method == "score-cam")


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e-44])
def test_the_error_of_small_scores(scale: float) -> None:
    """It is a share of the values: 1/4 of them here, for a class whose probability is 1e-44 (float32's least), too."""
    forward = SimpleNamespace(progress=lambda items, most, label: (item for item in items))
    image = SimpleNamespace(forward=forward, seen=SimpleNamespace(targets=1), count=2, which="")
    image.scores = lambda rows, tick: np.zeros((1, len(rows)))

    def fit(rows: Any, scores: Any) -> Any:
        return np.array([[3.0, -4.0]]) * scale, np.array([[0.75, 1.0]]) * scale

    found = drawn("lime", cast(Any, image), np.ones((8, 2), bool), 4, None, fit)
    assert found.said["relative_error"].tolist() == pytest.approx([0.25])
