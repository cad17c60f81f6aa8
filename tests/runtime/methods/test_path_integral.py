"""Points where the score bends: against integrals in closed form, torch's gradients in float64, and the budget."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from xai_deploy import Explainer
from xai_deploy.backends.backend import Tensor
from xai_deploy.errors import OptionError
from xai_deploy.guarded_session import GuardedSession
from xai_deploy.methods import create
from xai_deploy.methods.path_integral import FIRST, At, Numbers, integrate

from .. import tiny
from ..conftest import Bundles
from .test_gradient_methods import input_gradient, planes


def kinked(places: Numbers, asked: list[float]) -> At:
    """sum_k max(a - places_k, 0): a slope of one step per place, as of a network of ReLUs."""

    def at(points: Numbers) -> tuple[Numbers, Numbers]:
        asked.extend(points)
        steps = (points[:, None] > places).astype(np.float64)
        return steps, np.maximum(points[:, None] - places, 0).sum(axis=1)

    return at


@pytest.mark.parametrize("places", [[0.3], [0.91, 0.913], [0.1, 0.5, 0.77, 0.99]])
def test_kinks_against_the_closed_form(places: list[float]) -> None:
    asked: list[float] = []
    found = integrate(kinked(np.array(places), asked), 1e-3, 200)
    np.testing.assert_allclose(found.value, 1 - np.array(places), atol=3e-3 * (1 - np.array(places)).sum())
    assert found.error <= 1e-3
    assert found.points == len(asked) == len(set(asked)) < 60
    even = np.linspace(0, 1, found.points)
    slopes = (even[:, None] > places).sum(axis=1)
    score = (1 - np.array(places)).sum()
    uniform = abs((slopes[1:] + slopes[:-1]).sum() / 2 / (len(even) - 1) - score) / score
    assert found.error < uniform


@pytest.mark.parametrize("scale", [1e-30, 1e-14, 1e10])
def test_the_scores_scale_means_nothing(scale: float) -> None:
    """The error is a share of the score's change, however small the score is: a probability may be 1e-30."""
    places = np.array([0.1, 0.5, 0.77])

    def at(by: float) -> At:
        def scaled(points: Numbers) -> tuple[Numbers, Numbers]:
            slopes, scores = kinked(places, [])(points)
            return np.asarray(by * slopes, np.float64), by * scores

        return scaled

    found, scaled = (integrate(at(by), 1e-3, 200) for by in (1.0, scale))
    assert scaled.points == found.points > FIRST
    assert scaled.error == pytest.approx(found.error, rel=1e-6, abs=1e-12)
    np.testing.assert_allclose(scaled.value / scale, found.value, rtol=1e-6)


def test_a_straight_line_takes_the_first_points() -> None:
    found = integrate(lambda a: (np.stack([a * 0 + 2, a * 0 - 5], 1), 7 - 3 * a), 1e-9, 100)
    assert (found.points, found.first, found.error) == (FIRST, 7, 0)
    np.testing.assert_allclose(found.value, [2, -5])


def test_errors_that_cancel_do_not_end_it() -> None:
    """sin(2 pi a) + 4 a: by symmetry the intervals' errors sum to 0, and each is large."""
    found = integrate(
        lambda a: ((2 * np.pi * np.cos(2 * np.pi * a) + 4)[:, None], np.sin(2 * np.pi * a) + 4 * a), 0.01, 400
    )
    assert found.points > 2 * FIRST


def test_the_budget_ends_it_and_is_kept() -> None:
    asked: list[float] = []
    found = integrate(kinked(np.random.default_rng(0).random(50), asked), 1e-9, 21)
    assert found.points == len(asked) == 21
    assert found.error > 1e-9


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["residual", "nhwc"])
def test_against_torch(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    """The map of 300 points in torch, the gap of the map itself; each image by itself."""
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, count)
    explainer = Explainer(net.path, backend, batch_size=3)
    seed = np.tile(np.eye(tiny.CLASSES)[2] - np.eye(tiny.CLASSES)[0], (count, 1))
    found = explainer.explain(x, "integrated-gradients", "2 vs 0", tolerance=0.005)
    high, low = ((net.logits(one).numpy() * seed).sum(axis=1) for one in (x, np.zeros_like(x)))
    way = np.mean([input_gradient(net, x * a, seed) for a in (np.arange(300) + 0.5) / 300], axis=0)
    for i, wanted in enumerate((way * planes(kind, x)).sum(axis=1)):
        assert np.linalg.norm(found.raw[i] - wanted) < 0.08 * np.linalg.norm(wanted)
        gap = abs(found.raw[i].sum() - (high - low)[i]) / abs((high - low)[i])
        assert gap <= 0.005 + 1e-4
        np.testing.assert_allclose(found.diagnostics["gap"][i], gap, atol=1e-4)
        np.testing.assert_allclose(found.diagnostics["baseline"][i], low[i], atol=1e-5)
        alone = explainer.explain(x[i : i + 1], "integrated-gradients", "2 vs 0", tolerance=0.005)
        assert alone.diagnostics["passes"] == found.diagnostics["passes"][i : i + 1]
        np.testing.assert_allclose(alone.raw[0], found.raw[i], atol=1e-4 * np.abs(wanted).max())


def test_a_budget_too_small_is_said(bundles: Bundles, caplog: pytest.LogCaptureFixture) -> None:
    explainer = Explainer(bundles("residual", gradients=True).path, "onnxruntime")
    with caplog.at_level(logging.WARNING):
        found = explainer.explain(tiny.inputs("residual", 2), "integrated-gradients", 1, tolerance=1e-7, budget=7)
    assert found.diagnostics["passes"] == (14.0, 14.0)
    assert "%; the tolerance is 1e-07; give a larger budget (now 7)" in caplog.text
    few = explainer.explain(tiny.inputs("residual", 1), "integrated-gradients", 1, steps=4)
    assert few.diagnostics["passes"] == (10.0,), "four points, and the baseline"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, r"integrated-gradients: tolerance is above 0, not 0\.0"),
        ({"tolerance": "nan"}, "tolerance"),
        ({"tolerance": 0.1, "steps": 20}, "tolerance finds the steps; leave one of the two out"),
        ({"budget": 20}, "budget is the most points up to a tolerance; give tolerance with it"),
        ({"tolerance": 0.1, "budget": 4}, "budget is at least 5 points, not 4"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create("integrated-gradients", options)


def test_one_run_gives_the_logits_and_the_gradient(
    bundles: Bundles, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of each graph's runs: the image is the path's last point, and its logits come from that point's run."""
    explainer, x = (
        Explainer(bundles("residual", gradients=True).path, backend, batch_size=3),
        tiny.inputs("residual", 1),
    )
    explainer.explain(x, "gradient", 1)  # a graph's first run is compared with one of the tail
    rows: Counter[str] = Counter()
    run = GuardedSession.run

    def counted(self: GuardedSession, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        rows[self._role] += max(tensor.shape[0] for tensor in feeds.values())
        return run(self, feeds, fetch)

    monkeypatch.setattr(GuardedSession, "run", counted)
    found = explainer.explain(x, "integrated-gradients", 1, tolerance=0.01)
    assert rows == {"input-gradient": found.diagnostics["passes"][0] / 2}
    assert rows["input-gradient"] > FIRST, "some intervals are halved"
    rows.clear()
    explainer.explain(x, "integrated-gradients", 1, steps=4)
    assert rows == {"input-gradient": 4 + 2}, (
        "the logits of image and baseline come from that graph: no other is opened"
    )
