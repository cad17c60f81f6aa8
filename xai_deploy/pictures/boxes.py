"""Boxes around what is hot in a map: the connected parts above a threshold. NumPy only."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Index: TypeAlias = NDArray[np.int64]


class HotBox(NamedTuple):
    """A box around one connected part of a map, in whole pixels: columns left to right - 1, rows top to bottom - 1.

    Attributes:
        left, top, right, bottom: Its edges; width = right - left, height = bottom - top.
        heat: The sum of the map over the part, as a share of the sum over the whole map, 0 to 1.
        peak: The largest value in the part.
    """

    left: int
    top: int
    right: int
    bottom: int
    heat: float
    peak: float


def hot_boxes(values: Array, threshold: float) -> list[HotBox]:
    """The boxes around the connected parts of {p : values_p >= threshold}, sorted by heat, the hottest first.

    Pixels are neighbours if they share an edge or a corner (8-connectivity, as `skimage.measure.label` and OpenCV do by default).
    Boxes may overlap, since a part may lie in the bend of another.

    Args:
        values: [h,w], 0 or more.
        threshold: Above 0.

    Returns:
        Among equals, the box of the part that begins first, row by row, comes first.
    """
    hot = values >= threshold
    rows, starts, ends = _runs(hot)
    if not len(rows):
        return []
    part = _connected(rows, starts, ends, hot.shape[1])
    inside = values[hot]  # row by row, so the pixels of a run lie together
    first = np.cumsum(ends - starts) - (ends - starts)
    sums, peaks = np.add.reduceat(inside, first, dtype=np.float64), np.maximum.reduceat(inside, first)
    names, member = np.unique(part, return_inverse=True)
    left, top = np.full((2, len(names)), np.iinfo(np.int64).max)
    right, bottom = np.zeros((2, len(names)), np.int64)
    heat, peak = np.zeros(len(names)), np.zeros(len(names), np.float32)
    np.minimum.at(left, member, starts)
    np.minimum.at(top, member, rows)
    np.maximum.at(right, member, ends)
    np.maximum.at(bottom, member, rows + 1)
    np.add.at(heat, member, sums)
    np.maximum.at(peak, member, peaks)
    heat /= values.sum(dtype=np.float64)
    order = np.argsort(-heat, kind="stable")
    edges = zip(*(edge[order].tolist() for edge in (left, top, right, bottom, heat, peak)), strict=True)
    return [HotBox(*numbers) for numbers in edges]


def _runs(hot: NDArray[np.bool_]) -> tuple[Index, Index, Index]:
    """The runs of a mask [h,w], row by row: row, first column, column after the last; [r] each."""
    padded = np.zeros((hot.shape[0], hot.shape[1] + 2), np.int8)
    padded[:, 1:-1] = hot
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    return rows, starts, np.nonzero(change == -1)[1]


def _connected(rows: Index, starts: Index, ends: Index, width: int) -> Index:
    """The connected part of each run, [r]: the number of the part's first run."""
    # Runs of consecutive rows touch if each begins where the other ends, or before. With keys that rise from row to row, the runs
    # of the next row that touch run i are a range, which two searches find.
    step = width + 2
    low = np.searchsorted(rows * step + ends, (rows + 1) * step + starts, "left")
    high = np.searchsorted(rows * step + starts, (rows + 1) * step + ends, "right")
    count = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(rows)), count)
    below = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    part = np.arange(len(rows))
    while (differ := part[above] != part[below]).any():
        one, other = part[above[differ]], part[below[differ]]
        np.minimum.at(part, np.maximum(one, other), np.minimum(one, other))  # the root of the larger number joins
        while (part != part[part]).any():
            part = part[part]
    return part
