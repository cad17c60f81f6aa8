"""LayerCAM (Jiang et al., IEEE TIP 2021, equation 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cam import sum_of_products
from .method import GRADIENT_ADVICE, Array, Forward, Method, Seed, methods


@methods.register("layer-cam")
@dataclass(frozen=True)
class LayerCam(Method):
    """L = ReLU(sum_k ReLU(g_k) * A_k), elementwise."""

    shows: ClassVar[str] = "positive gradient x activation at each position"
    plainly: ClassVar[str] = (
        "A place is bright if what the network found right there raises the score; what lowers it is left out."
    )
    passes: ClassVar[str] = "1 + a tail"
    roles: ClassVar[Mapping[str, str]] = GRADIENT_ADVICE

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        maps = []
        for seed in seeds:
            positive = np.maximum(forward.backward("gradient", seed), 0)
            maps.append(sum_of_products(positive, forward.activation))
        raw: Array = np.maximum(np.stack(maps), 0)  # changes nothing if A comes from a ReLU, but A may be negative
        return raw
