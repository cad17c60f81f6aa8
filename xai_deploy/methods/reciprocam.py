"""ReciproCAM: the score of a class from one position of the feature map at a time (Byun & Lee, 2022, arXiv:2209.14074)."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..format.bundle import Manifest
from .cam import class_scores
from .method import Array, Forward, Index, Method, Seed, methods, require_varying_score, score_explained, why_no_score

# along one axis, sum 1; its product over two axes is the authors' 3x3 `gaussian`, [[1,2,1],[2,4,2],[1,2,1]]/16
_KERNEL = np.array([1, 2, 1], dtype=np.float32) / 4

_MANY = 400
"""Positions from which on the number of runs is logged; classifiers end in 49 to 196."""

log = logging.getLogger(__name__)


@methods.register("reciprocam")
@dataclass(frozen=True)
class ReciproCam(Method):
    """raw_n = score_c(tail(M_n * A)), one mask M_n for each of the h*w positions n of the feature map; no ReLU.

    It needs one head run and h*w tail runs. If global average pooling and one linear layer follow the cut, the same map
    is a signed CAM divided by h*w plus a constant (pixel mask, logit score) and costs one small matrix product. If there is a
    `windowed-tail`, a run of the pixel mask computes only what its one position changes.

    The explanation's diagnostics say which way was taken: `windows`, how often the `windowed-tail` ran (0: whole maps); `share`,
    the multiply-adds after the layer as a share of those of one tail for each position; and `passes`, the same as a number of
    tails: h*w by the definition, 1 after pooling. A bundle of an earlier version does not know the share of its `windowed-tail`.

    Attributes:
        score: "logit" (the poster's text; OpenVINO XAI for CNNs), "softmax" of the logits (the authors' code), or the network's
            own "probability", which is the sigmoid for a multi-label network.
        mask: "pixel": the position itself. "gaussian": its 3x3 neighbourhood, weighted [[1,2,1],[2,4,2],[1,2,1]]/16 and
            clipped at the borders (OpenVINO XAI for ViTs); in volumes its 3x3x3 neighbourhood, by the same weights along each
            axis. "gaussian-centre": the position's own feature, copied to all positions of that weighted neighbourhood (the
            authors' `is_gaussian`).
    """

    score: Literal["logit", "probability", "softmax"] = "logit"
    mask: Literal["pixel", "gaussian", "gaussian-centre"] = "pixel"

    shows: ClassVar[str] = "the class's score from one position of the layer at a time"
    plainly: ClassVar[str] = (
        "A place is bright if the score is high when the network is left with what it found at this place alone."
    )
    passes: ClassVar[str] = "1, or a tail per position"
    roles: ClassVar[Mapping[str, str]] = {}
    by_position: ClassVar[bool] = True

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        require_varying_score("reciprocam", self.score, forward)
        if not forward.has("pixelwise-tail"):
            if self.mask == "pixel" and forward.has("windowed-tail"):
                return self._by_windows(forward, seeds)
            return self._by_masking(forward, seeds)
        _tell(forward, seeds, share=1 / math.prod(forward.activation.shape[2:]))
        if self.score == "logit":
            return self._logit_after_pooling(forward, seeds)
        return self._shares_after_pooling(forward, seeds)

    def _by_masking(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """The definition: run the tail on every masked activation, in batches."""
        activation = forward.activation
        n, _, *places = activation.shape
        count = math.prod(places)
        if count > _MANY:
            log.warning(
                "reciprocam: runs what follows the layer %d times for each image; a coarser layer takes fewer", count
            )
        _tell(forward, seeds, share=1.0)
        raw = np.empty((len(seeds), n * count), dtype=np.float32)
        starts = range(0, n * count, forward.batch_size)
        for start in forward.progress(starts, len(starts), "batches of reciprocam"):
            rows = np.arange(start, min(start + forward.batch_size, n * count))
            image, position = np.divmod(rows, count)  # row r is position r % (h*w) of image r // (h*w)
            if self.mask == "gaussian-centre":
                own = activation.reshape(n, -1, count)[image, :, position]
                features = own.reshape(*own.shape, *(1,) * len(places))  # [b,K,1,1], broadcast over the mask
            else:
                features = activation[image]
            scores = forward.tail(features * position_masks(position, places, self.mask), image, self.score)
            for t, seed in enumerate(seeds):
                raw[t, rows] = score_explained(self.score, seed.rows(image), scores)
        return raw.reshape(len(seeds), n, *places)

    def _by_windows(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """The same, computing of every tensor only what the one position changes."""
        n, _, *places = forward.activation.shape
        raw = np.empty((len(seeds), n, *places), dtype=np.float32)
        every = forward.window_parts()
        _tell(forward, seeds, forward.window_share, len(every))
        parts = [(image, *part) for image in range(n) for part in every]
        for image, rows, columns in forward.progress(parts, len(parts), "parts of reciprocam"):
            scores = forward.scored(self.score, forward.window_logits(image, rows, columns))
            for t, seed in enumerate(seeds):
                own = score_explained(self.score, seed.rows(np.full(len(scores), image)), scores)
                raw[t, image, rows[:, None], columns] = own.reshape(len(rows), len(columns))
        return raw

    def _logit_after_pooling(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """If tail(A) = mean_p(A_p) . W + b, only column c of W matters: y_n = (M s)_n / hw + b, s_p = A_p . w_c."""
        scores = class_scores(forward, seeds)  # [T,n,h,w]
        count, n, *places = scores.shape
        flat = scores.reshape(count, n, -1)
        # b from the network's own logit: logit_c = mean_p(s_p) + b
        bias = np.stack([seed.of(forward.logits) for seed in seeds]) - flat.mean(axis=-1)
        raw: Array = _pool(flat[..., None], places, self.mask)[..., 0] + bias[..., None]
        return raw.reshape(scores.shape)

    def _shares_after_pooling(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """The same for all classes, then their softmax or probabilities at each position; one image at a time saves memory."""
        n, _, *places = forward.activation.shape
        raw = np.empty((len(seeds), n, math.prod(places)), dtype=np.float32)
        for image in range(n):
            scores = forward.pixel_logits(image)  # [hw,classes]
            bias = forward.logits[image] - scores.mean(axis=0)  # b of each class, [classes]
            pooled = _pool(scores, places, self.mask)
            pooled += bias
            shares = forward.scored(self.score, pooled)
            for t, seed in enumerate(seeds):
                raw[t, image] = seed.rows(np.array([image])).of_probabilities(shares)
        return raw.reshape(len(seeds), n, *places)


def _tell(forward: Forward, seeds: Sequence[Seed], share: float | None, windows: int = 0) -> None:
    """Report which way was taken, and what it costs; see `ReciproCam`."""
    n, _, *places = forward.activation.shape
    said = {"windows": windows, **({} if share is None else {"share": share, "passes": share * math.prod(places)})}
    for name, number in said.items():
        forward.report(name, np.full((len(seeds), n), number, np.float64))


def position_masks(position: Index, places: Sequence[int], mask: str) -> Array:
    """The masks M_n of positions n [b] of an h x w map, [b,1,h,w]: one position, or a 3x3 kernel clipped at the borders.

    Args:
        position: [b], row by row.
        places: h and w; d, h and w of volumes, whose kernel is 3x3x3.
        mask: As in `ReciproCam`.
    """
    b, where = np.arange(len(position)), np.unravel_index(position, places)
    # a border of 1, cut off at the end, takes the part of a kernel outside the map
    masks = np.zeros((len(position), 1, *(side + 2 for side in places)), dtype=np.float32)
    for shift, weight in [((1,) * len(places), 1)] if mask == "pixel" else _neighbours(len(places)):
        there: Any = (b, 0, *(axis + step for axis, step in zip(where, shift, strict=True)))
        masks[there] = weight
    inside: Any = (..., *(slice(1, -1),) * len(places))
    inner: Array = masks[inside]
    return inner


def _neighbours(rank: int) -> Iterator[tuple[tuple[int, ...], np.float32]]:
    """The kernel's cells: their shifts along each axis, 0 to 2, and their weights."""
    for shift in itertools.product(range(3), repeat=rank):
        yield shift, np.float32(_KERNEL[list(shift)].prod())


def _pool(scores: Array, places: Sequence[int], mask: str) -> Array:
    """Mean over positions of the masked map: scores [...,h*w,C] -> [...,h*w,C], one row per mask."""
    # The divisor is h*w for every mask: the tail averages over all positions, masked or not.
    pooled: Array = scores / np.float32(math.prod(places))
    if mask == "gaussian":
        maps = pooled.reshape(*scores.shape[:-2], *places, scores.shape[-1])
        pooled = _smooth(maps, len(places)).reshape(scores.shape)
    elif mask == "gaussian-centre":
        ones = np.ones((*places, 1), np.float32)
        pooled *= _smooth(ones, len(places)).reshape(-1, 1)  # the kernel's sum inside the map
    return pooled


def _smooth(maps: Array, rank: int) -> Array:
    """The kernel applied at each position of [...,h,w,C], with zeros outside the borders; `rank` axes are positions."""
    places = maps.shape[-rank - 1 : -1]
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - rank - 1) + [(1, 1)] * rank + [(0, 0)])
    smooth = np.zeros_like(maps)
    for shift, weight in _neighbours(rank):
        part: Any = (..., *(slice(step, step + side) for step, side in zip(shift, places, strict=True)), slice(None))
        smooth += weight * padded[part]
    return smooth
