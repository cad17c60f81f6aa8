"""Weights that are interpolated from some of the masks: against processes that are solved again, and against all masks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy.errors import OptionError
from xai_deploy.methods.interpolated_weights import STEP, _Asked, _chosen, _Fit, _Setting, _Variance, interpolate
from xai_deploy.methods.scorecam import ScoreCam

Numbers = NDArray[np.float64]


def blobs(count: int, seed: int, side: int = 7) -> Numbers:
    """Activations of channels that each see a place, as ReLU leaves them, [K,P]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    where, wide = rng.uniform(0, side, (count, 2)), rng.uniform(0.7, 2.5, count)
    squares = (y - where[:, 0, None, None]) ** 2 + (x - where[:, 1, None, None]) ** 2
    maps = np.exp(-squares / (2 * wide[:, None, None] ** 2)) * rng.gamma(2, 1, count)[:, None, None]
    noisy: Numbers = np.maximum(maps + 0.1 * rng.normal(size=maps.shape), 0).reshape(count, -1)
    return noisy


def score(maps: Numbers, seed: int) -> Numbers:
    """A smooth, heavy-tailed function of the masks in [0,1]: high where a mask shows an object, [K]."""
    rng = np.random.default_rng(1000 + seed)
    low = maps.min(axis=1, keepdims=True)
    masks = (maps - low) / np.ptp(maps, axis=1)[:, None]
    seen = masks @ rng.dirichlet(np.full(maps.shape[1], 0.2))
    found: Numbers = 1 / (1 + np.exp(6 - 12 * seen))
    return found


def relative(weights: Numbers, truth: Numbers, maps: Numbers) -> float:
    exact = np.maximum(truth @ maps, 0)
    return float(np.linalg.norm(np.maximum(weights @ maps, 0) - exact) / np.linalg.norm(exact))


def test_few_masks_and_an_honest_error() -> None:
    correlations, covered = [], []
    for seed in range(20):
        maps = blobs(320, seed)
        truth = score(maps, seed)
        asked: list[int] = []

        def ask(masks: NDArray[np.int64], truth: Numbers = truth, asked: list[int] = asked) -> Numbers:
            asked.extend(masks)
            return truth[None, masks]

        found = interpolate(maps, ask, np.zeros(1), 48, None)
        assert (found.passes, len(asked), len(set(asked))) == (48, 48, 48)
        np.testing.assert_array_equal(found.weights[0, asked], truth[asked])
        exact, own = (np.maximum(weights @ maps, 0) for weights in (truth, found.weights[0]))
        correlations.append(np.corrcoef(exact, own)[0, 1])
        covered.append(found.errors[0] >= relative(found.weights[0], truth, maps))
    assert np.mean(correlations) > 0.99
    assert np.min(correlations) > 0.95
    assert np.mean(covered) >= 0.9


def test_until_the_tolerance_is_reached() -> None:
    maps = blobs(320, 5)
    truth = np.stack([score(maps, 5), score(maps, 6)])
    passes = []
    for tolerance in (0.8, 0.3, 0.02):
        found = interpolate(maps, lambda masks: truth[:, masks], np.zeros(2), None, tolerance)
        assert (found.errors <= tolerance).all()
        passes.append(found.passes)
    assert 3 * STEP == passes[0] <= passes[1] < passes[2] <= 320  # no error is believed before 12 masks were drawn
    least = interpolate(maps, lambda masks: truth[:, masks], np.zeros(2), 32, 1e-9)
    assert least.passes == 32
    assert (least.errors > 1e-9).all()


def test_no_way_but_all_masks() -> None:
    """Scores that follow no mask: half of them do not suffice, so that all are asked for; and there are no more than the budget."""
    maps = blobs(100, 7)
    truth = np.random.default_rng(7).uniform(size=(1, 100))
    asked: list[int] = []

    def ask(masks: NDArray[np.int64]) -> Numbers:
        asked.extend(masks)
        return truth[:, masks]

    found = interpolate(maps, ask, np.zeros(1), None, 1e-3)
    assert sorted(asked) == list(range(100))
    np.testing.assert_array_equal(found.weights, truth)
    assert (found.errors.tolist(), found.passes) == ([0], 100)
    small = interpolate(maps[:9], lambda masks: truth[:, masks], np.zeros(1), 16, None)
    np.testing.assert_array_equal(small.weights, truth[:, :9])
    assert small.errors.tolist() == [0]


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_of_either_sign_and_less(sign: int) -> None:
    """Logits are modelled as they are. What is subtracted from all weights changes the map that the error is of."""
    maps = blobs(200, 8)
    truth = sign * (20 * score(maps, 8)[None] - 3)
    plain = interpolate(maps, lambda masks: truth[:, masks], np.zeros(1), 64, None)
    less = interpolate(maps, lambda masks: truth[:, masks], np.full(1, -30.0), 64, None)
    np.testing.assert_array_equal(plain.weights, less.weights)
    assert np.corrcoef(plain.weights[0], truth[0])[0, 1] > 0.95
    assert less.errors[0] < plain.errors[0]


