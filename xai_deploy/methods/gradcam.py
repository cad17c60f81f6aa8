"""Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cam import spatial, weighted_sum
from .method import GRADIENT_ADVICE, Array, Forward, Method, Seed, methods


@methods.register("grad-cam")
@dataclass(frozen=True)
class GradCam(Method):
    """L = ReLU(sum_k w_k A_k), w_k = mean_ij g_kij, with g = dy_c/dA of the logit (equations 1 and 2).

    If global average pooling and one linear layer follow the cut, it is CAM divided by the number of positions.
    """

    shows: ClassVar[str] = "the layer, its channels weighted by their mean gradient"
    plainly: ClassVar[str] = (
        "A place is bright if patterns were found there that raise the score on average over the picture."
    )
    passes: ClassVar[str] = "1 + a tail"
    roles: ClassVar[Mapping[str, str]] = GRADIENT_ADVICE

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        gradients = (forward.backward("gradient", seed) for seed in seeds)
        weights = np.stack([g.mean(axis=spatial(g)) for g in gradients])  # [T,n,K]
        return np.maximum(weighted_sum(weights, forward.activation), 0)
