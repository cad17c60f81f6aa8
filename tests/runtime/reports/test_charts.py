"""The geometry of charts: back from the pixels to the values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from xai_deploy.reports import charts

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((0, 1), (0, 0.2, 0.4, 0.6, 0.8, 1)),
        ((0.13, 0.87), (0, 0.2, 0.4, 0.6, 0.8, 1)),
        ((-0.3, 0.9), (-0.5, 0, 0.5, 1)),
        ((12, 61), (10, 20, 30, 40, 50, 60, 70)),
        ((0.9213, 0.9287), (0.92, 0.922, 0.924, 0.926, 0.928, 0.93)),
    ],
)
def test_axis_by_hand(values: tuple[float, ...], ticks: tuple[float, ...]) -> None:
    found = charts.axis(values)
    assert found.ticks == pytest.approx(ticks)
    assert (found.low, found.high) == (found.ticks[0], found.ticks[-1])


def test_axes_hold_their_values() -> None:
    """Of any size, one value alone, or all equal; a tick's text is the tick."""
    for scale in 10.0 ** np.arange(-7, 8):
        for values in (RNG.normal(size=5) * scale, [0.3 * scale], [-scale] * 3, [0.0], [1 / 3, 1 / 3 + 1e-12]):
            found = charts.axis(list(values))
            assert found.low <= min(values) <= max(values) <= found.high
            assert 2 <= len(found.ticks) <= 12
            step = found.ticks[1] - found.ticks[0]
            for tick in found.ticks:
                assert float(found.text(tick)) == pytest.approx(tick, abs=1e-6 * step)
                assert found.text(tick).lstrip("-") != "-" + found.text(0).lstrip("-")
            assert found.percent(found.low) == 0
            assert found.percent(found.high) == 100
            assert found.percent(found.low - 1e9) == 0


def test_dots() -> None:
    rows = [charts.Dot("a", 0.4, 0.2, 0.7), charts.Dot("b", None)]
    chart = charts.dots("title", rows)
    assert chart.axis.percent(0.4) == pytest.approx(
        100 * (0.4 - chart.axis.low) / (chart.axis.high - chart.axis.low), abs=0.01
    )
    assert charts.dots("nothing", [charts.Dot("a", None)]).axis.ticks[0] == 0


def test_histogram() -> None:
    """Each value in its bin, none lost, the highest bar full; marks inside the axis."""
    values = RNG.normal(size=500)
    chart = charts.histogram(list(values), [("limit", 7.0)])
    assert chart.axis.high >= 7
    assert sum(count for *_, count in chart.bars) == 500
    assert max(height for _, _, height, _ in chart.bars) == 100
    span = chart.axis.high - chart.axis.low
    for left, width, _, count in chart.bars:
        low = chart.axis.low + left / 100 * span
        inside = (values >= low - 1e-3 * span) & (values < low + (width / 100 + 1e-3) * span)
        assert inside.sum() >= count > 0
    (bar,) = charts.histogram([0.5], []).bars
    assert bar[3] == 1


def test_lines() -> None:
    """Pixels back to values; a gap parts a line; a band goes along its lower ends and back along the upper ones."""
    x = [0.0, 1.0, 2.0, 4.0]
    y = [0.1, 0.5, None, 0.9]
    low, high = [0.0, 0.4, None, 0.8], [0.2, 0.6, None, 1.0]
    lines = [charts.Line(str(i), y, low, high) for i in range(charts.STYLES + 1)]
    chart = charts.line_chart("t", lines, x, [(0, "0"), (4, "4")], ("x", "y"), (0, 1), mark=True)
    ticks = {float(text): place for place, text in chart.y_ticks}

    def value(down: float) -> float:
        return (ticks[0.0] - down) / (ticks[0.0] - ticks[1.0])

    def points(text: str) -> list[tuple[float, float]]:
        pairs = [tuple(map(float, pair.split(","))) for pair in text.split(" ")]
        return [(4 * (a - chart.left) / (chart.right - chart.left), value(b)) for a, b in pairs]

    first = chart.lines[0]
    np.testing.assert_allclose(
        list(itertools.chain(*map(points, first.paths))), [(0, 0.1), (1, 0.5), (4, 0.9)], atol=1e-3
    )
    assert len(first.paths) == len(first.bands) == 2
    np.testing.assert_allclose(points(first.bands[0]), [(0, 0), (1, 0.4), (1, 0.6), (0, 0.2)], atol=1e-3)
    assert len(first.points) == 3
    assert [place for place, _ in chart.x_ticks] == [chart.left, chart.right]
    assert [(line.style, line.dashed) for line in chart.lines] == [*((i, False) for i in range(8)), (0, True)]
