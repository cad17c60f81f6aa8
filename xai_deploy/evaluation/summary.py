"""The figures of the data set from the figures of its images: means, with confidence intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..foundation.journal import Journal, Line
from .metrics import Column
from .metrics.metric import Numbers

RESAMPLES = 1000
FEWEST = 10  # images, to call a group best: of fewer, percentile intervals are too narrow
_NOISE = 1e-6  # relative: differences of runtimes' rounding, which can have one sign on all images
_BLOCK = 1 << 22  # resampling counts in memory at a time; as float64 they take 32 MB


@dataclass(frozen=True)
class Figure:
    """A figure of the data set.

    Attributes:
        mean: Mean over the images for which it is defined; None if there is no such image.
        low: Lower end of the 95 % bootstrap confidence interval (percentiles); None with fewer than two images.
        high: Upper end.
        count: Number of images for which it is defined.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Group:
    """One method on one network.

    Attributes:
        network: The network's index.
        method: The method's index.
        figures: Column -> figure.
        diagnostics: What the method says of its own computation, such as passes and errors; see `Explanation.diagnostics`.
    """

    network: int
    method: int
    figures: Mapping[str, Figure]
    diagnostics: Mapping[str, Figure] = field(default_factory=dict)


def rows(journal: Journal) -> list[Line]:
    """All rows, in the order of the images, even if the evaluation was interrupted and continued."""
    return [row for number in sorted(journal.chunks) for row in journal.chunks[number]["rows"]]


def skipped(journal: Journal) -> list[Line]:
    """The images that could not be measured, each with its reason."""
    return [entry for number in sorted(journal.chunks) for entry in journal.chunks[number]["skipped"]]


def summarise(all_rows: Iterable[Line], columns: Sequence[Column], seed: int = 0) -> list[Group]:
    """Figures by network and method, in order."""
    grouped: dict[tuple[int, int], list[Line]] = {}
    for row in all_rows:
        grouped.setdefault((row["network"], row["method"]), []).append(row)
    groups = []
    for (network, method), members in sorted(grouped.items()):
        table = {
            column.name: np.array([_number(row["values"].get(column.name)) for row in members])
            for column in columns
            if column.of_means is None
        }
        # Left out: columns that were not measured on this network, such as `sanity` without randomised bundles.
        measured = {name for row in members for name in row["values"]}
        present = [column for column in columns if column.of_means or column.name in measured]
        groups.append(Group(network, method, figures(table, present, seed), _said(members, seed)))
    return groups


def _said(members: Sequence[Line], seed: int) -> dict[str, Figure]:
    """The figures of a method's diagnostics; rows of an older journal have none."""
    said = [row.get("diagnostics", {}) for row in members]
    names = dict.fromkeys(name for row in said for name in row)
    table = {name: np.array([_number(row.get(name)) for row in said]) for name in names}
    return figures(table, [Column(name, "") for name in names], seed) if table else {}


