"""IS-CAM: Score-CAM whose weights are integrated over the strength of the masks (Naidu et al. 2020, arXiv:2010.03023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..errors import OptionError
from ..format.bundle import Manifest
from .elsewhere import floats, why_no_floats
from .method import Array, Forward, Index, Method, Score, Seed, methods, why_no_score
from .sscam import averaged


@methods.register("is-cam")
@dataclass(frozen=True)
class IsCam(Method):
    """L = ReLU(sum_k w_k A_k), w_k the softmax over the channels of 1/N sum_i f(x * a_i M_k), M_k = minmax(up(A_k)).

    Channels whose map is constant have no M_k and are left out, so the channels' softmax is among the others.

    Attributes:
        samples: N, strengths for each channel, at least 1.
        strength: a_i: "even": i / N, from 1 / N to 1. "cumulative": sum of j / N over j <= i, which goes beyond 1 up to (N + 1) / 2
            (torch-cam).
        score: f: the network's "logit", its own "probability", or the "softmax" of the logits, for any network.
        channel_softmax: Take the softmax over the channels; else the mean scores themselves are the weights, as in Score-CAM.

    Raises:
        OptionError: Fewer than 1 sample.
    """

    samples: int = 10
    strength: Literal["even", "cumulative"] = "even"
    score: Score = "logit"
    channel_softmax: bool = True

    shows: ClassVar[str] = "as score-cam, averaged over fainter masks"
    plainly: ClassVar[str] = (
        "A place is bright if the score stays high while patterns found there alone are shown, at several strengths."
    )
    passes: ClassVar[str] = "10 per channel"
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise OptionError(f"is-cam: samples are at least 1, not {self.samples}")

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        beyond = why_no_floats(manifest) if self.strength == "cumulative" else None
        return beyond or why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        strengths = np.arange(1, self.samples + 1) / self.samples
        if self.strength == "cumulative":
            floats("is-cam", forward)  # pixels of 8 bits have no value beyond the image's own white
            strengths = np.cumsum(strengths)

        def fainter(masks: Array, channel: Index, sample: Index) -> Array:
            return masks * strengths[sample].astype(np.float32).reshape(-1, *(1,) * (masks.ndim - 1))

        return averaged("is-cam", forward, seeds, self.score, self.samples, fainter, self.channel_softmax)
