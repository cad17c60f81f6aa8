"""How similar two maps are. All functions take maps [..., H, W] and return one number per map, float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Maps = NDArray[Any]


def pearson(a: Maps, b: Maps) -> Numbers:
    """Pearson's correlation of the pixels, -1 to 1; NaN if a map is constant."""
    # The rows have the norm 1, so their dot product is the correlation. Rounding may carry it beyond 1.
    correlations: Numbers = (_standard(_rows(a)) * _standard(_rows(b))).sum(-1)
    return np.clip(correlations, -1, 1)


def spearman(a: Maps, b: Maps) -> Numbers:
    """Spearman's rank correlation: Pearson's of the ranks. Equal pixels share their mean rank. NaN if a map is constant."""
    return pearson(_ranks(a), _ranks(b))


def top_overlap(a: Maps, b: Maps, share: float = 0.1) -> Numbers:
    """How many of the highest pixels of `a` are among the highest of `b`, as a share from 0 to 1.

    The fraction `share` of all pixels counts as highest. Among equal pixels, those that come first row by row count as higher. A
    constant map has no highest pixels and gives NaN.
    """
    x, y = _rows(a), _rows(b)
    # Rounded first, because 0.07 * 100 is a little more than 7 in floats.
    count = max(math.ceil(round(share * x.shape[-1], 6)), 1)
    tops = []
    for maps in (x, y):
        top = np.zeros(maps.shape, bool)
        np.put_along_axis(top, np.argsort(-maps, axis=-1, kind="stable")[..., :count], True, axis=-1)
        tops.append(top)
    shared: Numbers = (tops[0] & tops[1]).sum(-1) / count
    constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)
    return np.where(constant, np.nan, shared)


def flat(maps: Maps) -> Maps:
    """Maps [n, ...] of any rank, as those of volumes, in the form that the others take: [n,1,positions]."""
    return maps.reshape(len(maps), 1, -1)


def _rows(maps: Maps) -> Numbers:
    return np.asarray(maps, np.float64).reshape(*maps.shape[:-2], -1)


def _standard(rows: Numbers) -> Numbers:
    """Rows with the mean 0 and the norm 1. A constant row, whose mean may be off by a rounding error, gives NaN by its spread."""
    spread = np.ptp(rows, axis=-1, keepdims=True)
    # Divided by the spread, because the squares of tiny numbers would become zero.
    rows = np.divide(rows, spread, out=np.full(rows.shape, np.nan), where=spread > 0)
    rows -= rows.mean(-1, keepdims=True)
    standard: Numbers = rows / np.sqrt((rows * rows).sum(-1, keepdims=True))
    return standard


def _ranks(maps: Maps) -> Numbers:
    rows = _rows(maps)
    ranks = np.empty_like(rows)
    for index in np.ndindex(rows.shape[:-1]):
        _, place, count = np.unique(rows[index], return_inverse=True, return_counts=True)
        # `count` equal pixels take the ranks up to cumsum(count); their mean lies (count - 1) / 2 below it.
        ranks[index] = (np.cumsum(count) - (count - 1) / 2)[place]
    ranks[np.isnan(rows)] = np.nan
    return ranks.reshape(maps.shape)
