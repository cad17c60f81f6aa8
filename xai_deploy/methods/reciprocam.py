"""ReciproCAM: the score of a class from one position of the feature map at a time (Byun & Lee, 2022, arXiv:2209.14074)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .cam import class_scores
from .method import Array, Forward, Index, Method, Seed, methods, require_varying_score, score_explained

# 3x3 binomial kernel, sum 1 (the authors' `gaussian`)
_KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32) / 16


_MANY = 400
"""Positions from which on the number of runs is logged; classifiers end in 49 to 196."""

log = logging.getLogger(__name__)


@methods.register("reciprocam")
@dataclass(frozen=True)
class ReciproCam(Method):
    """raw_n = score_c(tail(M_n * A)), one mask M_n for each of the h*w positions n of the feature map; no ReLU.

    It needs one head run and h*w tail runs. If global average pooling and one linear layer follow the cut, the same map
    is a signed CAM divided by h*w plus a constant (pixel mask, logit score) and costs one small matrix product.

    Attributes:
        score: "logit" (the poster's text; OpenVINO XAI for CNNs), "softmax" of the logits (the authors' code), or the network's
            own "probability", which is the sigmoid for a multi-label network.
        mask: "pixel": the position itself. "gaussian": its 3x3 neighbourhood, weighted [[1,2,1],[2,4,2],[1,2,1]]/16 and
            clipped at the borders (OpenVINO XAI for ViTs). "gaussian-centre": the position's own feature, copied to
            all positions of that weighted neighbourhood (the authors' `is_gaussian`).
    """

    score: Literal["logit", "probability", "softmax"] = "logit"
    mask: Literal["pixel", "gaussian", "gaussian-centre"] = "pixel"

    shows: ClassVar[str] = "the class's score from one position of the layer at a time"
    passes: ClassVar[str] = "1, or a tail per position"
    roles: ClassVar[Mapping[str, str]] = {}
    by_position: ClassVar[bool] = True

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        require_varying_score("reciprocam", self.score, forward)
        if not forward.has("pixelwise-tail"):
            return self._by_masking(forward, seeds)
        if self.score == "logit":
            return self._logit_after_pooling(forward, seeds)
        return self._shares_after_pooling(forward, seeds)

    def _by_masking(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """The definition: run the tail on every masked activation, in batches."""
        activation = forward.activation
        n, _, h, w = activation.shape
        if h * w > _MANY:
            log.warning(
                "reciprocam: runs what follows the layer %d times for each image; a coarser layer takes fewer", h * w
            )
        raw = np.empty((len(seeds), n * h * w), dtype=np.float32)
        starts = range(0, n * h * w, forward.batch_size)
        for start in forward.progress(starts, len(starts), "batches of reciprocam"):
            rows = np.arange(start, min(start + forward.batch_size, n * h * w))
            image, position = np.divmod(rows, h * w)  # row r is position r % (h*w) of image r // (h*w)
            if self.mask == "gaussian-centre":
                y, x = np.divmod(position, w)
                features = activation[image, :, y, x][:, :, None, None]  # [b,K,1,1], broadcast over the mask
            else:
                features = activation[image]
            scores = forward.tail(features * position_masks(position, h, w, self.mask), image, self.score)
            for t, seed in enumerate(seeds):
                raw[t, rows] = score_explained(self.score, seed.rows(image), scores)
        return raw.reshape(len(seeds), n, h, w)

    def _logit_after_pooling(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """If tail(A) = mean_p(A_p) . W + b, only column c of W matters: y_n = (M s)_n / hw + b, s_p = A_p . w_c."""
        scores = class_scores(forward, seeds)  # [T,n,h,w]
        count, n, h, w = scores.shape
        flat = scores.reshape(count, n, h * w)
        # b from the network's own logit: logit_c = mean_p(s_p) + b
        bias = np.stack([seed.of(forward.logits) for seed in seeds]) - flat.mean(axis=-1)
        raw: Array = _pool(flat[..., None], h, w, self.mask)[..., 0] + bias[..., None]
        return raw.reshape(scores.shape)

    def _shares_after_pooling(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """The same for all classes, then their softmax or probabilities at each position; one image at a time saves memory."""
        n, _, h, w = forward.activation.shape
        raw = np.empty((len(seeds), n, h * w), dtype=np.float32)
        for image in range(n):
            scores = forward.pixel_logits(image)  # [hw,classes]
            bias = forward.logits[image] - scores.mean(axis=0)  # b of each class, [classes]
            pooled = _pool(scores, h, w, self.mask)
            pooled += bias
            shares = forward.scored(self.score, pooled)
            for t, seed in enumerate(seeds):
                raw[t, image] = seed.rows(np.array([image])).of_probabilities(shares)
        return raw.reshape(len(seeds), n, h, w)


def position_masks(position: Index, h: int, w: int, mask: str) -> Array:
    """The masks M_n of positions n [b] of an h x w map, [b,1,h,w]: one position, or a 3x3 kernel clipped at the borders."""
    b = np.arange(len(position))
    y, x = np.divmod(position, w)
    # a border of 1, cut off at the end, takes the part of a kernel outside the map
    masks = np.zeros((len(position), 1, h + 2, w + 2), dtype=np.float32)
    if mask == "pixel":
        masks[b, 0, y + 1, x + 1] = 1
    else:
        for dy in range(3):
            for dx in range(3):
                masks[b, 0, y + dy, x + dx] = _KERNEL[dy, dx]
    return masks[:, :, 1:-1, 1:-1]


def _pool(scores: Array, h: int, w: int, mask: str) -> Array:
    """Mean over positions of the masked map: scores [...,h*w,C] -> [...,h*w,C], one row per mask."""
    # The divisor is h*w for every mask: the tail averages over all positions, masked or not.
    pooled: Array = scores / np.float32(h * w)
    if mask == "gaussian":
        pooled = _smooth(pooled.reshape(*scores.shape[:-2], h, w, scores.shape[-1])).reshape(scores.shape)
    elif mask == "gaussian-centre":
        pooled *= _smooth(np.ones((h, w, 1), np.float32)).reshape(h * w, 1)  # the kernel's sum inside the map
    return pooled


def _smooth(maps: Array) -> Array:
    """The 3x3 kernel applied at each position, with zeros outside the borders: [...,h,w,C]."""
    h, w = maps.shape[-3:-1]
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    smooth = np.zeros_like(maps)
    for dy in range(3):
        for dx in range(3):
            smooth += _KERNEL[dy, dx] * padded[..., dy : dy + h, dx : dx + w, :]
    return smooth
