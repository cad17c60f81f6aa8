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


def table(figures: Mapping[int, Any], name: str = "a") -> list[dict[str, Any]]:
    """Rows of one network: method -> a figure per image."""
    return [
        {"image": f"{i}", "network": 0, "method": method, "values": {name: None if np.isnan(v) else float(v)}}
        for method, values in figures.items()
        for i, v in enumerate(values)
    ]


def ranked(rows: list[dict[str, Any]], column: Column = A) -> summary.Ranking | None:
    return summary.rank(rows, summary.summarise(rows, [column]), column)


def test_paired_differences_beside_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The intervals of both groups overlap by far; paired by image they don't meet 0. Lower is better: the sign turns."""
    monkeypatch.setattr(summary, "RESAMPLES", 20_000)
    rng = np.random.default_rng(4)
    one = rng.normal(0, 5, 40)
    other = one - 0.4 + rng.normal(0, 0.5, 40)
    one[3] = other[7] = NAN  # such images have no difference
    for sign, column in ((1, A), (-1, Column("a", "lower"))):
        found = ranked(table({0: sign * one, 1: sign * other}), column)
        assert found is not None
        assert (found.leader, found.best, found.level) == (0, True, frozenset({0}))
        apart = (one - other)[np.isfinite(one - other)]
        assert found.ahead[1].count == 38
        close(found.ahead[1], (apart,), np.mean)
        # unpaired, nobody could tell
        a, b = (summary.figures({"a": v}, [A])["a"] for v in (one, other))
        assert a.low is not None
        assert b.high is not None
        assert a.low < b.high


def test_paired_differences_of_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure made of means: the images of both groups are drawn together."""
    monkeypatch.setattr(summary, "RESAMPLES", 20_000)
    rng = np.random.default_rng(5)
    a, b = rng.exponential(size=(2, 50)), rng.exponential(size=(2, 50))
    a[1] = a[0] * 0.8
    rows = [
        {"image": str(i), "network": 0, "method": m, "values": {"a": a[m, i], "b": b[m, i]}}
        for m in (0, 1)
        for i in range(50)
    ]
    found = summary.rank(rows, summary.summarise(rows, [A, B, BOTH]), BOTH)
    assert found is not None

    def difference(*columns: Numbers, axis: int) -> Any:
        p, q, r, s = (c.mean(axis=axis) for c in columns)
        return p / (q + 1) - r / (s + 1)

    one, other = found.leader, 1 - found.leader
    close(found.ahead[other], (a[one], b[one], a[other], b[other]), difference)


def test_best_of_three() -> None:
    """Ahead of one, not clearly of the other: the two are level, none is best."""
    rng = np.random.default_rng(6)
    base = rng.normal(size=30)
    found = ranked(table({0: base - 2, 1: base + rng.normal(0, 1, 30), 2: base + rng.normal(0, 1, 30)}))
    assert found is not None
    assert (found.best, found.level) == (False, frozenset({1, 2}))


def test_no_best() -> None:
    """Of few images, of equal groups, of groups that differ by rounding, in a column without a better direction, of one group."""
    many, few = np.arange(12.0), np.arange(9.0)
    clear = ranked(table({0: many + 1, 1: many}))
    assert clear is not None
    assert clear.best
    for rows in (table({0: few + 1, 1: few}), table({0: many, 1: many}), table({0: many * (1 + 1e-8) + 1e-8, 1: many})):
        found = ranked(rows)
        assert found is not None
        assert (found.best, found.level) == (False, frozenset({0, 1}))
    assert ranked(table({0: many + 1, 1: many}), Column("a", "")) is None
    assert ranked(table({0: many})) is None
    assert ranked(table({0: many, 1: many * NAN})) is None


def test_how_often_an_equal_is_called_best() -> None:
    """Groups of the same distribution: in about one of twenty tables of two, in fewer of four."""
    rng = np.random.default_rng(7)
    for methods, most in ((2, 0.10), (4, 0.08)):
        wrong = []
        for _ in range(150):
            drawn = rng.normal(size=30) + rng.normal(size=(methods, 30))
            found = ranked(table(dict(enumerate(drawn))))
            assert found is not None
            wrong.append(found.best)
        assert np.mean(wrong) < most


def test_curves_of_older_rows() -> None:
    """Rows without curves do not count; curves are by name, then by group."""
    rows = table({0: [1.0, 2.0], 1: [1.0, 2.0]})
    for number, entry in enumerate(rows[1:]):
        entry["curves"] = {"deletion curve": [1.0, number / 4, 0.0]}
    found = summary.curves(rows, summary.summarise(rows, [A]))
    assert [(c.group, c.name, [p.mean for p in c.points], c.points[0].count) for c in found] == [
        (0, "deletion curve", [1, 0, 0], 1),
        (1, "deletion curve", [1, 0.375, 0], 2),
    ]
    assert summary.curves(rows[:1], summary.summarise(rows, [A])) == []
