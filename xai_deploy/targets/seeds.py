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

    A class is one term of weight 1. "Why a rather than b" is s_a - s_b: two terms. "Not a" is -s_a. Weights given as an array
    have one term per class. Methods that propagate back start from the seed; methods that use scores apply `of` to them. Both are
    linear in the seed.

    Attributes:
        classes: [n,m] int64.
        weights: [n,m] float32.
        sign: [n] int8, 1 for an image whose seed is one class, -1 for one whose seed is "not a", 0 for any other.
        total: What the probabilities of a and of anything but a add up to: 1; 0 if the scores are plain numbers.
    """

    classes: Index
    weights: Array
    sign: NDArray[np.int8]
    total: float = 1.0

    @classmethod
    def of_class(cls, index: Index) -> Seed:
        """One class per image, [n]."""
        return cls(index[:, None], np.ones((len(index), 1), np.float32), np.ones(len(index), np.int8))

    @classmethod
    def against(cls, index: Index, total: float = 1.0) -> Seed:
        """The other direction of one class per image, [n]: "not a"."""
        return cls(index[:, None], np.full((len(index), 1), -1, np.float32), np.full(len(index), -1, np.int8), total)

    @classmethod
    def contrast(cls, index: Index, versus: Index) -> Seed:
        """`index` rather than `versus`, [n] each."""
        weights = np.tile(np.array([[1, -1]], np.float32), (len(index), 1))
        return cls(np.stack([index, versus], axis=1), weights, np.zeros(len(index), np.int8))

    @classmethod
    def of_weights(cls, weights: Array) -> Seed:
        """A weight for each class, [n,classes]."""
        classes = np.tile(np.arange(weights.shape[1], dtype=np.int64), (len(weights), 1))
        return cls(classes, weights, np.zeros(len(weights), np.int8))

    @classmethod
    def join(cls, seeds: Sequence[Seed]) -> Seed:
        """The images of all the seeds, in order; a seed with fewer terms repeats its last class with weight 0."""
        terms = max(seed.classes.shape[1] for seed in seeds)
        more = [((0, 0), (0, terms - seed.classes.shape[1])) for seed in seeds]
        classes = [np.pad(seed.classes, pad, mode="edge") for seed, pad in zip(seeds, more, strict=True)]
        weights = [np.pad(seed.weights, pad) for seed, pad in zip(seeds, more, strict=True)]
        return cls(
            np.concatenate(classes),
            np.concatenate(weights),
            np.concatenate([seed.sign for seed in seeds]),
            seeds[0].total,
        )

    @property
    def key(self) -> tuple[bytes, bytes]:
        """What equal seeds have in common."""
        return self.classes.tobytes(), self.weights.tobytes()

    @cached_property
    def is_class(self) -> bool:
        """Whether it is one class of weight 1 per image, in a single term."""
        return bool(self.classes.shape[1] == 1 and (self.sign == 1).all())

    @cached_property
    def target(self) -> Index:
        """The class of the largest weight, [n]; for "not a" that is a, which is its only class."""
        largest: Index = self.classes[np.arange(len(self.classes)), self.weights.argmax(axis=1)]
        return largest

    @property
    def versus(self) -> Index | None:
        """The class that a contrast subtracts, [n], -1 for an image without a contrast; None if no image has one."""
        if self.classes.shape[1] < 2:
            return None
        # Beside images with more terms, the terms that fill up have weight 0 and the last class; see `join`.
        filled = (self.weights[:, 2:] == 0) & (self.classes[:, 2:] == self.classes[:, 1:2])
        two = (self.weights[:, :2] == (1, -1)).all(axis=1) & filled.all(axis=1)
        return np.where(two, self.classes[:, 1], -1) if two.any() else None

    @property
    def contrasts(self) -> NDArray[np.bool_]:
        """The images whose seed has weights above and below 0, [n]: one score against another."""
        return np.asarray((self.weights > 0).any(axis=1) & (self.weights < 0).any(axis=1))

    def rows(self, image: Index) -> Seed:
        """The seed of a batch whose row i belongs to image `image[i]`."""
        return Seed(self.classes[image], self.weights[image], self.sign[image], self.total)

    def of(self, scores: Array) -> Array:
        """The explained score: scores [n,...,classes] -> [n,...]; a seed of one image broadcasts over any n."""
        n, terms = self.classes.shape
        if self.is_class:  # the common case; it takes a third of the time of the general one
            return scores[..., self.classes[0, 0]] if n == 1 else scores[np.arange(n), ..., self.classes[:, 0]]
        between = (1,) * (scores.ndim - 2)  # [n,m] -> [n,1,...,1,m], so that it broadcasts over the middle axes
        picked = np.take_along_axis(scores, self.classes.reshape(n, *between, terms), axis=-1)
        summed: Array = (picked * self.weights.reshape(n, *between, terms)).sum(axis=-1)
        return summed

    def of_probabilities(self, shares: Array) -> Array:
        """The explained score of probabilities [n,...,classes] -> [n,...]: as `of`, but "not a" is 1 - p_a (-a of plain numbers).

        1 - p_a is the probability of anything but a. It differs from -p_a by a constant, and unlike it is a probability, so that
        methods which weight maps with it (Score-CAM, RISE) keep positive weights.
        """
        summed = self.of(shares)
        against = (self.sign == -1).reshape(-1, *(1,) * (summed.ndim - 1))  # broadcasts as the seed does
        return summed + against.astype(np.float32) * self.total if against.any() and self.total else summed

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


def versus_of(seeds: Sequence[Seed]) -> NDArray[np.int64] | None:
    """The classes that several chunks are contrasted with, joined; -1 for images without a contrast, None if there is none."""
    contrasts = [seed.versus for seed in seeds]
    if all(versus is None for versus in contrasts):
        return None
    # Some chunks may have a contrast and others none.
    none = [np.full(len(seed.weights), -1, dtype=np.int64) for seed in seeds]
    return np.concatenate([n if v is None else v for n, v in zip(none, contrasts, strict=True)])