def figures(table: Mapping[str, Numbers], columns: Sequence[Column], seed: int = 0) -> dict[str, Figure]:
    """The figure of each column, with its percentile bootstrap interval over the images (Efron & Tibshirani 1993, ch. 13).

    Args:
        table: Figures per image, [n] each; NaN if a figure is not defined.
        columns: The columns wanted; a column with `of_means` is computed from the resampled means of the others.
        seed: Seed of the resampling; all columns use the same resamples.
    """
    names = list(table)
    values = np.stack([table[name] for name in names], axis=1)  # [n,columns]
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)  # 0 adds nothing to a sum; `_means` divides by the number of known values
    count = len(values)
    means = dict(zip(names, _means(np.ones((1, count)), filled, known), strict=True))
    drawn = []
    rng = np.random.default_rng(seed)
    step = max(_BLOCK // count, 1)
    for start in range(0, RESAMPLES, step):
        picked = rng.integers(0, count, (min(step, RESAMPLES - start), count))
        # How often each image is drawn: then all means of a resample are one matrix product.
        times = np.stack([np.bincount(row, minlength=count) for row in picked]).astype(np.float64)
        drawn.append(_means(times, filled, known))
    resampled = dict(zip(names, np.concatenate(drawn, axis=1), strict=True))
    by_column = {}
    for column in columns:
        if column.of_means is None:
            mean, spread, images = (
                means[column.name],
                resampled[column.name],
                int(known[:, names.index(column.name)].sum()),
            )
        else:
            mean, spread, images = column.of_means(means), column.of_means(resampled), count
        by_column[column.name] = _figure(float(mean[0]), spread, images)
    return by_column


def _means(times: Numbers, filled: Numbers, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Numbers:
    """Means [columns,b] over the images, where image i counts times[b,i] times in resample b: (times @ filled) / (times @ known).

    NaN if no image with a known value was drawn."""
    total, number = times @ filled, times @ known.astype(np.float64)
    means: Numbers = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0).T
    return means


def _figure(mean: float, spread: Numbers, count: int) -> Figure:
    spread = spread[np.isfinite(spread)]  # without resamples that drew no image with a known value
    if not np.isfinite(mean):
        return Figure(None, None, None, count)
    if count < 2 or not len(spread):
        return Figure(mean, None, None, count)
    low, high = np.percentile(spread, [2.5, 97.5])
    return Figure(mean, float(low), float(high), count)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


@dataclass(frozen=True)
class Ranking:
    """One column's best group, compared with every other group image by image.

    Attributes:
        leader: The index of the group with the best mean, among the groups.
        ahead: Group -> how much better the leader is, as the mean of the paired differences with its 95 % interval; positive if
            the leader is better, whichever direction is better.
        best: Whether the leader is better than every other group: each interval lies above 0, and there are at least
            `FEWEST` images.
        level: The groups that the leader is not clearly better than, the leader included.
    """

    leader: int
    ahead: Mapping[int, Figure]
    best: bool
    level: frozenset[int]


def rank(all_rows: Iterable[Line], groups: Sequence[Group], column: Column, seed: int = 0) -> Ranking | None:
    """The best group of a column, by paired differences: both groups are measured on the same images, so the spread between
    the images cancels out (Efron & Tibshirani 1993, ch. 13, applied to the differences).

    The leader must beat each other group at the level 95 %. So a group is called best wrongly in at most about one of twenty
    columns in which it has an equal, however many groups there are: to beat all is harder than to beat the equal one. That holds
    for many images. Percentile intervals are too narrow for few: it is about one of ten columns with 10 images.

    Returns:
        None if the column has no better direction, or fewer than two groups have a figure.
    """
    index = {(group.network, group.method): number for number, group in enumerate(groups)}
    known = {n: f.mean for n, g in enumerate(groups) if (f := g.figures.get(column.name)) and f.mean is not None}
    if not column.better or len(known) < 2:
        return None
    sign = 1.0 if column.better == "higher" else -1.0
    leader = max(known, key=lambda number: sign * known[number])
    values: dict[int, dict[str, dict[str, float]]] = {number: {} for number in known}
    for row in all_rows:
        if (number := index[row["network"], row["method"]]) in values:
            values[number][row["image"]] = {name: _number(value) for name, value in row["values"].items()}
    ahead = {number: _ahead(values[leader], values[number], column, sign, seed) for number in known if number != leader}
    noise = _NOISE * max(abs(known[leader]), 1.0)
    clear = {n for n, f in ahead.items() if f.count >= FEWEST and f.low is not None and f.low > noise}
    return Ranking(leader, ahead, len(clear) == len(ahead), frozenset(set(known) - clear))


def _ahead(
    one: Mapping[str, Mapping[str, float]],
    other: Mapping[str, Mapping[str, float]],
    column: Column,
    sign: float,
    seed: int,
) -> Figure:
    """The figure of sign * (one - other), over the images that both have."""
    images = [image for image in one if image in other]
    if column.of_means is None:
        apart = np.array([one[i].get(column.name, np.nan) - other[i].get(column.name, np.nan) for i in images])
        return figures({"ahead": sign * apart}, [Column("ahead", "higher")], seed)["ahead"]
    of_means = column.of_means
    names = list(one[images[0]])
    table = {
        f"{side} {name}": np.array([values[i].get(name, np.nan) for i in images])
        for side, values in (("one", one), ("other", other))
        for name in names
    }

    def apart_of(means: Mapping[str, Numbers]) -> Numbers:
        first, second = ({name: means[f"{side} {name}"] for name in names} for side in ("one", "other"))
        return sign * (of_means(first) - of_means(second))

    return figures(table, [Column("ahead", "higher", of_means=apart_of)], seed)["ahead"]


@dataclass(frozen=True)
class Curve:
    """The mean curve of one group: p over the share of the pixels that were changed.

    Attributes:
        group: The group's index.
        name: The metric's name of it, as "deletion curve".
        points: A figure at each share, in even steps from 0 to 1; `count` is how many images have the curve.
    """

    group: int
    name: str
    points: Sequence[Figure]


def curves(all_rows: Iterable[Line], groups: Sequence[Group], seed: int = 0) -> list[Curve]:
    """The mean curves, by name and then by group. Rows of an older journal have no curves; they do not count."""
    index = {(group.network, group.method): number for number, group in enumerate(groups)}
    collected: dict[tuple[str, int], list[list[float]]] = {}
    for row in all_rows:
        for name, points in row.get("curves", {}).items():
            collected.setdefault((name, index[row["network"], row["method"]]), []).append(points)
    order = list(dict.fromkeys(name for name, _ in collected))
    drawn = []
    for name, group in sorted(collected, key=lambda key: (order.index(key[0]), key[1])):
        values = np.array(collected[name, group])  # [n,points]
        columns = [Column(str(point), "") for point in range(values.shape[1])]
        by_point = figures({column.name: values[:, i] for i, column in enumerate(columns)}, columns, seed)
        drawn.append(Curve(group, name, [by_point[column.name] for column in columns]))
    return drawn
