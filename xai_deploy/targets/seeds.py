"""The seed: the score that is explained, a weighted sum of class scores; in the simplest case one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Seed:
    """The score to explain, for each of n images: s = sum_m weights_m * scores[classes_m].

    A class is one term of weight 1. "Why a rather than b" is s_a - s_b: two terms. A seed by hand has one term per class.
    Methods that propagate back start from the seed; methods that use scores apply `of` to them. Both are linear in the seed.

    Attributes:
        classes: [n,m] int64.
        weights: [n,m] float32.
    """

    classes: Index
    weights: Array

    @classmethod
    def of_class(cls, index: Index) -> Seed:
        """One class per image, [n]."""
        return cls(index[:, None], np.ones((len(index), 1), np.float32))

    @classmethod
    def contrast(cls, index: Index, versus: Index) -> Seed:
        """`index` rather than `versus`, [n] each."""
        weights = np.tile(np.array([[1, -1]], np.float32), (len(index), 1))
        return cls(np.stack([index, versus], axis=1), weights)

    @classmethod
    def by_hand(cls, weights: Array) -> Seed:
        """A weight for each class, [n,classes]."""
        return cls(np.tile(np.arange(weights.shape[1], dtype=np.int64), (len(weights), 1)), weights)

    @classmethod
    def join(cls, seeds: Sequence[Seed]) -> Seed:
        """The images of all the seeds, in order; a seed with fewer terms repeats its last class with weight 0."""
        terms = max(seed.classes.shape[1] for seed in seeds)
        more = [((0, 0), (0, terms - seed.classes.shape[1])) for seed in seeds]
        classes = [np.pad(seed.classes, pad, mode="edge") for seed, pad in zip(seeds, more, strict=True)]
        weights = [np.pad(seed.weights, pad) for seed, pad in zip(seeds, more, strict=True)]
        return cls(np.concatenate(classes), np.concatenate(weights))

    @cached_property
    def is_class(self) -> bool:
        """Whether it is one class of weight 1 per image; a single term of another weight, from a seed by hand, is not."""
        return bool(self.classes.shape[1] == 1 and self.weights.tolist() == [[1.0]] * len(self.weights))

    @cached_property
    def classes_alone(self) -> NDArray[np.bool_]:
        """The images whose seed is one class, [n]; after `join` with a contrast, such a seed has a second term of weight 0."""
        if self.classes.shape[1] > 2 or self.versus is None:
            return np.full(len(self.classes), self.is_class)
        return np.asarray(self.versus < 0)  # -1: no contrast, so one class

    @cached_property
    def target(self) -> Index:
        """The class of the largest weight, [n]."""
        largest: Index = self.classes[np.arange(len(self.classes)), self.weights.argmax(axis=1)]
        return largest

    @property
    def versus(self) -> Index | None:
        """The class that a contrast subtracts, [n], -1 for an image without a contrast; None if no image has one."""
        if self.classes.shape[1] != 2 or not (self.weights[:, 0] == 1).all():
            return None
        if not np.isin(self.weights[:, 1], (0, -1)).all() or not self.weights[:, 1].any():
            return None
        return np.where(self.weights[:, 1] == -1, self.classes[:, 1], -1)  # weight 0: no contrast for this image

    @property
    def contrasts(self) -> NDArray[np.bool_]:
        """The images whose seed has weights above and below 0, [n]: one score against another."""
        return np.asarray((self.weights > 0).any(axis=1) & (self.weights < 0).any(axis=1))

    def rows(self, image: Index) -> Seed:
        """The seed of a batch whose row i belongs to image `image[i]`."""
        return Seed(self.classes[image], self.weights[image])

    def of(self, scores: Array) -> Array:
        """The explained score: scores [n,...,classes] -> [n,...]; a seed of one image broadcasts over any n."""
        n, terms = self.classes.shape
        if self.is_class:  # the common case; it takes a third of the time of the general one
            return scores[..., self.classes[0, 0]] if n == 1 else scores[np.arange(n), ..., self.classes[:, 0]]
        between = (1,) * (scores.ndim - 2)  # [n,m] -> [n,1,...,1,m], so that it broadcasts over the middle axes
        picked = np.take_along_axis(scores, self.classes.reshape(n, *between, terms), axis=-1)
        summed: Array = (picked * self.weights.reshape(n, *between, terms)).sum(axis=-1)
        return summed

    def combine(self, rows: Array) -> Array:
        """The weighted sum of per-class vectors: rows [classes,K] -> [n,K]."""
        if self.is_class:
            return rows[self.classes[:, 0]]
        return np.stack([np.einsum("m,mk->k", w, rows[c]) for c, w in zip(self.classes, self.weights, strict=True)])

    def dense(self, classes: int) -> Array:
        """A weight for each class, [n,classes]."""
        weights = np.zeros((len(self.classes), classes), np.float32)
        # add.at, not an assignment: a class may occur in several terms (see `join`), whose weights must be summed
        np.add.at(weights, (np.arange(len(weights))[:, None], self.classes), self.weights)
        return weights