def test_equal_scores_and_equal_masks() -> None:
    maps = blobs(60, 9)
    found = interpolate(maps, lambda masks: np.full((1, len(masks)), 0.25), np.zeros(1), 16, None)
    np.testing.assert_allclose(found.weights, 0.25, atol=1e-9)
    assert found.errors[0] < 1e-6
    same = np.tile(maps[:1], (40, 1)) * np.arange(1, 41)[:, None]  # one mask, 40 times
    found = interpolate(same, lambda masks: np.full((1, len(masks)), 0.5), np.zeros(1), 16, None)
    np.testing.assert_allclose(found.weights, 0.5, atol=1e-9)


def test_the_process_is_the_one_of_the_book() -> None:
    """Mean, covariance and marginal likelihood by solving the equations again."""
    maps = blobs(50, 10)
    asked = _Asked(maps)
    asked.first(20)
    known, rest = asked.masks, [k for k in range(50) if k not in asked.masks]
    scores = score(maps, 10)[known]
    fit = _Fit(asked, scores, 0.0, _Setting())
    setting = fit.setting
    values = np.sqrt(scores)
    masks = (maps - maps.min(1, keepdims=True)) / np.ptp(maps, axis=1)[:, None]
    apart = np.sqrt(((masks[:, None] - masks) ** 2).sum(-1))
    apart /= np.sqrt(np.median(apart[np.triu_indices(50, 1)] ** 2))

    def kernel(length: float) -> Numbers:
        far = np.sqrt(5) * apart / length
        found: Numbers = (1 + far + far**2 / 3) * np.exp(-far)
        return found

    whole = kernel(setting.length)
    own, across = whole[np.ix_(known, known)] + setting.noise * np.eye(20), whole[:, known]
    mean = values.mean() + across @ np.linalg.solve(own, values - values.mean())
    np.testing.assert_allclose(fit.weights[rest], np.maximum(mean, 0)[rest] ** 2, atol=1e-9)
    covariance = whole - across @ np.linalg.solve(own, across.T)
    step = _Variance(whole, known[:12], setting.noise, maps)
    for mask in known[12:]:
        step.know(mask)
    for found in (step, _Variance(whole, known, setting.noise, maps)):
        np.testing.assert_allclose(found.values, np.diag(covariance), atol=1e-9)
        np.testing.assert_allclose(found.of_map(), np.trace(maps.T @ covariance @ maps), rtol=1e-9)
        more = rest[3]  # what is left when it is known, too
        all_known = [*known, more]
        larger = whole[np.ix_(all_known, all_known)] + setting.noise * np.eye(21)
        left = whole - whole[:, all_known] @ np.linalg.solve(larger, whole[all_known])
        np.testing.assert_allclose(found.taken()[more], np.trace(maps.T @ (covariance - left) @ maps), rtol=1e-7)

    def likelihood(length: float, noise: float) -> float:
        centred, matrix = values - values.mean(), kernel(length)[np.ix_(known, known)] + noise * np.eye(20)
        scale = centred @ np.linalg.solve(matrix, centred) / 20
        return float(-0.5 * (centred @ np.linalg.solve(scale * matrix, centred) + np.linalg.slogdet(scale * matrix)[1]))

    best = _chosen(asked.apart[np.ix_(known, known)], values - values.mean())
    table = [likelihood(length, noise) for length in (0.5, 1.0, 2.0, 4.0) for noise in (1e-3, 1e-1)]
    assert likelihood(best.length, best.noise) >= max(table) - 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 15}, "score-cam: budget is at least 16 inferences, not 15"),
        ({"tolerance": 0.0}, "score-cam: tolerance is above 0, not 0.0"),
        ({"tolerance": float("nan")}, "score-cam: tolerance is above 0, not nan"),
        (
            {"budget": 99, "channel_softmax": True, "score": "logit"},
            "score-cam: channel_softmax compares all channels; give no budget and no tolerance with it",
        ),
    ],
)
def test_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ScoreCam(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1e-36, 1e-16, 1e8])
def test_the_scores_scale_means_nothing(scale: float) -> None:
    """A class may have probabilities of 1e-30 under all masks: its weights, error and passes are as of any other."""
    maps = blobs(200, 11)
    truth = score(maps, 11)[None]
    found = interpolate(maps, lambda masks: truth[:, masks], np.full(1, 0.01), None, 0.3)
    scaled = interpolate(maps, lambda masks: scale * truth[:, masks], np.full(1, 0.01 * scale), None, 0.3)
    assert found.passes == scaled.passes < 200
    np.testing.assert_allclose(scaled.errors, found.errors, rtol=1e-6)
    np.testing.assert_allclose(scaled.weights / scale, found.weights, atol=1e-6 * truth.max())
