"""SS-CAM: Score-CAM whose weights are averaged over noisy masks (Wang et al. 2020, arXiv:2006.14255). IS-CAM shares the mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import resample
from ..format.bundle import Manifest
from ..heatmap import normalise
from .cam import weighted_sum
from .elsewhere import check_noise, floats, why_no_floats
from .method import (
    Array,
    Forward,
    Index,
    Method,
    Score,
    Seed,
    methods,
    require_varying_score,
    softmax,
    why_no_score,
)
from .scores_seen import ScoresSeen


@methods.register("ss-cam")
@dataclass(frozen=True)
class SsCam(Method):
    """L = ReLU(sum_k w_k A_k), w_k the softmax over the channels of 1/N sum_i f(x * (M_k + noise_i)), M_k = minmax(up(A_k)).

    The defaults are those of torch-cam, the public code. Channels whose map is constant have no M_k and are left out, so the
    channels' softmax is among the others.

    Attributes:
        samples: N, noisy masks for each channel, at least 1.
        sigma: Standard deviation of the noise, in units of the mask, which lies in [0,1].
        seed: Seed of the noise, 0 or more. A channel's noise does not depend on the batch.
        score: f: the network's "logit", its own "probability", or the "softmax" of the logits, for any network.
        channel_softmax: Take the softmax over the channels; else the mean scores themselves are the weights, as in Score-CAM.

    Raises:
        OptionError: Fewer than 1 sample, or a negative sigma or seed.
    """

    samples: int = 35
    sigma: float = 2.0
    seed: int = 0
    score: Score = "logit"
    channel_softmax: bool = True

    shows: ClassVar[str] = "as score-cam, averaged over noisy masks"
    plainly: ClassVar[str] = (
        "A place is bright if the score stays high while patterns found there alone are shown, on average over noisy copies."
    )
    passes: ClassVar[str] = "35 per channel"
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        check_noise("ss-cam", self.samples, self.sigma, self.seed)

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_floats(manifest) or why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        floats("ss-cam", forward)

        def noisy(masks: Array, channel: Index, sample: Index) -> Array:
            pairs = zip(channel.tolist(), sample.tolist(), strict=True)
            noise = [np.random.default_rng([self.seed, k, i]).standard_normal(masks.shape[1:]) for k, i in pairs]
            return masks + np.float32(self.sigma) * np.stack(noise).astype(np.float32)

        return averaged("ss-cam", forward, seeds, self.score, self.samples, noisy, self.channel_softmax)


def averaged(
    name: str,
    forward: Forward,
    seeds: Sequence[Seed],
    score: Score,
    samples: int,
    change: Callable[[Array, Index, Index], Array],
    channel_softmax: bool,
) -> Array:
    """Score-CAM's maps [T,n,h,w] if each weight is the mean of `samples` scores.

    Args:
        name: The method's name.
        forward: The images.
        seeds: T targets.
        score: f.
        samples: Scores for each channel.
        change: masks M_k [b,H,W], channel [b], sample [b] -> masks of the samples.
        channel_softmax: The weights are the softmax of the means over the channels.
    """
    require_varying_score(name, score, forward)
    activation, size = forward.activation, forward.image_size
    varying = np.ptp(activation.reshape(*activation.shape[:2], -1), axis=2) > 0  # [n,K]
    images, channels = (np.repeat(where, samples) for where in np.nonzero(varying))
    seen = ScoresSeen(name, score, seeds, len(activation))
    sums = np.zeros((len(seeds), *varying.shape))  # float64: many terms are added up
    starts = range(0, len(images), forward.batch_size)
    for start in forward.progress(starts, len(starts), f"batches of {name}"):
        rows = np.arange(start, min(start + forward.batch_size, len(images)))
        for image in np.unique(images[rows]).tolist():  # a batch may end one image and begin the next
            own = rows[images[rows] == image]
            masks = normalise(resample.resize(activation[image, channels[own]], *size), len(size))
            inputs = forward.masked_input(image, change(masks, channels[own], own % samples))
            scores = forward.network(inputs, np.full(len(own), image), score)
            for t in range(len(seeds)):
                np.add.at(sums[t, image], channels[own], seen.of_target(t, image, scores))
    seen.tell(forward)
    means = sums / samples
    if channel_softmax:
        some = varying.any(axis=1)  # of an image without such a channel no softmax is defined; its map stays zero
        means[:, some] = softmax(np.where(varying[some], means[:, some], -np.inf))
    return np.maximum(weighted_sum(np.asarray(means, np.float32), activation), 0)
