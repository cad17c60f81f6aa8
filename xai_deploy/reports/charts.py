"""The geometry of charts. `charts.html.jinja` draws it as SVG, in colours that follow the page's light or dark style.

Charts that stretch with the page have positions in percent of their width; a line chart has a fixed drawing area.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 40  # of a histogram
STYLES = 8  # colours of lines; then they repeat, dashed

_WIDTH, _HEIGHT = 360, 230  # of a line chart, in pixels of the drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 40


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`.

    Attributes:
        low: The value at its beginning.
        high: The value at its end, above `low`.
        ticks: Round values from low to high.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def percent(self, value: float) -> float:
        """The place of a value, 0 at `low` and 100 at `high`; values outside are moved to the end."""
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0), 1), 2)

    def text(self, value: float) -> str:
        """A tick's label, with as many decimals as the ticks differ by."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else 1.0
        return f"{value:.{max(-math.floor(math.log10(step) + 1e-9), 0)}f}"

    @property
    def labels(self) -> list[str]:
        """Labels for the two ends, and for the middle if a tick is there; they are spread over the width."""
        middle = [self.ticks[len(self.ticks) // 2]] if len(self.ticks) % 2 and len(self.ticks) > 1 else []
        return [self.text(value) for value in (self.low, *middle, self.high)]


def axis(values: Sequence[float], count: int = 5) -> Axis:
    """An axis that holds all values, between round values, with about `count` steps of 1, 2 or 5 times a power of 10."""
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for factor in (1, 2, 5, 10) if (step := factor * power) >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


@dataclass(frozen=True)
class Dot:
    """A value with its interval, as a row of a chart.

    Attributes:
        name: The row's name.
        value: None draws nothing.
        low: Lower end of the interval; None if there is none.
        high: Upper end.
        note: Text after the name, for example "best".
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Dots:
    """Rows of dots over one axis."""

    title: str
    axis: Axis
    rows: Sequence[Dot]


def dots(title: str, rows: Sequence[Dot]) -> Dots:
    """A chart of values with intervals."""
    known = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    return Dots(title, axis(known or [0.0, 1.0], 4), rows)


@dataclass(frozen=True)
class Histogram:
    """How often values occur.

    Attributes:
        axis: Of the values.
        bars: (left end in percent of the axis, width in percent, height in percent of the highest bar, count); bars of count 0 are
            left out.
        marks: (kind, value): the mean, the limit.
    """

    axis: Axis
    bars: Sequence[tuple[float, float, float, int]]
    marks: Sequence[tuple[str, float]]


def histogram(values: Sequence[float], marks: Sequence[tuple[str, float]]) -> Histogram:
    """A histogram of `BINS` bins over an axis that holds the values and the marks."""
    over = axis([*values, *(value for _, value in marks)])
    counts, edges = np.histogram(np.asarray(values, dtype=np.float64), BINS, (over.low, over.high))
    highest = max(int(counts.max()), 1)
    bars = [
        (over.percent(float(edge)), 100 / BINS, 100 * int(count) / highest, int(count))
        for edge, count in zip(edges[:-1], counts, strict=True)
        if count
    ]
    return Histogram(over, bars, marks)


@dataclass(frozen=True)
class Line:
    """One line of a line chart.

    Attributes:
        name: For the legend.
        y: A value for each x; None leaves a gap.
        low: Lower ends of the intervals, drawn as a band.
        high: Upper ends.
    """

    name: str
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True)
class Drawn:
    """A line in the chart's pixels: the points of its polylines and of its bands, as SVG writes them, and of its single points."""

    name: str
    style: int
    dashed: bool
    paths: Sequence[str]
    bands: Sequence[str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class LineChart:
    """Lines over two axes, in the pixels of a drawing of width x height."""

    title: str
    x_title: str
    y_title: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[Drawn]


def line_chart(
    title: str,
    lines: Sequence[Line],
    x: Sequence[float],
    x_ticks: Sequence[tuple[float, str]],
    titles: tuple[str, str],
    y_range: tuple[float, float] | None = None,
    mark: bool = False,
) -> LineChart:
    """A line chart.

    Args:
        title: Its heading.
        lines: Each with one y for each x.
        x: Ascending.
        x_ticks: Value and label.
        titles: Of the two axes.
        y_range: Values that the y axis holds whatever the lines do.
        mark: Draw a point at each value.
    """
    values = [v for line in lines for part in (line.y, line.low, line.high) for v in part if v is not None]
    over = axis([*values, *(y_range or ())] or [0.0, 1.0])
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(value: float) -> float:
        return round(_LEFT + width * (value - x[0]) / ((x[-1] - x[0]) or 1), 2)

    def down(value: float) -> float:
        return round(_TOP + height * (1 - over.percent(value) / 100), 2)

    drawn = []
    for number, line in enumerate(lines):
        at = [(across(a), None if b is None else down(b)) for a, b in zip(x, line.y, strict=True)]
        band = [
            (across(a), None if low is None or high is None else (down(low), down(high)))
            for a, low, high in zip(x, line.low, line.high, strict=False)
        ]
        drawn.append(
            Drawn(
                line.name,
                number % STYLES,
                number >= STYLES,
                [" ".join(f"{a},{b}" for a, b in run) for run in _runs(at)],
                [_outline(run) for run in _runs(band)],
                [(a, b) for a, b in at if b is not None] if mark else [],
            )
        )
    return LineChart(
        title,
        *titles,
        _WIDTH,
        _HEIGHT,
        _LEFT,
        _WIDTH - _RIGHT,
        _TOP,
        _HEIGHT - _BOTTOM,
        [(across(value), text) for value, text in x_ticks],
        [(down(value), over.text(value)) for value in over.ticks],
        drawn,
    )


def _runs(points: Sequence[tuple[float, object]]) -> list[list[tuple[float, object]]]:
    """The points without those whose second part is None, parted there."""
    runs: list[list[tuple[float, object]]] = [[]]
    for point in points:
        if point[1] is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _outline(run: Sequence[tuple[float, object]]) -> str:
    """The polygon around a band: along its lower ends, and back along the upper ones."""
    ends = [(a, pair) for a, pair in run if isinstance(pair, tuple)]
    return " ".join([*(f"{a},{low}" for a, (low, _) in ends), *(f"{a},{high}" for a, (_, high) in reversed(ends))])
