"""How alike two maps are. All work on maps [..., H, W] and give one number per map, float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Maps = NDArray[Any]


def pearson(a: Maps, b: Maps) -> Numbers:
    """Pearson's correlation of the pixels, -1 to 1; NaN where a map is constant."""
    found: Numbers = (_standard(_rows(a)) * _standard(_rows(b))).sum(-1)
    return np.clip(found, -1, 1)


def spearman(a: Maps, b: Maps) -> Numbers:
    """Spearman's rank correlation: Pearson's of the ranks, equal pixels sharing their mean rank; NaN for a constant map."""
    return pearson(_ranks(a), _ranks(b))


def top_overlap(a: Maps, b: Maps, share: float = 0.1) -> Numbers:
    """The share of the `share` highest pixels of `a` that are among those of `b`, 0 to 1; NaN where a map is constant, which
    has no highest pixels. Of equal pixels the first in reading order count as higher."""
    x, y = _rows(a), _rows(b)
    count = max(math.ceil(round(share * x.shape[-1], 6)), 1)  # 0.07 * 100 is a little more than 7
    tops = []
    for maps in (x, y):
        top = np.zeros(maps.shape, bool)
        np.put_along_axis(top, np.argsort(-maps, axis=-1, kind="stable")[..., :count], True, axis=-1)
        tops.append(top)
    shared: Numbers = (tops[0] & tops[1]).sum(-1) / count
    constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)
    return np.where(constant, np.nan, shared)


def _rows(maps: Maps) -> Numbers:
    return np.asarray(maps, np.float64).reshape(*maps.shape[:-2], -1)


def _standard(rows: Numbers) -> Numbers:
    """Rows without their mean, of length 1; NaN for a constant row, whose mean may be off by a rounding."""
    spread = np.ptp(rows, axis=-1, keepdims=True)
    rows = np.divide(rows, spread, out=np.full(rows.shape, np.nan), where=spread > 0)  # or tiny squares would vanish
    rows -= rows.mean(-1, keepdims=True)
    standard: Numbers = rows / np.sqrt((rows * rows).sum(-1, keepdims=True))
    return standard


def _ranks(maps: Maps) -> Numbers:
    rows = _rows(maps)
    ranks = np.empty_like(rows)
    for index in np.ndindex(rows.shape[:-1]):
        _, place, count = np.unique(rows[index], return_inverse=True, return_counts=True)
        ranks[index] = (np.cumsum(count) - (count - 1) / 2)[place]
    ranks[np.isnan(rows)] = np.nan
    return ranks.reshape(maps.shape)
