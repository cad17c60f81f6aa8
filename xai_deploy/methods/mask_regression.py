"""RISE's map from fewer masks: what a linear model of the score explains is known in closed form; chance decides the rest alone.

RISE's map is E[f M] / p = E[f] + Cov(f, M) / p. The mean over some masks is noisy for what f has in common in all of them. With a
linear model g of the mask's coarse values, Cov(f, M) = Cov(g, M) + Cov(f - g, M). The first is exact, since the covariance of the
masks is known. The second is the mean over the masks seen, each with a model that was fitted without it (control variates: Owen
2013, Monte Carlo theory, methods and examples, section 8.9). The result tends to the same map, whatever the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import resample
from .method import Array

Numbers = NDArray[np.float64]

_MOST = 12  # coarse values along an axis
_PENALTIES = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 1e2)  # of the ridge, in units of the mean eigenvalue


class Coarse:
    """The coarse values of RISE's masks, and how they vary with the masks' pixels.

    Args:
        size: The masks' size.
        cells: Cells along each side of their grids.
        p: Probability of a visible cell.

    Attributes:
        own: Covariance of the coarse values, [F,F].
    """

    def __init__(self, size: tuple[int, ...], cells: int, p: float) -> None:
        self._size, self._p = size, p
        self._means = [_means(side, min(cells, side, _MOST)) for side in size]
        # A mask is a product over the axes of bilinear weights times independent cells, each of variance p (1 - p).
        self._shared = [_overlap(mean, cells) for mean in self._means]
        self.own: Numbers = np.full((1, 1), p * (1 - p))
        for shared, mean in zip(self._shared, self._means, strict=True):
            self.own = np.asarray(np.kron(self.own, shared @ mean.T), np.float64)

    def values(self, masks: Array) -> Numbers:
        """Means of masks [b,H,W] in parts of the image, [b,F], less their expectation."""
        values = masks.astype(np.float64)
        for axis, mean in enumerate(self._means, 1):
            values = np.moveaxis(np.tensordot(values, mean, (axis, 1)), -1, axis)
        return values.reshape(len(masks), -1) - self._p

    def with_pixels(self, weights: Numbers) -> Numbers:
        """Covariance of sum_f weights_f value_f with each pixel of a mask, [H,W]."""
        result = weights.reshape([len(mean) for mean in self._means])
        for axis, shared in enumerate(self._shared):
            result = np.moveaxis(np.tensordot(result, shared, (axis, 0)), -1, axis)
        return self._p * (1 - self._p) * result


@dataclass(frozen=True, eq=False)
class Model:
    """A linear model of the score.

    Attributes:
        mean: The score's expectation over all masks.
        weights: Of the coarse values, [F].
        residuals: What the model, fitted without it, gets wrong for each mask, [n].
    """

    mean: float
    weights: Numbers
    residuals: Numbers


def fitted(values: Numbers, scores: Numbers) -> Model:
    """Ridge regression whose penalty has the least leave-one-out error.

    Args:
        values: [n,F], of expectation 0.
        scores: [n].
    """
    centre, mean = values.mean(axis=0), float(scores.mean())
    x, y = values - centre, scores - mean
    roots, vectors = np.linalg.eigh(x.T @ x)
    along = x @ vectors  # [n,F]
    reach, squares = along.T @ y, along**2
    best, least = Model(mean, np.zeros(values.shape[1]), y), np.inf
    for penalty in _PENALTIES:
        shares = 1 / (np.maximum(roots, 0) + penalty * max(float(roots.mean()), 1e-30))
        leverage = squares @ shares + 1 / len(y)
        residuals = (y - along @ (shares * reach)) / np.maximum(1 - leverage, 1e-6)
        if (error := float((residuals**2).mean())) < least:
            weights = vectors @ (shares * reach)
            best, least = Model(mean - float(centre @ weights), weights, residuals), error
    return best


def relative_error(coarse: Numbers, drawn: Numbers, spread: Numbers) -> float:
    """The standard error of a map as root mean square over its pixels, as a share of their standard deviation.

    Args:
        coarse: The map at the coarse values, times p, [F].
        drawn: The score, or what a model leaves of it, for each mask, [n].
        spread: The variance over the pixels of each mask, [n].
    """
    variance = float((drawn**2 * spread).mean()) / len(drawn)
    return math.sqrt(variance) / max(float(coarse.std()), 1e-30) if variance else 0.0


def _means(side: int, parts: int) -> Numbers:
    """Means of nearly equal parts of an axis, as a matrix [parts,side]."""
    part = np.arange(side) * parts // side
    inside = (part == np.arange(parts)[:, None]).astype(np.float64)
    return np.asarray(inside / inside.sum(axis=1, keepdims=True), np.float64)


def _overlap(means: Numbers, cells: int) -> Numbers:
    """sum_c w_c(u) w_c(v), w the cells' bilinear weights: means over the offsets and over parts u, for pixels v; [parts,side]."""
    parts, side = means.shape
    step = -(-side // cells)
    lines = [resample.resize(cell[None], 1, (cells + 1) * step)[0] for cell in np.eye(cells, dtype=np.float32)]
    weights = np.stack(lines, axis=1).astype(np.float64)  # [enlarged,cells]
    total = np.zeros((parts, side))
    for offset in range(step):
        crop = weights[offset : offset + side]
        total += means @ crop @ crop.T
    return np.asarray(total / step, np.float64)
