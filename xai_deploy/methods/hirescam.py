"""HiResCAM (Draelos & Carin 2020, arXiv:2011.08891)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cam import sum_of_products
from .method import GRADIENT_ADVICE, Array, Forward, Method, Seed, methods


@methods.register("hires-cam")
@dataclass(frozen=True)
class HiResCam(Method):
    """L = ReLU(sum_k g_k * A_k), elementwise: nothing is averaged over positions."""

    shows: ClassVar[str] = "gradient x activation at each position of the layer"
    plainly: ClassVar[str] = "A place is bright if what the network found right there raises the score."
    passes: ClassVar[str] = "1 + a tail"
    sums_products: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = GRADIENT_ADVICE

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        maps = [sum_of_products(forward.backward("gradient", s), forward.activation) for s in seeds]
        raw: Array = np.maximum(np.stack(maps), 0)
        return raw
