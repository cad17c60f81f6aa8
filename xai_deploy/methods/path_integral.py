"""An integral along a path, with more points where the score bends: the trapezoid rule, its worst intervals halved.

The score is known at every point, so each interval says what the rule gets wrong in it: the integral of the slope is the score's
change. (Non-uniform steps: Bhat and Raychowdhury 2023, arXiv:2302.11107, who set them before the first gradient.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
At: TypeAlias = Callable[[Numbers], tuple[NDArray[np.floating], Numbers]]
"""points [b] in [0,1] -> what is integrated, [b, ...], and the scores [b]"""

FIRST = 5  # points at equal distances
_HALVED = 4  # intervals at a time
_WORST = 0.25  # none whose error is below this share of the largest
# Errors of intervals may cancel by chance: their magnitudes sum up to this many times the tolerance, at most.
_CANCELLED = 3.0
_SHORTEST = 2.0**-16


@dataclass(frozen=True, eq=False)
class Integral:
    """An integral, and what it cost.

    Attributes:
        value: [...].
        error: How far its sum is from the score's change, as a share of that.
        first: The score at 0.
        points: How many points were asked for.
    """

    value: Numbers
    error: float
    first: float
    points: int


def span(high: NDArray[np.floating], low: NDArray[np.floating]) -> Numbers:
    """The magnitude of a score's change, or what is rounding; 1e-60 keeps a quotient by it defined if both scores are 0."""
    high, low = np.asarray(high, np.float64), np.asarray(low, np.float64)
    rounding = 1e-4 * (np.abs(high) + np.abs(low)) + 1e-60
    return np.asarray(np.maximum(np.abs(high - low), rounding), np.float64)


def integrate(at: At, tolerance: float, most: int) -> Integral:
    """The integral over [0,1] of values whose sum is the score's slope.

    Args:
        at: What is integrated.
        tolerance: It stops when the sum of the intervals' errors is at most this, as a share of the score's change.
        most: The most points, at least `FIRST`.
    """
    points = np.linspace(0, 1, FIRST)
    values, scores = at(points)
    scale = float(span(scores[-1], scores[0]))
    while True:
        widths, slopes = np.diff(points), values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)
        errors = (widths * (slopes[1:] + slopes[:-1]) / 2 - np.diff(scores)) / scale
        close = abs(errors.sum()) <= tolerance and np.abs(errors).sum() <= _CANCELLED * tolerance
        halved = _worst(np.where(widths > _SHORTEST, np.abs(errors), 0.0))[: most - len(points)]
        if close or not len(halved):
            weights = (np.append(widths, 0) + np.append(0, widths)) / 2
            value = np.tensordot(weights, values.astype(np.float64), 1)
            return Integral(value, abs(float(errors.sum())), float(scores[0]), len(points))
        middles = (points[halved] + points[halved + 1]) / 2
        more, theirs = at(middles)
        order = np.argsort(np.concatenate([points, middles]), kind="stable")
        points = np.concatenate([points, middles])[order]
        values, scores = np.concatenate([values, more])[order], np.concatenate([scores, theirs])[order]


def _worst(errors: Numbers) -> NDArray[np.int64]:
    """The intervals to halve next."""
    largest = np.argsort(-errors, kind="stable")[:_HALVED]
    return np.asarray(largest[(errors[largest] > 0) & (errors[largest] >= _WORST * errors.max())])
