"""Means by hand, intervals beside scipy's bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap  # type: ignore[import-untyped]

from xai_deploy.evaluation import summary
from xai_deploy.evaluation.metrics import Column

NAN = float("nan")
Numbers = NDArray[np.float64]

A, B = Column("a", "higher"), Column("b", "lower")


def ratio(means: Mapping[str, Numbers]) -> Numbers:
    return means["a"] / (means["b"] + 1)


BOTH = Column("ratio", "higher", of_means=ratio)


def row(value: float | None, network: int = 0, method: int = 0, **more: float | None) -> dict[str, Any]:
    return {"image": "x", "network": network, "method": method, "values": {"a": value, **more}}


def test_means_by_hand() -> None:
    rows = [row(1, b=None), row(None, b=None), row(2, b=8), row(6, b=2)]
    (group,) = summary.summarise(rows, [A, B, BOTH])
    a, b, both = (group.figures[name] for name in ("a", "b", "ratio"))
    assert [a.mean, a.count] == pytest.approx([3, 3])
    assert [b.mean, b.count] == pytest.approx([5, 2])
    assert [both.mean, both.count] == pytest.approx([3 / 6, 4])
    assert a.low is not None
    assert a.high is not None
    assert 1 <= a.low < 3 < a.high <= 6


def test_groups_in_order() -> None:
    """A row that lacks a column is as one whose figure is not defined; a column that nobody has is not there, one that nobody could
    fill is."""
    rows = [row(4, 1, 0), row(1, 0, 1), row(2, 0, 0), row(3, 0, 1, b=None), {**row(0, 1, 1), "values": {"b": 5.0}}]
    groups = summary.summarise(rows, [A, B])
    found = [(g.network, g.method, {name: (f.mean, f.count) for name, f in g.figures.items()}) for g in groups]
    assert found == [
        (0, 0, {"a": (2, 1)}),
        (0, 1, {"a": (2, 2), "b": (None, 0)}),
        (1, 0, {"a": (4, 1)}),
        (1, 1, {"b": (5, 1)}),
    ]


def test_too_few_for_an_interval() -> None:
    found = summary.figures({"a": np.array([3.0, NAN]), "b": np.array([NAN, NAN])}, [A, B, BOTH])
    assert found["a"] == summary.Figure(3.0, None, None, 1)
    assert found["b"] == summary.Figure(None, None, None, 0)
    assert found["ratio"] == summary.Figure(None, None, None, 2)


def test_equal_figures_have_no_spread() -> None:
    assert summary.figures({"a": np.full(7, 0.25)}, [A])["a"] == summary.Figure(0.25, 0.25, 0.25, 7)


def close(figure: summary.Figure, data: tuple[Numbers, ...], statistic: Callable[..., Any]) -> None:
    """Both ends within what 20,000 resamples leave uncertain: 2 % of the width, some four standard deviations."""
    other = bootstrap(
        data, statistic, paired=True, method="percentile", n_resamples=20_000, rng=np.random.default_rng(5), batch=1000
    ).confidence_interval
    slack = 0.025 * (other.high - other.low)
    assert figure.mean == pytest.approx(float(statistic(*data, axis=0)))
    assert figure.low == pytest.approx(other.low, abs=slack)
    assert figure.high == pytest.approx(other.high, abs=slack)


def test_intervals_beside_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skewed figures, undefined ones, and one made of two means, whose images are drawn together."""
    monkeypatch.setattr(summary, "RESAMPLES", 20_000)
    rng = np.random.default_rng(2)
    a = rng.exponential(size=60)
    b = a * 0.5 + rng.standard_normal(60) ** 2  # depends on a: drawn apart, the ratio would spread more
    b[rng.random(60) < 0.3] = NAN
    found = summary.figures({"a": a, "b": b}, [A, B, BOTH])
    assert (found["a"].count, found["b"].count, found["ratio"].count) == (60, int(np.isfinite(b).sum()), 60)
    close(found["a"], (a,), np.mean)
    close(found["b"], (b,), np.nanmean)
    close(found["ratio"], (a, b), lambda x, y, axis: np.mean(x, axis=axis) / (np.nanmean(y, axis=axis) + 1))


def test_the_intervals_are_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resampled at once or in parts, and from one run to the next; another seed gives others."""
    values = {"a": np.random.default_rng(1).random(50)}
    first = summary.figures(values, [A])["a"]
    assert summary.figures(values, [A], seed=1)["a"] != first
    monkeypatch.setattr(summary, "_BLOCK", 333)
    again = summary.figures(values, [A])["a"]
    assert (again.low, again.high) == pytest.approx((first.low, first.high), rel=1e-12)


def test_memory_of_the_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """More images do not make larger tables of counts, down to one resample at a time."""
    sizes = []
    means = summary._means

    def watch(times: Numbers, filled: Numbers, known: Any) -> Numbers:
        sizes.append(times.size)
        return means(times, filled, known)

    monkeypatch.setattr(summary, "_BLOCK", 5000)
    monkeypatch.setattr(summary, "RESAMPLES", 20)
    monkeypatch.setattr(summary, "_means", watch)
    summary.figures({"a": np.ones(900)}, [A])
    assert max(sizes) <= 5000
    assert sum(sizes[1:]) == 20 * 900
    summary.figures({"a": np.ones(9000)}, [A])
    assert max(sizes) == 9000
