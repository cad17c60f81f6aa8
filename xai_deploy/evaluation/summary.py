"""From a figure for each image to the data set's: means, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .journal import Journal, Line
from .metrics import Column
from .metrics.base import Numbers

RESAMPLES = 1000
_BLOCK = 1 << 22  # cells of resampling counts at a time: 32 MB


@dataclass(frozen=True)
class Figure:
    """A data set's figure.

    Attributes:
        mean: Over the images where it is defined; None where there is no such image.
        low: Lower end of the 95 % bootstrap confidence interval (percentiles), None with less than two images.
        high: Upper end.
        count: Images where it is defined.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Group:
    """One method on one network.

    Attributes:
        network: Its number.
        method: Its number.
        figures: By column.
    """

    network: int
    method: int
    figures: Mapping[str, Figure]


def rows(journal: Journal) -> list[Line]:
    """All rows, in the order of the images, however the evaluation went."""
    return [row for number in sorted(journal.chunks) for row in journal.chunks[number]["rows"]]


def skipped(journal: Journal) -> list[Line]:
    """The images that could not be read, each with its reason."""
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
        measured = {name for row in members for name in row["values"]}
        present = [column for column in columns if column.of_means or column.name in measured]
        groups.append(Group(network, method, figures(table, present, seed)))
    return groups


def figures(table: Mapping[str, Numbers], columns: Sequence[Column], seed: int = 0) -> dict[str, Figure]:
    """The figure of each column, with its percentile bootstrap interval over the images (Efron & Tibshirani 1993, ch. 13).

    Args:
        table: Figures per image, [n] each; NaN where one is not defined.
        columns: Which; one `of_means` is made of the resampled means of the others.
        seed: Of the resampling; all columns are resampled alike.
    """
    names = list(table)
    values = np.stack([table[name] for name in names], axis=1)  # [n,columns]
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    count = len(values)
    means = dict(zip(names, _means(np.ones((1, count)), filled, known), strict=True))
    drawn = []
    rng = np.random.default_rng(seed)
    step = max(_BLOCK // count, 1)
    for start in range(0, RESAMPLES, step):
        picked = rng.integers(0, count, (min(step, RESAMPLES - start), count))
        times = np.stack([np.bincount(row, minlength=count) for row in picked]).astype(np.float64)
        drawn.append(_means(times, filled, known))
    resampled = dict(zip(names, np.concatenate(drawn, axis=1), strict=True))
    found = {}
    for column in columns:
        if column.of_means is None:
            mean, spread, images = (
                means[column.name],
                resampled[column.name],
                int(known[:, names.index(column.name)].sum()),
            )
        else:
            mean, spread, images = column.of_means(means), column.of_means(resampled), count
        found[column.name] = _figure(float(mean[0]), spread, images)
    return found


def _means(times: Numbers, filled: Numbers, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Numbers:
    """Means [columns,b] of the images, each counted `times` [b,n]."""
    total, number = times @ filled, times @ known.astype(np.float64)
    means: Numbers = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0).T
    return means


def _figure(mean: float, spread: Numbers, count: int) -> Figure:
    spread = spread[np.isfinite(spread)]
    if not np.isfinite(mean):
        return Figure(None, None, None, count)
    if count < 2 or not len(spread):
        return Figure(mean, None, None, count)
    low, high = np.percentile(spread, [2.5, 97.5])
    return Figure(mean, float(low), float(high), count)


def _number(value: float | None) -> float:
    return np.nan if value is None else value
