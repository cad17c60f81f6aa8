"""Score-CAM's weights from a few masks: a Gaussian process says what the network would score under the others.

The score under a mask depends smoothly on the mask, so the scores of similar masks tell it. The process has Matern's kernel of
order 5/2 of |M - M'| / (l sqrt(m)), m the median of |M - M'|^2 over all pairs, plus noise. The length l and the noise have the
largest marginal likelihood (Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, sections 4.2 and 5.4.1). Scores
that are never negative are heavy-tailed, so their square root is modelled. (Their logarithm gave the same correlation with the
exact map on SqueezeNet, but ten times the error on MobileNetV2, where many small scores make one sum.)

Masks are chosen for the map: those that take the most off its variance, since they tell of many others, and whose own upper
bound promises the most of it, since a few channels may hold the whole map. A few are drawn at random: what the process gets wrong
there is an honest sample of its errors at all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .method import Index

Numbers = NDArray[np.float64]
Ask = Callable[[Index], Numbers]
"""Masks' numbers [b] -> the scores [T,b] of the image under them."""

STEP = 16  # masks that are asked for at a time
_DRAWN = 4  # of them at random
_LEAST = 3 * STEP  # before an error is believed: 12 drawn at random
_LENGTHS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
_NOISES = (1e-4, 1e-3, 1e-2, 1e-1)
_REFIT = 1.25  # length and noise are chosen again when there are so many times as many scores
# The process' own error is too small, since its model is not quite right. That of a small sample is too large: the norm of a mean
# of n residuals that know nothing of each other is 1 / sqrt(n) of them. Their geometric mean was 0.7 to 5 times the true error, 2.3
# times in the median, on 8 photographs of MobileNetV2 and SqueezeNet after 48 to 224 passes. CAUTION times that is stated.
_CAUTION = 1.6


@dataclass(frozen=True, eq=False)
class Interpolated:
    """Weights of all channels, from some of their masks.

    Attributes:
        weights: [T,K].
        errors: The map's relative error, as Euclidean norm at the activation's size, that should not be exceeded, [T]; 0: exact.
        passes: How many masks were asked for.
    """

    weights: Numbers
    errors: Numbers
    passes: int


def interpolate(maps: Numbers, ask: Ask, less: Numbers, budget: int | None, tolerance: float | None) -> Interpolated:
    """The weights of channels, asked for `STEP` masks at a time until the error is small or the budget is spent.

    If half of the masks do not suffice, the others are asked for as well, and the weights are exact.

    Args:
        maps: The channels' activations, [K,P], none of them constant.
        ask: The network.
        less: What is subtracted from every weight of the map, [T].
        budget: The most masks, at least `STEP`; None: all.
        tolerance: The error at which it stops; None: only the budget stops it.
    """
    asked, count = _Asked(maps), len(maps)
    most = count if budget is None else min(budget, count)
    if tolerance is None and most == count:
        return asked.exact(ask)
    scores = ask(asked.first(min(STEP, most)))
    settings: list[_Setting] = [_Setting() for _ in less]
    while True:
        fits = [_Fit(asked, *row) for row in zip(scores, less, settings, strict=True)]
        settings, errors = [fit.setting for fit in fits], np.array([fit.error for fit in fits])
        passes = len(asked.masks)
        enough = tolerance is not None and passes >= _LEAST and (errors <= tolerance).all()
        if passes >= most or enough:
            return Interpolated(np.stack([fit.weights for fit in fits]), errors, passes)
        if most == count and passes >= count / 2:
            rest = np.setdiff1d(np.arange(count), asked.masks)
            weights = np.zeros((len(less), count))
            weights[:, asked.masks], weights[:, rest] = scores, ask(rest)
            return Interpolated(weights, np.zeros(len(less)), count)
        scores = np.concatenate([scores, ask(asked.next(fits, min(STEP, most - passes)))], axis=1)


