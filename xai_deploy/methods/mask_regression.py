"""RISE's map from fewer masks: a model of the score is asked about masks that the network never sees.

RISE's map is E[f M] / p = E[f] + Cov(f, M) / p. The mean over some masks is noisy for what f has in common in all of them. With a
model g of the score, Cov(f, M) = Cov(g, M) + Cov(f - g, M). The first costs no inference, so it is the mean over thousands of other
masks. The second is the mean over the masks seen, each with a model that was fitted without it (control variates: Owen 2013, Monte
Carlo theory, methods and examples, section 8.9).

g is a ridge regression on the mask's coarse values and the products of neighbours: what a place shows counts by itself and together
with what is around it. Scores that are never negative are heavy-tailed (a probability is near 0 under most masks), so their square
root is modelled. The second part is chance alone while the model is as good as so few masks can tell; then it is left out. It is
added as far as it is larger than chance makes it. So the limit is RISE's map, whatever the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .rise_masks import Enlarged, Index, Numbers, near

# of the ridge, in units of the features' mean variance
_PENALTIES = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0)
_PRODUCTS = 0.3  # the variance of all products, in units of that of the coarse values
_OTHERS = 16384  # masks that the model alone is asked about
_AT_ONCE = 1024
# The residuals are left out one by one, so they lean against the model that was fitted to the others: where it lacks nothing, their
# map's variance is 0.2 to 0.35 of what it would be for as many numbers that know nothing of each other (five photographs of three
# networks, with 333 to 4000 masks).
_CHANCE = 1 / 3
_ROUNDING = 1e-12  # as a share of the scores
_CAUTION = 1.25  # The true error was 0.7 to 1.2 times the residuals' standard error there.


class Drawn:
    """The masks that a network saw, and what they tell of maps.

    Args:
        enlarged: How grids become masks.
        seed: Of the masks that only models are asked about.
        in_pairs: Each two masks seen are opposite: their sum is the same everywhere.

    Attributes:
        grids: Of the masks seen, [n,*cells].
        offsets: Of the masks seen, [n,axes].
        coarse: Of the masks seen, [n,F].
    """

    def __init__(self, enlarged: Enlarged, seed: int, in_pairs: bool = False) -> None:
        self._enlarged, self._seed, self._in_pairs = enlarged, seed, in_pairs
        self.grids, self.offsets = enlarged.draw(np.random.default_rng(0), 0)
        self.coarse: Numbers = np.zeros((0, math.prod(enlarged.parts)))

    def add(self, grids: Numbers, offsets: Index) -> None:
        """More masks that the network saw."""
        coarse = self._enlarged.coarse(grids, offsets)
        self.grids, self.offsets = np.concatenate([self.grids, grids]), np.concatenate([self.offsets, offsets])
        self.coarse = np.concatenate([self.coarse, coarse])

    def fit(self, scores: Sequence[Numbers]) -> list[Model]:
        """Models of scores of the masks seen, [n] each."""
        ridge = _Ridge(self._features(self.coarse))
        return [_model(ridge, one) for one in scores]

    def maps(self, models: Sequence[Model]) -> list[Numbers]:
        """Cov(f, M), [H,W] each: that of the model, and a share of what it leaves of the masks that it was fitted to."""
        weights = np.stack([model.weights for model in models], axis=1)
        coarse = self._enlarged.coarse(*self._others)
        parts = [self._features(coarse[at : at + _AT_ONCE]) @ weights for at in range(0, _OTHERS, _AT_ONCE)]
        linear = np.concatenate(parts)
        every = np.stack([model.score(linear[:, i]) for i, model in enumerate(models)], axis=1)
        every -= every.mean(axis=0)
        # What is linear in the coarse values is exact; the other masks are averaged for the rest of the model.
        lines = np.linalg.pinv(self._enlarged.covariance(), hermitian=True) @ (coarse.T @ every / _OTHERS)
        rest = every - coarse @ lines
        result = []
        for i, model in enumerate(models):
            whole = self._enlarged.with_pixels(lines[:, i]) + self._enlarged.total(*self._others, rest[:, i]) / _OTHERS
            count = len(model.residuals)
            left = self._enlarged.total(self.grids[:count], self.offsets[:count], model.residuals) / count
            result.append(whole + self._share(model.residuals) * left)
        return result

    def relative_error(self, scores: Numbers, model: Model | None) -> float:
        """The standard error of a map as root mean square over its pixels, as a share of their standard deviation.

        Args:
            scores: Of the masks seen, [n].
            model: The map's; None: the map is the mean.
        """
        count = len(scores)
        coarse = self.coarse[:count]
        if count == 1:  # which no model can be without
            model = None
        seen = scores if model is None else scores - scores.mean()
        left = seen if model is None else _CAUTION * model.residuals
        error = self._chance(left)
        # What the mean of the masks seen varies over the parts, without what chance adds to it.
        whole = float((seen @ coarse / count).var())
        # a share of the scores: a class may have probabilities of 1e-30
        signal = max(whole - self._chance(seen), 0.05 * whole, 1e-60 * float(seen @ seen) / count)
        return math.sqrt(error / signal) if error else 0.0

    def _share(self, residuals: Numbers) -> float:
        """How much of the residuals' map is added: what it is beyond chance (positive part of James and Stein's estimator)."""
        coarse = self.coarse[: len(residuals)]
        whole = float((residuals @ coarse / len(residuals)).var())
        return max(0.0, 1 - _CHANCE * self._chance(residuals) / whole) if whole else 0.0

    def _chance(self, values: Numbers) -> float:
        """The variance of the mean of value times mask over other draws of masks, as a mean over the parts.

        Opposite masks are one draw: M - p of one is p - M of the other, so a pair adds the difference of its values.
        """
        count = len(values)
        spread = self.coarse[:count].var(axis=1)
        if self._in_pairs:
            even = count // 2 * 2
            alone = values[even:]  # of an odd number of masks, the last
            values, spread = np.append(values[:even:2] - values[1:even:2], alone), spread[::2]
        return float((values**2) @ spread) / count**2

    @cached_property
    def _others(self) -> tuple[Numbers, Index]:
        return self._enlarged.draw(np.random.default_rng((self._seed, 1)), _OTHERS)

    @cached_property
    def _scale(self) -> tuple[Numbers, float]:
        """The mean of each product, and by what they are multiplied."""
        grids, offsets = self._others
        products = self._products(self._enlarged.coarse(grids[:_AT_ONCE], offsets[:_AT_ONCE]))
        whole = float(np.trace(self._enlarged.covariance()))
        return products.mean(axis=0), math.sqrt(_PRODUCTS * whole / max(float(products.var(axis=0).sum()), 1e-30))

    def _products(self, coarse: Numbers) -> Numbers:
        """Of the coarse values of neighbours, [b,..]."""
        grid = coarse.reshape(-1, *self._enlarged.parts)
        pairs = [grid[:, *one] * grid[:, *other] for one, other in near(grid.shape[1:])]
        return np.concatenate([pair.reshape(len(grid), -1) for pair in pairs], axis=1)

    def _features(self, coarse: Numbers) -> Numbers:
        """The coarse values and the products, [b,F]."""
        mean, scale = self._scale
        return np.concatenate([coarse, scale * (self._products(coarse) - mean)], axis=1)


@dataclass(frozen=True, eq=False)
class Model:
    """A model of the score: slope * h(mean + weights . features), h the square or nothing, up to a constant.

    Attributes:
        weights: Of the features, [F].
        mean: See above.
        slope: See above.
        squared: Whether h is the square.
        residuals: What the model, fitted without it, gets wrong for each mask seen, [n].
    """

    weights: Numbers
    mean: float
    slope: float
    squared: bool
    residuals: Numbers

    def score(self, linear: Numbers) -> Numbers:
        """Of masks, up to a constant, from weights . features."""
        return self.slope * _h(linear + self.mean, self.squared)


class _Ridge:
    """Ridge regressions on the same features, each with the penalty of least leave-one-out error.

    Args:
        features: [n,F].
    """

    def __init__(self, features: Numbers) -> None:
        count = len(features)
        self._centre = features.mean(axis=0)
        x = features - self._centre
        if count > features.shape[1]:
            roots, self._vectors = np.linalg.eigh(x.T @ x)
        else:  # from the smaller product
            roots, left = np.linalg.eigh(x @ x.T)
            self._vectors = (x.T @ left) / np.sqrt(np.maximum(roots, 1e-12 * max(float(roots[-1]), 1e-30)))
        self._along = x @ self._vectors
        unit = max(float(roots.sum()) / count, 1e-30)
        self._shares = [1 / (np.maximum(roots, 0) + penalty * unit) for penalty in _PENALTIES]
        squares = self._along**2
        self._left = [np.maximum(1 - squares @ share - 1 / count, 1e-6) for share in self._shares]

    def fit(self, y: Numbers) -> tuple[Numbers, float, Numbers]:
        """Weights [F], their constant, and the values left out one by one, [n]."""
        mean = float(y.mean())
        reach = self._along.T @ (y - mean)
        found = [share * reach for share in self._shares]
        wrong = [(y - mean - self._along @ one) / left for one, left in zip(found, self._left, strict=True)]
        best = int(np.argmin([float((one**2).mean()) for one in wrong]))
        weights = self._vectors @ found[best]
        return weights, mean - float(self._centre @ weights), y - wrong[best]


def _model(ridge: _Ridge, scores: Numbers) -> Model:
    """The model, of the scores or of their square roots, that gets the scores left out less wrong."""
    models = [_one_model(ridge, scores, squared) for squared in ((False, True) if scores.min() >= 0 else (False,))]
    return min(models, key=lambda model: float((model.residuals**2).mean()))


def _one_model(ridge: _Ridge, scores: Numbers, squared: bool) -> Model:
    weights, mean, alone = ridge.fit(np.sqrt(scores) if squared else scores)
    told = _h(alone, squared)
    told = told - told.mean()
    least = _ROUNDING**2 * float(scores @ scores)  # below it, what is told is rounding
    slope = max(float(told @ scores) / float(told @ told), 0.0) if float(told @ told) > least else 0.0
    return Model(weights, mean, slope, squared, scores - scores.mean() - slope * told)


def _h(values: Numbers, squared: bool) -> Numbers:
    return np.asarray(np.maximum(values, 0) ** 2 if squared else values, np.float64)
