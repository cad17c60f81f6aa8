"""Ablation-CAM: channels weighted by what the score loses without them (Desai & Ramaswamy, WACV 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..format.bundle import Manifest
from .cam import spatial, weighted_sum
from .method import Array, Forward, Method, Score, Seed, methods, require_varying_score, score_explained, why_no_score
from .scores_seen import ScoresSeen


@methods.register("ablation-cam")
@dataclass(frozen=True)
class AblationCam(Method):
    """L = ReLU(sum_k w_k A_k), w_k = (y - y_k) / |y|, y_k the score with channel k set to 0 (equations 4 and 5).

    A channel of zeros costs no run. If global average pooling and one linear layer follow the cut, y_k is known without one.

    Attributes:
        score: y: the "logit" (the paper), the "softmax" of the logits, or the network's own "probability".
        divisor: What the drop is divided by: the score's "magnitude", or the "score" itself, as in the paper. The map of a score
            below 0 is then turned round: it shows what speaks against the target. Above 0 the two are equal.
    """

    score: Score = "logit"
    divisor: Literal["magnitude", "score"] = "magnitude"

    shows: ClassVar[str] = "channels, weighted by what the score loses without each"
    plainly: ClassVar[str] = (
        "A place is bright if the score falls when the patterns that the network found there are taken away."
    )
    passes: ClassVar[str] = "1, or a tail per channel"
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = {}

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        require_varying_score("ablation-cam", self.score, forward)
        activation = forward.activation
        every = np.arange(len(activation))
        scores = forward.logits if self.score == "logit" else forward.tail(activation, every, self.score)
        whole = np.stack([score_explained(self.score, seed, scores) for seed in seeds])  # [T,n]
        without = (self._after_pooling if forward.has("pixelwise-tail") else self._by_runs)(forward, seeds, whole)
        self._look(forward, seeds, whole, without)
        below = np.abs(whole) if self.divisor == "magnitude" else whole
        weights = np.asarray((whole[..., None] - without) / np.where(below == 0, 1, below)[..., None], np.float32)
        return np.maximum(weighted_sum(weights, activation), 0)

    def _look(self, forward: Forward, seeds: Sequence[Seed], whole: Array, without: Array) -> None:
        """Report the range of the scores, and say if no channel changes one."""
        seen = ScoresSeen("ablation-cam", self.score, seeds, whole.shape[1])
        for t, i in np.ndindex(*whole.shape):
            seen.note(t, i, np.append(without[t, i], whole[t, i]))
        seen.tell(forward)

    def _by_runs(self, forward: Forward, seeds: Sequence[Seed], whole: Array) -> Array:
        """The scores without each channel, [T,n,K]: the definition, one run of the tail for each channel that is not all zeros."""
        activation = forward.activation
        without = np.repeat(whole[..., None], activation.shape[1], axis=2)
        images, channels = np.nonzero(activation.any(axis=spatial(activation)))
        starts = range(0, len(images), forward.batch_size)
        for start in forward.progress(starts, len(starts), "batches of ablation-cam"):
            rows = slice(start, start + forward.batch_size)
            image, channel = images[rows], channels[rows]
            others = activation[image]
            others[np.arange(len(image)), channel] = 0
            scores = forward.tail(others, image, self.score)
            for t, seed in enumerate(seeds):
                without[t, image, channel] = score_explained(self.score, seed.rows(image), scores)
        return without

    def _after_pooling(self, forward: Forward, seeds: Sequence[Seed], whole: Array) -> Array:
        """The same if logits = W mean_p(A_p) + b: without channel k, W_k mean(A_k) is missing. One image at a time saves memory."""
        activation, classifier = forward.activation, forward.classifier()  # [classes,K]
        means = activation.mean(axis=spatial(activation))  # [n,K]
        if self.score == "logit":
            less: Array = whole[..., None] - np.stack([seed.combine(classifier) for seed in seeds]) * means
            return less
        without = np.empty((*whole.shape, len(classifier.T)), np.float32)
        for i, mean in enumerate(means):
            shares = forward.scored(self.score, forward.logits[i] - classifier.T * mean[:, None])  # [K,classes]
            for t, seed in enumerate(seeds):
                without[t, i] = seed.rows(np.array([i])).of_probabilities(shares)
        return without
