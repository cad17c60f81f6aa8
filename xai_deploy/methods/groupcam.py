"""Group-CAM: groups of channels as masks, weighted by the score that each restores to a blurred image.

Zhang et al. 2021, arXiv:2103.13859.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import resample
from ..errors import OptionError
from ..format.bundle import Manifest
from ..heatmap import normalise
from .cam import spatial
from .method import (
    GRADIENT_ADVICE,
    Array,
    Forward,
    Method,
    Score,
    Seed,
    methods,
    require_varying_score,
    why_no_score,
)
from .scores_seen import ScoresSeen


@methods.register("group-cam")
@dataclass(frozen=True)
class GroupCam(Method):
    """L = sum_g ReLU(f(x_g) - f(x_0)) up(S_g), S_g = ReLU(sum of w_k A_k over the channels k of group g), w_k = mean_ij g_kij.

    x_0 is the image blurred by a Gaussian, and x_g = x M_g + x_0 (1 - M_g) with M_g = minmax(up(S_g)), as in the authors' code. Its
    groups are neighbours: each has ceil(K / groups) channels, and the last one may have fewer. A group whose S_g is the same
    everywhere has no M_g, is left out and costs no run.

    Attributes:
        groups: Number of groups, at least 1.
        width: Width of the Gaussian's window in pixels, odd. The image is mirrored at its borders.
        sigma: Standard deviation of the Gaussian in pixels.
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.

    Raises:
        OptionError: Fewer than 1 group, a width that is even or below 1, or a sigma that is not above 0.
    """

    groups: int = 32
    width: int = 51
    sigma: float = 50.0
    score: Score = "probability"

    shows: ClassVar[str] = "groups of channels, weighted by the score each restores"
    plainly: ClassVar[str] = (
        "A place is bright if showing the patterns found there, with the rest blurred, brings the score back."
    )
    passes: ClassVar[str] = "36, 1 per group"
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = GRADIENT_ADVICE

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise OptionError(f"group-cam: groups are at least 1, not {self.groups}")
        if self.width < 1 or self.width % 2 == 0 or not 0 < self.sigma < np.inf:
            raise OptionError("group-cam: width is an odd number of pixels, sigma is above 0")

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        require_varying_score("group-cam", self.score, forward)
        planes = forward.channels_first(forward.x).astype(np.float32)
        # not `arranged`, which rounds 8-bit pixels: `masked_input` rounds the mixture, once
        blurred = np.moveaxis(_blurred(planes, self.width, self.sigma), 1, forward.spec.channel_axis)
        seen = ScoresSeen("group-cam", self.score, seeds, len(planes))
        raw = np.zeros((len(seeds), len(planes), *forward.image_size), np.float32)
        for t, seed in enumerate(seeds):
            gradient = forward.backward("gradient", seed)
            products = gradient.mean(axis=spatial(gradient), keepdims=True) * forward.activation
            for i in forward.progress(range(len(planes)), len(planes), "images of group-cam"):
                raw[t, i] = self._image(forward, t, i, seen, products[i], blurred[i : i + 1])
        seen.tell(forward)
        return raw

    def _image(
        self, forward: Forward, target: int, image: int, seen: ScoresSeen, products: Array, blurred: Array
    ) -> Array:
        """The map [H,W] of one image for one target, from its w_k A_k [K,h,w]."""
        size = forward.image_size
        firsts = np.arange(0, len(products), -(-len(products) // self.groups))
        coarse = np.maximum(np.add.reduceat(products, firsts, axis=0), 0)
        varying = np.ptp(coarse.reshape(len(coarse), -1), axis=1) > 0
        maps = resample.resize(coarse[varying], *size)  # [groups,H,W]
        masks = np.concatenate(
            [np.zeros((1, *size), np.float32), normalise(maps.copy(), len(size))]
        )  # first the blurred image
        scores = []
        for start in range(0, len(masks), forward.batch_size):
            part = masks[start : start + forward.batch_size]
            inputs = forward.masked_input(image, part, blurred)
            given = forward.network(inputs, np.full(len(part), image), self.score)
            scores.append(seen.of_target(target, image, given))
        found = np.concatenate(scores)
        weights = np.maximum(found[1:] - found[0], 0)
        total: Array = np.tensordot(weights, maps, 1)
        return total


def _blurred(planes: Array, width: int, sigma: float) -> Array:
    """[n,C,H,W], every colour blurred by a Gaussian whose `width` weights sum to 1; mirrored about the border's pixels."""
    reach = width // 2
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in spatial(planes):
        side = planes.shape[axis]
        source = np.pad(np.arange(side), reach, mode="reflect")  # the pixel at each place of the mirrored axis
        matrix = np.zeros((side, side))
        for first, tap in enumerate(taps):
            np.add.at(matrix, (np.arange(side), source[first : first + side]), tap)
        planes = np.moveaxis(np.tensordot(planes, matrix.astype(np.float32), (axis, 1)), -1, axis)
    return planes
