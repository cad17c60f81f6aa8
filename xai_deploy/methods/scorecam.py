"""Score-CAM: channels weighted by the network's score for the image under them (Wang et al., CVPR-W 2020, arXiv:1910.01279)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .. import resample
from ..errors import OptionError
from ..format.bundle import Manifest
from ..heatmap import normalise
from .interpolated_weights import STEP, Numbers, interpolate
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
from .ticking import ticking
from .tolerance import check_tolerance, warn_of_tolerance


@methods.register("score-cam")
@dataclass(frozen=True)
class ScoreCam(Method):
    """L = ReLU(sum_k weight_k A_k), weight_k = f(x * M_k)_c - f(x_b)_c, M_k = minmax(up(A_k)).

    The defaults follow the authors' code: f is the probability, there is no baseline term, channels whose map is constant
    are left out, and the sum runs over the upsampled A_k without normalisation, so the raw map has the input's size.
    Each channel costs one inference, except a constant channel, which costs none. The K inferences are streamed in
    batches, for all targets at once.

    With `budget` or `tolerance` only some channels cost an inference: the scores of the others are interpolated, see
    `interpolated_weights`. The explanation's diagnostics then hold the `passes` and the `relative_error` that the map (as Euclidean
    norm, at the activation's size) should not exceed; 0: all channels were asked for.

    Attributes:
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.
        baseline: "zeros" subtracts f(0) from every weight (the paper's "channel-wise increase of confidence").
        channel_softmax: pytorch-grad-cam's variant: the weights are the softmax over the channels of the raw logits.
            Constant channels take part with a mask of zeros, and the sum runs over the maps at the activation's own size.
            It needs score="logit" and no baseline.
        budget: The most channels asked for in an image, at least 16, an inference each (the black image of `baseline` is one more);
            None: all.
        tolerance: Ask for channels, 16 at a time, until the relative error stated is at most this; None: only `budget` counts.

    Raises:
        OptionError: `channel_softmax` with another score, a baseline, a budget or a tolerance; a budget below 16; a tolerance
            that is not above 0.
    """

    score: Score = "probability"
    baseline: Literal["zeros"] | None = None
    channel_softmax: bool = False
    budget: int | None = None
    tolerance: float | None = None

    shows: ClassVar[str] = "channels, weighted by the score of the image through each"
    plainly: ClassVar[str] = "A place is bright if the score stays high while the patterns found there alone are shown."
    passes: ClassVar[str] = "1 per channel"
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.channel_softmax and (self.score != "logit" or self.baseline is not None):
            raise OptionError("score-cam: channel_softmax takes raw logits; give score='logit' and no baseline with it")
        if self.channel_softmax and self._interpolates:
            raise OptionError(
                "score-cam: channel_softmax compares all channels; give no budget and no tolerance with it"
            )
        if self.budget is not None and self.budget < STEP:
            raise OptionError(f"score-cam: budget is at least {STEP} inferences, not {self.budget}")
        check_tolerance("score-cam", self.tolerance)

    @property
    def _interpolates(self) -> bool:
        return self.budget is not None or self.tolerance is not None

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W], or [T,n,h,w] with `channel_softmax`; see `Method.maps`."""
        require_varying_score("score-cam", self.score, forward)
        every = range(len(forward.x))
        seen = ScoresSeen("score-cam", self.score, seeds, len(every))
        if not self._interpolates:
            exact = np.stack([self._image(forward, i, seen) for i in every], axis=1)
            seen.tell(forward)
            return exact
        maps, errors, passes = zip(*(self._interpolated(forward, i, seen) for i in every), strict=True)
        seen.tell(forward)
        warn_of_tolerance("score-cam", self.tolerance, np.stack(errors), "budget")
        forward.report("relative_error", np.stack(errors, axis=1))
        forward.report("passes", np.tile(np.array(passes, np.float64), (len(seeds), 1)))
        return np.stack(maps, axis=1)

    def _image(self, forward: Forward, image: int, seen: ScoresSeen) -> Array:
        activation = forward.activation[image]  # [K,h,w]
        varying = _varying(activation)
        weights = np.zeros((seen.targets, len(activation)), dtype=np.float32)
        for channels, scores in self._masked_passes(forward, image, varying):
            weights[:, channels] = seen.of_all(image, scores)
        # Both variants need f(0): as the baseline, or as the score of a constant channel, whose mask is all zeros.
        if self.baseline == "zeros" or (self.channel_softmax and len(varying) < len(activation)):
            at_zero = self._at_zero(forward, image, seen)
            if self.baseline == "zeros":
                weights[:, varying] -= at_zero[:, None]
            else:
                weights[:, np.setdiff1d(np.arange(len(activation)), varying)] = at_zero[:, None]
        if self.channel_softmax:
            weights = softmax(weights)
        maps = np.tensordot(weights, activation, 1)  # [T,h,w]
        if not self.channel_softmax:
            # Resizing is linear, so one resized sum equals the sum of K resized channels.
            maps = resample.resize(maps, *forward.image_size)
        return np.maximum(maps, 0)

    def _interpolated(self, forward: Forward, image: int, seen: ScoresSeen) -> tuple[Array, Numbers, int]:
        """The maps [T,H,W], their errors [T], and how many inferences they cost."""
        activation = forward.activation[image]
        varying = _varying(activation)
        less, passes = np.zeros(seen.targets), 0
        if self.baseline == "zeros":
            less, passes = self._at_zero(forward, image, seen).astype(np.float64), 1
        if not varying.size:
            return np.zeros((seen.targets, *forward.image_size), np.float32), np.zeros(seen.targets), passes

        flat = activation[varying].reshape(len(varying), -1).astype(np.float64)
        most = len(varying) if self.budget is None else min(self.budget, len(varying))
        with ticking(forward, most, f"channels of score-cam, at most{_which(forward, image)}") as tick:

            def ask(masks: Index) -> Numbers:
                scores = []
                for start in range(0, len(masks), forward.batch_size):
                    channels = varying[masks[start : start + forward.batch_size]]
                    given = self._scores(forward, image, self._masks(forward, image, channels))
                    scores.append(seen.of_all(image, given).astype(np.float64))
                    tick(len(channels))
                return np.concatenate(scores, axis=1)

            found = interpolate(flat, ask, less, self.budget, self.tolerance)
        weights = (found.weights - less[:, None]).astype(np.float32)
        maps = resample.resize(np.tensordot(weights, activation[varying], 1), *forward.image_size)
        return np.maximum(maps, 0), found.errors, found.passes + passes

    def _masked_passes(self, forward: Forward, image: int, channels: Index) -> Iterator[tuple[Index, Array]]:
        """Batches of channels, each with the scores [b,classes] of the image under the channels' masks."""
        starts = range(0, len(channels), forward.batch_size)
        for start in forward.progress(starts, len(starts), f"batches of score-cam{_which(forward, image)}"):
            batch = channels[start : start + forward.batch_size]
            yield batch, self._scores(forward, image, self._masks(forward, image, batch))

    def _masks(self, forward: Forward, image: int, channels: Index) -> Array:
        """M_k of channels, [b,H,W]."""
        size = forward.image_size
        return normalise(resample.resize(forward.activation[image, channels], *size), len(size))

    def _at_zero(self, forward: Forward, image: int, seen: ScoresSeen) -> Array:
        """f(0) of an image, [T]."""
        empty = np.zeros((1, *forward.image_size), dtype=np.float32)
        return seen.of_all(image, self._scores(forward, image, empty))[:, 0]

    def _scores(self, forward: Forward, image: int, masks: Array) -> Array:
        """The scores [b,classes] of an image under masks [b,H,W]."""
        return forward.network(forward.masked_input(image, masks), np.full(len(masks), image), self.score)


def _which(forward: Forward, image: int) -> str:
    """For a progress bar, which image of several it is."""
    images = len(forward.x)
    return f", image {image + 1} of {images}" if images > 1 else ""


def _varying(activation: Array) -> Index:
    """The channels of an activation [K,h,w] that are not constant: only their minmax is defined."""
    return np.flatnonzero(np.ptp(activation, axis=tuple(range(1, activation.ndim))) > 0)
