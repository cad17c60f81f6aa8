"""FullGrad (Srinivas & Fleuret, NeurIPS 2019, arXiv:1905.00780)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .method import Array, Forward, Method, Seed, methods


@methods.register("full-grad")
@dataclass(frozen=True)
class FullGrad(Method):
    """M = psi(x * dy/dx) + sum over layers psi(b * dy/db), b the layer's bias at every position (equation 8).

    psi takes the magnitude, rescales it to [0,1] over all channels and positions, sums it over the channels and resizes it to the
    image. The graph does all of it.
    """

    shows: ClassVar[str] = "input x gradient, and bias x gradient at every layer"
    plainly: ClassVar[str] = (
        "A pixel is bright if the score is sensitive to it, or to what the network computed there on its way."
    )
    passes: ClassVar[str] = "2"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {"full-gradient": "export the network again with --full-gradient"}

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W], not negative; see `Method.maps`."""
        return np.stack([forward.backward("full-gradient", seed) for seed in seeds])
