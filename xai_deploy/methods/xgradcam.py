"""XGrad-CAM (Fu et al., BMVC 2020, arXiv:2008.02312)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cam import positions, spatial, weighted_sum
from .method import GRADIENT_ADVICE, Array, Forward, Method, Seed, check_epsilon, methods


@methods.register("xgrad-cam")
@dataclass(frozen=True)
class XGradCam(Method):
    """L = ReLU(sum_k w_k A_k), w_k = sum_ij g_kij A_kij / sum_ij A_kij (equation 8); 0 where the denominator is 0.

    Attributes:
        eps: Added to the denominator. None is the paper's equation; 1e-7 reproduces pytorch-grad-cam, 1e-6 the authors' code.

    Raises:
        OptionError: An epsilon that is not positive.
    """

    eps: float | None = None

    shows: ClassVar[str] = "the layer, its channels weighted by gradient x activation"
    plainly: ClassVar[str] = (
        "A place is bright if patterns were found there that raise the score, each by how strongly it was found."
    )
    passes: ClassVar[str] = "1 + a tail"
    roles: ClassVar[Mapping[str, str]] = GRADIENT_ADVICE

    def __post_init__(self) -> None:
        check_epsilon("xgrad-cam", self.eps)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        activation = forward.activation
        # In float64, because positive and negative activations may nearly cancel in the denominator.
        total = activation.sum(axis=spatial(activation), dtype=np.float64) + (self.eps or 0.0)
        axes, weights = positions(activation), []
        for seed in seeds:
            g = forward.backward("gradient", seed)
            above = np.einsum(f"nk{axes},nk{axes}->nk", g, activation, dtype=np.float64)
            weights.append(np.divide(above, total, out=np.zeros_like(above), where=total != 0).astype(np.float32))
        return np.maximum(weighted_sum(np.stack(weights), activation), 0)
