"""The figures of the data set from the figures of its images: means, with confidence intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..foundation.journal import Journal, Line
from .metrics import Column
from .metrics.metric import Numbers

RESAMPLES = 1000
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
    """

    network: int
    method: int
    figures: Mapping[str, Figure]


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
        groups.append(Group(network, method, figures(table, present, seed)))
    return groups


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
