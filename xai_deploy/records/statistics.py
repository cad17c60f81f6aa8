"""A map in a few numbers that two maps of different sizes can be compared by: what records keep and xai-monitor watches.

The heatmap is averaged over `CELLS` x `CELLS` equal cells of the network's input, so the numbers do not depend on the method's own
resolution. p_i is a cell's share of the sum. Of a signed map what is above 0 counts, what speaks against the target does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..heatmap import heatmap

Numbers = NDArray[np.float64]

CELLS = 32  # along each side
GRID = 4  # along each side: the regions
BORDER = 4  # cells: an eighth of each side
TOP = 0.1  # of all cells


@dataclass(frozen=True)
class Statistics:
    """A map in a few numbers.

    Attributes:
        energy: The share of each of the 4 x 4 regions, row by row; their sum is 1.
        border: The share of the cells less than an eighth of the side away from an edge (7/16 of the area).
        entropy: -sum p_i log p_i / log n of the n cells, 0 (a single cell) to 1 (uniform).
        top: The share of the highest tenth of the cells, 0.1 (uniform) to 1. Of 1024 cells these are 102 and 0.4 of the next.
    """

    energy: tuple[float, ...]
    border: float
    entropy: float
    top: float


@lru_cache(maxsize=32)
def averages(source: int, size: int) -> Numbers:
    """The matrix [size,source] that averages an axis of equal pixels over equal cells, also over parts of a pixel."""
    edges, ends = np.arange(size + 1) * (source / size), np.arange(source + 1.0)
    shared = np.minimum(edges[1:, None], ends[1:]) - np.maximum(edges[:-1, None], ends[:-1])
    matrix: Numbers = np.maximum(shared, 0) * (size / source)
    return matrix


def cells(maps: NDArray[Any]) -> Numbers:
    """Maps [...,H,W] -> [...,CELLS,CELLS], the mean of each cell."""
    height, width = maps.shape[-2:]
    return np.asarray(averages(height, CELLS) @ maps @ averages(width, CELLS).T, np.float64)


def shown(raw: NDArray[np.floating], signed: bool, size: tuple[int, ...]) -> Numbers:
    """A raw map [h,w] -> the cells [CELLS,CELLS] that the statistics count; of a volume [d,h,w] the mean of its slices.

    They are those of the heatmap; of a signed map those of the values above 0, at the input's size.

    Args:
        raw: The method's own values.
        signed: 0 is neutral, and values below it speak against the target.
        size: The network's input, (height, width) or (depth, height, width).
    """
    at_input = np.maximum(resample.resize(raw, *size), 0) if signed else heatmap(raw[None], *size)[0]
    return cells(at_input if at_input.ndim == 2 else at_input.mean(axis=0))


def measure(weights: Numbers) -> Statistics | None:
    """The statistics of what `shown` gave; None if all of it is 0.

    A map that is the same everywhere has no statistics, because nothing in it stands out.
    """
    whole = weights.sum()
    if not whole > 0:
        return None
    p = weights / whole
    side = CELLS // GRID
    energy = p.reshape(GRID, side, GRID, side).sum(axis=(1, 3))
    inner = slice(BORDER, CELLS - BORDER)
    positive = p[p > 0]
    highest, most = np.sort(p, axis=None)[::-1], TOP * p.size
    full = int(most)
    return Statistics(
        energy=tuple(float(share) for share in energy.ravel()),
        border=float(1 - p[inner, inner].sum()),
        entropy=float(-(positive * np.log(positive)).sum() / math.log(p.size)),
        top=float(highest[:full].sum() + (most - full) * highest[full]),
    )
