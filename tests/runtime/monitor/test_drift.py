"""Distances and probabilities: against scipy, and against their formulas."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats  # type: ignore[import-untyped]

from xai_deploy.monitor import drift


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 4), (7, 9), (30, 30), (50, 500), (500, 50)])
@pytest.mark.parametrize("shift", [0.0, 0.4, 2.0])
def test_kolmogorov_smirnov(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=n), rng.normal(shift, size=m)
    wanted = stats.ks_2samp(a, b, method="exact")
    distance = drift.ks_distance(a, b)
    assert distance == pytest.approx(wanted.statistic, abs=1e-12)
    assert drift.ks_probability(distance, n, m) == pytest.approx(wanted.pvalue, rel=1e-9, abs=1e-15)


def test_small_probabilities_keep_their_digits() -> None:
    """Two samples of 12 that do not overlap: 2 of the 24 choose 12 orders are as far apart."""
    assert drift.ks_probability(1.0, 12, 12) == pytest.approx(2 / math.comb(24, 12), rel=1e-12)
    assert 0 < drift.ks_probability(1.0, 100, 100) < 1e-57


def test_large_samples() -> None:
    for distance, n, m in itertools.product((0.01, 0.03, 0.05), (3000,), (2000, 40_000)):
        wanted = special.kolmogorov(distance * np.sqrt(n * m / (n + m)))
        assert drift.ks_probability(distance, n, m) == pytest.approx(wanted, rel=1e-6)


def test_ties() -> None:
    a, b = np.array([1.0, 1, 1, 2]), np.array([1.0, 2, 2, 2, 3])
    assert drift.ks_distance(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert drift.ks_distance(a, a) == 0
    assert drift.ks_probability(0.0, 4, 5) == 1


@pytest.mark.parametrize("degrees", [1, 2, 3, 8, 31])
@pytest.mark.parametrize("x", [0.0, 0.1, 3.0, 50.0, 400.0])
def test_chi_squared(x: float, degrees: int) -> None:
    assert drift.chi_squared_tail(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees), rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b"), [((30, 5), (20, 20)), ((500, 0), (47, 3)), ((8, 2), (1, 5)), ((0, 4), (5, 0)), ((10, 10), (10, 10))]
)
def test_two_bins(a: Any, b: Any) -> None:
    assert drift.homogeneity(np.array(a, float), np.array(b, float)) == pytest.approx(stats.fisher_exact([a, b])[1])


def test_several_bins() -> None:
    a, b = np.array([30.0, 5, 9, 40]), np.array([20.0, 20, 9, 0])
    assert drift.homogeneity(a, b) == pytest.approx(stats.chi2_contingency([a, b], correction=False)[1])


def test_psi() -> None:
    p, q = np.array([30.5, 5.5, 0.5]) / 36.5, np.array([20.5, 20.5, 2.5]) / 43.5
    wanted = sum((y - x) * math.log(y / x) for x, y in zip(p, q, strict=True))
    assert drift.psi(np.array([30.0, 5, 0]), np.array([20.0, 20, 2])) == pytest.approx(wanted)
    assert drift.psi(p * 100, p * 100) == 0


def test_holm() -> None:
    """Holm's own steps: p(1) * 4, then p(2) * 3, ..., none below the one before; at most 1."""
    assert drift.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert drift.holm([0.5, 0.6]) == [1, 1]
    assert drift.holm([]) == []


def test_ndcg() -> None:
    usual = np.array([0.5, 0.3, 0.2])
    assert drift.ndcg(usual, usual * 7) == 1
    turned = (0.2 / 1 + 0.3 / math.log2(3) + 0.5 / 2) / (0.5 / 1 + 0.3 / math.log2(3) + 0.2 / 2)
    assert drift.ndcg(usual, np.array([0.1, 0.4, 0.5])[[0, 1, 2]]) == pytest.approx(turned)


def test_how_low_ndcg_falls_by_chance() -> None:
    """Parts of one sample: their nDCG is that of `ndcg`, lower for smaller parts, and a window of the sample is among them."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.full(16, 0.05), 200)  # each map in one or two regions, as of a detector
    small, large, most = (drift.ndcg_by_chance(shares, size, 400) for size in (10, 40, 5000))
    for found in (small, large, most):
        assert found.shape == (400,)
        assert (np.diff(found) >= 0).all()
        assert 0 < found[0] < found[-1] <= 1
    assert small.mean() < large.mean() < most.mean()
    drawn = []
    for _ in range(400):
        order = rng.permutation(200)
        own, rest = shares[order[:40]].mean(axis=0), shares[order[40:]].mean(axis=0)
        discount = 1 / np.log2(np.arange(2, 18))
        drawn.append((rest[np.argsort(-own)] * discount).sum() / (np.sort(rest)[::-1] * discount).sum())
    np.testing.assert_allclose(np.quantile(large, [0.05, 0.5]), np.quantile(drawn, [0.05, 0.5]), atol=0.01)
    assert len(drift.ndcg_by_chance(shares[:1], 10, 5)) == 0


def test_pooled() -> None:
    """Bins by both samples together, none too small for the smaller one; nothing is lost."""
    rng = np.random.default_rng(0)
    a, b = rng.geometric(0.1, 400), rng.geometric(0.1, 80)
    own, other = drift.pooled(a, b)
    assert [own.sum(), other.sum()] == [400, 80]
    assert (own + other).min() >= 5 * 480 / 80
    assert len(own) > 5
    mixed = np.array(list("a" * 3 + "b" * 9 + "c" * 20 + "d" * 2 + "e" * 6))
    one, two = drift.pooled(mixed, mixed)  # from 10 on, in both together, a bin is full: c, b, e, and a with d
    assert (one.tolist(), two.tolist()) == ([20, 9, 6, 5], [20, 9, 6, 5])
    one, two = drift.pooled(mixed, mixed[mixed != "c"])
    assert (one.tolist(), two.tolist()) == ([20, 9, 11], [0, 9, 11])
    one, two = drift.pooled(np.zeros(500, bool), np.arange(50) < 3)
    assert (one.tolist(), two.tolist()) == ([500, 0], [47, 3])
    one, two = drift.pooled(np.zeros(500, bool), np.zeros(50, bool))
    assert (one.tolist(), two.tolist()) == ([500], [50])


def test_pooled_classes_are_judged_fairly() -> None:
    """Of one distribution with many rare classes: the probabilities are not smaller than they should be."""
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.full(300, 0.3))
    found = [
        drift.homogeneity(*drift.pooled(rng.choice(300, 500, p=shares), rng.choice(300, 60, p=shares)))
        for _ in range(400)
    ]
    for level in (0.01, 0.1, 0.5):
        assert np.mean(np.array(found) < level) < level + 3 * np.sqrt(level / 400)
