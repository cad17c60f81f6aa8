"""Eigen-Grad-CAM: the first principal component of gradient times activation (pytorch-grad-cam's EigenGradCAM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .eigencam import first_component
from .method import GRADIENT_ADVICE, Array, Forward, Method, Seed, methods


@methods.register("eigen-grad-cam")
@dataclass(frozen=True)
class EigenGradCam(Method):
    """L = ReLU(P v), P = g * A as [h*w,K] and v its first right singular vector.

    The sign of v is free. Here it is the one for which the projection agrees with HiResCAM's sum over the channels, so what the map
    shows speaks for the target.

    Attributes:
        centred: Subtract each channel's mean first (pytorch-grad-cam, whose sign is the one that its LAPACK gives).
    """

    centred: bool = False

    shows: ClassVar[str] = "the first principal component of gradient x activation"
    plainly: ClassVar[str] = "A place is bright if the strongest common pattern of what moves the score is there."
    passes: ClassVar[str] = "1 + a tail"
    roles: ClassVar[Mapping[str, str]] = GRADIENT_ADVICE

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        products = (forward.backward("gradient", seed) * forward.activation for seed in seeds)
        return np.stack([first_component(product, self.centred) for product in products])