class _Asked:
    """All masks, and which of them were asked for, in that order.

    Attributes:
        maps: [K,P].
        apart: Squared distance of each pair of masks, in units of the median, [K,K].
        norms: Euclidean norm of each channel's activation, [K].
        masks: Those asked for.
        drawn: Where in `masks` those are that were chosen at random.
    """

    def __init__(self, maps: Numbers) -> None:
        self.maps = maps
        masks = (maps - maps.min(axis=1, keepdims=True)) / np.ptp(maps, axis=1)[:, None]
        squares = (masks**2).sum(axis=1)
        apart = np.maximum(squares[:, None] + squares - 2 * masks @ masks.T, 0)
        np.fill_diagonal(apart, 0)
        pairs = apart[np.triu_indices(len(apart), 1)]
        # Below 1e-9 P the distances of masks in [0,1] are rounding: the masks are equal.
        self.apart: Numbers = apart / max(float(np.median(pairs)) if pairs.size else 0.0, 1e-9 * masks.shape[1])
        self.norms: Numbers = np.sqrt((maps**2).sum(axis=1))
        self.masks: list[int] = []
        self.drawn: list[int] = []
        self._chooser = np.random.default_rng(0)

    def exact(self, ask: Ask) -> Interpolated:
        """Every mask asked for."""
        weights = ask(np.arange(len(self.maps)))
        return Interpolated(weights, np.zeros(len(weights)), len(self.maps))

    def first(self, count: int) -> Index:
        """Masks of large activations far from each other, and some at random."""
        variance = _Variance(_kernel(self.apart, 1.0), [], 1e-3, self.maps[:, :0])
        return self._add([lambda: variance.values * self.norms], [variance], count)

    def next(self, fits: Sequence[_Fit], count: int) -> Index:
        """The masks that promise the most of the targets' maps, and some at random."""
        variances = [fit.variance for fit in fits]
        gains = [lambda fit=fit: fit.gain() for fit in fits]
        return self._add(gains, variances, count)

    def _add(self, gains: Sequence[Callable[[], Numbers]], variances: Sequence[_Variance], count: int) -> Index:
        free = np.ones(len(self.maps), bool)
        free[self.masks] = False
        chosen: list[int] = []
        while len(chosen) < count and free.any():
            if count - len(chosen) > min(_DRAWN, count // 4):
                best = int(np.where(free, sum(gain() for gain in gains), -np.inf).argmax())
            else:
                best = int(self._chooser.choice(np.flatnonzero(free)))
                self.drawn.append(len(self.masks) + len(chosen))
            chosen.append(best)
            free[best] = False
            for variance in variances:
                variance.know(best)
        self.masks += chosen
        return np.array(chosen)


class _Variance:
    """The process' covariance C = kernel - rows^T rows of all masks, in units of its scale, as more of them become known.

    Args:
        kernel: Of all masks, [K,K].
        known: Those known.
        noise: Of a score, in the same units.
        parts: What a mask's value is worth in the map, B [K,P]: the map's covariance is B^T C B.

    Attributes:
        values: The diagonal of C, [K].
    """

    def __init__(self, kernel: Numbers, known: Sequence[int], noise: float, parts: Numbers) -> None:
        self._kernel, self._noise, self._parts = kernel, noise, parts
        self._rows: Numbers = np.zeros((0, len(kernel)))
        if known:
            factor = np.linalg.cholesky(kernel[np.ix_(known, known)] + noise * np.eye(len(known)))
            self._rows = np.linalg.solve(factor, kernel[known])  # [n,K]
        self.values: Numbers = np.maximum(np.diag(kernel) - (self._rows**2).sum(axis=0), 0)
        self._moved: Numbers = kernel @ parts - self._rows.T @ (self._rows @ parts)  # C B, [K,P]

    def of_map(self) -> float:
        """The map's variance over all positions, trace(B^T C B)."""
        return max(float((self._parts * self._moved).sum()), 0.0)

    def taken(self) -> Numbers:
        """What knowing one more mask takes off it: |(C B)_k|^2 / (C_kk + noise), [K]."""
        taken: Numbers = (self._moved**2).sum(axis=1) / (self.values + self._noise)
        return taken

    def know(self, mask: int) -> None:
        """Add a mask: one more row of the Cholesky factorisation."""
        column = self._kernel[mask] - self._rows[:, mask] @ self._rows
        row = column / np.sqrt(column[mask] + self._noise)
        self._rows = np.vstack([self._rows, row])
        self.values = np.maximum(self.values - row**2, 0)
        self._moved = self._moved - np.outer(row, row @ self._parts)


@dataclass(frozen=True)
class _Setting:
    """A process' length and noise, and of how many scores they were chosen."""

    length: float = 1.0
    noise: float = 1e-3
    of: int = 0


class _Fit:
    """The process of one target.

    Args:
        asked: The masks.
        scores: Of those asked for, [n].
        less: Subtracted from every weight in the map.
        setting: Of the fit before.
    """

    def __init__(self, asked: _Asked, scores: Numbers, less: float, setting: _Setting) -> None:
        self._norms, known = asked.norms, asked.masks
        unit = float(np.abs(scores).max()) or 1.0  # a class may have probabilities of 1e-30
        given, scores, less = scores, scores / unit, less / unit
        self._roots = bool(scores.min() >= 0)
        values = np.sqrt(scores) if self._roots else scores
        centred = values - values.mean()
        apart = asked.apart[np.ix_(known, known)]
        self.setting = setting if len(known) < _REFIT * setting.of else _chosen(apart, centred)
        kernel = _kernel(asked.apart, self.setting.length)
        own = kernel[np.ix_(known, known)] + self.setting.noise * np.eye(len(known))
        inverse: Numbers = np.linalg.inv(own).astype(np.float64)
        self._scale = max(float(centred @ inverse @ centred) / len(known), 1e-12)
        self._mean: Numbers = values.mean() + centred @ inverse @ kernel[known]
        self.weights: Numbers = self._scores(self._mean)
        self.weights[known] = scores
        self.variance = _Variance(kernel, known, self.setting.noise, self._parts(asked, kernel, inverse))
        left_out = self._scores(values - (inverse @ centred) / np.diag(inverse))  # each score by all others
        self.error = self._error(asked, (scores - left_out)[asked.drawn], less)
        self.weights *= unit
        self.weights[known] = given

    def gain(self) -> Numbers:
        """What a mask promises of the map: what it takes off the map's variance, times what its upper bound adds; 1 is the most."""
        upper = self._mean + np.sqrt(self._scale * self.variance.values)
        gain = (self._scores(upper) - self._scores(self._mean)) * self._norms * self.variance.taken()
        most: Numbers = gain / max(float(gain.max()), 1e-300)
        return most

    def _parts(self, asked: _Asked, kernel: Numbers, inverse: Numbers) -> Numbers:
        """What the process' value at a mask is worth in the map, [K,P]; 0 for those asked for."""
        unknown = np.ones(len(asked.maps), bool)
        unknown[asked.masks] = False
        if not self._roots:
            return unknown[:, None] * asked.maps
        # The variance of a square, 4 mean^2 v + 2 v^2, in units of v
        seen = kernel[asked.masks]
        variance = self._scale * np.maximum(np.diag(kernel) - (seen * (inverse @ seen)).sum(axis=0), 0)
        steep = np.sqrt(4 * np.maximum(self._mean, 0) ** 2 + 2 * variance)
        parts: Numbers = (steep * unknown)[:, None] * asked.maps
        return parts

    def _scores(self, values: Numbers) -> Numbers:
        return np.maximum(values, 0) ** 2 if self._roots else values.copy()

    def _error(self, asked: _Asked, residuals: Numbers, less: float) -> float:
        """The relative error of the map, see `_CAUTION`."""
        total: Numbers = np.maximum((self.weights - less) @ asked.maps, 0)
        own = np.sqrt(self._scale * self.variance.of_map())
        sample = [asked.masks[place] for place in asked.drawn]
        others = len(asked.maps) - len(asked.masks)
        drawn = others * np.linalg.norm((residuals[:, None] * asked.maps[sample]).mean(axis=0))
        absolute = _CAUTION * np.sqrt(own * drawn)
        return float(absolute / max(float(np.linalg.norm(total)), 1e-30)) if absolute > 0 else 0.0


def _kernel(apart: Numbers, length: float) -> Numbers:
    """Matern's kernel of order 5/2 of squared distances."""
    r = np.sqrt(5 * apart) / length
    kernel: Numbers = (1 + r + r**2 / 3) * np.exp(-r)
    return kernel


def _chosen(apart: Numbers, centred: Numbers) -> _Setting:
    """The length and noise of the largest marginal likelihood, each with its likeliest scale: n log(scale) + log |S| is least."""
    found, least = _Setting(), np.inf
    for length in _LENGTHS:
        values, vectors = np.linalg.eigh(_kernel(apart, length))
        squares = (vectors.T @ centred) ** 2
        for noise in _NOISES:
            along = np.maximum(values, 0) + noise
            scale = max(float((squares / along).mean()), 1e-12)
            unlikely = len(centred) * np.log(scale) + float(np.log(along).sum())
            if unlikely < least:
                found, least = _Setting(length, noise, len(centred)), unlikely
    return found
