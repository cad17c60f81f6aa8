"""The scores that a method of masks sees, and a word if they are all the same: its map is then not the network's doing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .method import Array, Forward, Score, Seed, score_explained

log = logging.getLogger(__name__)

_ROUNDING = 1e-6
"""What counts as rounding, as a share of the largest score seen: some units in the last place of float32."""


class ScoresSeen:
    """The scores explained of masked images, as they come: the lowest and the highest of each target and image.

    Attributes:
        score: f.
        targets: T.

    Args:
        name: The method.
        score: f.
        seeds: T targets, each for all images.
        images: How many images the chunk has.
    """

    def __init__(self, name: str, score: Score, seeds: Sequence[Seed], images: int) -> None:
        self.score, self.targets, self._name = score, len(seeds), name
        self._rows = [[seed.rows(np.array([i])) for i in range(images)] for seed in seeds]
        self._count = np.zeros((len(seeds), images), int)
        self._low, self._high = np.full((2, len(seeds), images), np.inf) * np.array([1.0, -1.0])[:, None, None]

    def of_target(self, target: int, image: int, scores: Array) -> Array:
        """The score explained, [b], of scores of that kind of image `image` under other masks, [b,classes]."""
        found = score_explained(self.score, self._rows[target][image], scores)
        self.note(target, image, found)
        return found

    def note(self, target: int, image: int, explained: NDArray[np.floating[Any]]) -> None:
        """Take in scores explained, [b], of image `image` under other masks."""
        self._count[target, image] += len(explained)
        self._low[target, image] = min(self._low[target, image], explained.min())
        self._high[target, image] = max(self._high[target, image], explained.max())

    def of_all(self, image: int, scores: Array) -> Array:
        """The scores explained of all targets, [T,b]."""
        return np.stack([self.of_target(target, image, scores) for target in range(self.targets)])

    def tell(self, forward: Forward) -> None:
        """Report the `score_range`, the highest score less the lowest, and log a warning where it is no more than rounding.

        Where no mask was seen, it is 0, and nothing is said: the map is constant for a reason of its own.
        """
        spread = np.subtract(self._high, self._low, out=np.zeros_like(self._low), where=self._count > 0)
        forward.report("score_range", spread)
        same = (self._count > 1) & (spread <= _ROUNDING * np.maximum(np.abs(self._low), np.abs(self._high)))
        if same.any():
            said = (
                "%s: the score stays the same whatever is hidden, but for rounding, in %d of %d maps; what varies there comes from "
                "the masks or from rounding, not from the network%s"
            )
            advice = "" if self.score == "logit" else "; score='logit' may tell more"
            log.warning(said, self._name, same.sum(), same.size, advice)
