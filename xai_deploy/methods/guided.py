"""Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806) and guided Grad-CAM (Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import resample
from .gradcam import GradCam
from .method import GRADIENT_ADVICE, Array, Forward, Method, Seed, methods
from .saliency import Channels, over_channels

_ADVICE = {"guided-gradient": "export the network again with --guided"}


@methods.register("guided-backprop")
@dataclass(frozen=True)
class GuidedBackprop(Method):
    """The gradient at the pixels; each ReLU passes it only where its input is positive and the incoming gradient is too.

    Attributes:
        channels: How colours become one map, see `saliency.over_channels`.
    """

    channels: Channels = "max-abs"

    shows: ClassVar[str] = "the pixels' gradient, positive parts only"
    plainly: ClassVar[str] = (
        "A pixel is bright if it raises the score by ways that are positive at each step; often the same for every class."
    )
    passes: ClassVar[str] = "2"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = _ADVICE

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign."""
        return self.channels == "sum"

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        return np.stack([over_channels(forward, forward.backward("guided-gradient", s), self.channels) for s in seeds])


@methods.register("guided-grad-cam")
@dataclass(frozen=True)
class GuidedGradCam(Method):
    """Guided backpropagation times the Grad-CAM map, resized to the input (section 3.2).

    Attributes:
        channels: How colours become one map, see `saliency.over_channels`.
    """

    channels: Channels = "max-abs"

    shows: ClassVar[str] = "guided-backprop x grad-cam"
    plainly: ClassVar[str] = "A pixel is bright if it is so in guided-backprop and lies where Grad-CAM is bright."
    passes: ClassVar[str] = "3 + a tail"
    at_pixels: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = _ADVICE | GRADIENT_ADVICE

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign."""
        return self.channels == "sum"

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        coarse = resample.resize(GradCam().maps(forward, seeds), *forward.image_size)
        fine = GuidedBackprop(self.channels).maps(forward, seeds)
        return fine * coarse  # equal to the product per colour: the factor is not negative and the same for all colours
