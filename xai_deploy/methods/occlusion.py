"""Occlusion sensitivity: what the score loses under a sliding patch (Zeiler & Fergus, ECCV 2014, arXiv:1311.2901)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..errors import OptionError
from ..format.bundle import Manifest
from .method import Array, Forward, Method, Score, Seed, methods, require_varying_score, why_no_score
from .scores_seen import ScoresSeen


@methods.register("occlusion")
@dataclass(frozen=True)
class Occlusion(Method):
    """At each pixel the mean of f(x) - f(x_P) over the patches P that cover it, x_P the image with the patch P covered.

    The patch starts at every `stride`-th pixel until it reaches the far border, which cuts the last one. Below 0 lies what speaks
    against the target. Captum's Occlusion computes the same.

    Attributes:
        size: Side of the patch in pixels; none: a seventh of the image's shortest side, rounded up, and of a volume's slices.
        stride: Step in pixels, at most `size`; none: half the size, rounded up.
        baseline: What the patch shows: "zeros" in the network's input (usually the mean colour), or "black".
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.

    Raises:
        OptionError: A size or stride below 1, or a stride above the size, which would leave pixels out.
    """

    size: int | None = None
    stride: int | None = None
    baseline: Literal["zeros", "black"] = "zeros"
    score: Score = "probability"

    shows: ClassVar[str] = "what the score loses under a sliding patch"
    plainly: ClassVar[str] = "A place is bright if the score falls when a patch covers it."
    passes: ClassVar[str] = "169, 1 per patch"
    slow: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if (self.size is not None and self.size < 1) or (self.stride is not None and self.stride < 1):
            raise OptionError("occlusion: size and stride are at least 1 pixel")
        if self.size is not None and self.stride is not None and self.stride > self.size:
            raise OptionError("occlusion: stride is at most size, else pixels between the patches are left out")

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`: differences of scores have 0 as their neutral value, also those of a contrast."""
        return True

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`.

        Raises:
            OptionError: The stride is above the size that the image's own size gives.
        """
        require_varying_score("occlusion", self.score, forward)
        count, base = len(forward.x), forward.black if self.baseline == "black" else None
        scores = forward.logits if self.score == "logit" else forward.network(forward.x, np.arange(count), self.score)
        seen = ScoresSeen("occlusion", self.score, seeds, count)
        whole = np.concatenate([seen.of_all(i, scores[i : i + 1]) for i in range(count)], axis=1)  # [T,n]
        total, covered = np.zeros((*whole.shape, *forward.image_size)), np.zeros(forward.image_size)
        patches = self._patches(forward.image_size)
        starts = range(0, len(patches), forward.batch_size)
        for start in forward.progress(starts, len(starts), "batches of occlusion"):
            batch = patches[start : start + forward.batch_size]
            masks = np.ones((len(batch), *forward.image_size), np.float32)
            for mask, patch in zip(masks, batch, strict=True):
                mask[patch] = 0
                covered[patch] += 1
            for image in range(count):
                inputs = forward.masked_input(image, masks, base)
                scores = forward.network(inputs, np.full(len(batch), image), self.score)
                for t, explained in enumerate(seen.of_all(image, scores)):
                    drops = whole[t, image] - explained
                    for drop, patch in zip(drops.tolist(), batch, strict=True):
                        total[t, image][patch] += drop
        seen.tell(forward)
        return (total / covered).astype(np.float32)

    def _patches(self, image_size: Sequence[int]) -> list[tuple[slice, ...]]:
        """The places of the patch, row by row."""
        *deep, height, width = image_size
        sizes = [self.size or -(-side // 7) for side in (*deep, *[min(height, width)] * 2)]
        strides = [self.stride or -(-size // 2) for size in sizes]
        if self.stride is not None and self.stride > (size := min(sizes)):
            raise OptionError(
                f"occlusion: stride {self.stride} is above the patch's size, which is {size} for this network"
            )
        axes = [
            [slice(start, start + size) for start in range(0, max(side - size, 0) + stride, stride)]
            for side, size, stride in zip(image_size, sizes, strides, strict=True)
        ]
        return list(itertools.product(*axes))
