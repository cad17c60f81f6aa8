"""Gradients at the pixels: saliency (Simonyan et al. 2013, arXiv:1312.6034) and input times gradient (Shrikumar et al. 2016,
arXiv:1605.01713)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from .method import INPUT_ADVICE, Array, Forward, Method, Seed, methods

Channels = Literal["max-abs", "sum-abs", "sum"]


def over_channels(forward: Forward, values: NDArray[Any], channels: Channels) -> Array:
    """Values of the input's shape [n, ...] as maps [n,H,W]: over the colours, the largest magnitude ("max-abs"), the sum of
    magnitudes ("sum-abs"), or the signed sum ("sum")."""
    first = forward.channels_first(values)
    match channels:
        case "max-abs":
            maps = np.abs(first).max(axis=1)
        case "sum-abs":
            maps = np.abs(first).sum(axis=1)
        case "sum":
            maps = first.sum(axis=1)
    return np.asarray(maps, np.float32)


@methods.register("gradient")
@dataclass(frozen=True)
class Gradient(Method):
    """M = max_c |dy/dx_c| (section 3.1).

    Attributes:
        channels: How colours become one map, see `over_channels`.
    """

    channels: Channels = "max-abs"

    shows: ClassVar[str] = "how much the score changes with each pixel"
    plainly: ClassVar[str] = "A pixel is bright if the score changes quickly with it."
    passes: ClassVar[str] = "2"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = INPUT_ADVICE

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign."""
        return self.channels == "sum"

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        return np.stack([over_channels(forward, forward.backward("input-gradient", s), self.channels) for s in seeds])


@methods.register("input-x-gradient")
@dataclass(frozen=True)
class InputXGradient(Method):
    """M = sum_c x_c dy/dx_c, where x is the preprocessed input.

    Attributes:
        channels: How colours become one map, see `over_channels`.
    """

    channels: Channels = "sum"

    shows: ClassVar[str] = "each pixel x its gradient"
    plainly: ClassVar[str] = "A pixel is bright if its value times the score's change with it is large."
    passes: ClassVar[str] = "2"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = INPUT_ADVICE

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign."""
        return self.channels == "sum"

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        x = forward.x.astype(np.float32)
        maps = [over_channels(forward, x * forward.backward("input-gradient", s), self.channels) for s in seeds]
        return np.stack(maps)
