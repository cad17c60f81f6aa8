"""CAM: class activation mapping (Zhou et al., CVPR 2016, arXiv:1512.04150, equation 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .method import Array, Forward, Method, Seed, methods


@methods.register("cam")
@dataclass(frozen=True)
class Cam(Method):
    """L = sum_k w_k^c A_k, where w are the classifier's weights; defined only if global average pooling and one linear
    layer follow the target layer.

    Attributes:
        relu: Keep the positive part only (the usual practice); False gives the paper's signed map.
    """

    relu: bool = True

    shows: ClassVar[str] = "the layer, channels weighted by the classifier's weights"
    plainly: ClassVar[str] = (
        "A place is bright if the patterns that the network found there count towards the class in its last layer."
    )
    passes: ClassVar[str] = "1"
    roles: ClassVar[Mapping[str, str]] = {
        "pixelwise-tail": "CAM is defined only if global average pooling and one linear layer follow the target "
        "layer; cut there (xai-export --split auto) or take reciprocam"
    }

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`."""
        return not self.relu

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        maps = class_scores(forward, seeds)
        return np.maximum(maps, 0) if self.relu else maps


def class_scores(forward: Forward, seeds: Sequence[Seed]) -> Array:
    """sum_k w_k^c A_k at every position: [T,n,h,w] for T seeds."""
    # A seed is a weighted sum of classes, so its classifier row is the same sum of the classes' rows.
    weights = np.stack([seed.combine(forward.classifier()) for seed in seeds])  # [T,n,K]
    return weighted_sum(weights, forward.activation)


def weighted_sum(weights: Array, activation: Array) -> Array:
    """sum_k w_k A_k: weights [T,n,K], activation [n,K,h,w] -> [T,n,h,w].

    As sum_k w_k (A_k - min A_k) + sum_k w_k min A_k: otherwise a map that hardly varies is told by the last digits of a large sum,
    and its heatmap, which is stretched, is off by their rounding. After a ReLU the minimum is mostly 0, and nothing changes.
    """
    n, channels, *places = activation.shape
    flat = activation.reshape(n, channels, -1)
    lowest = flat.min(axis=2, keepdims=True)
    # einsum, not matmul: BLAS threads would still spin during the next inference
    maps: Array = np.einsum("tnk,nkp->tnp", weights, flat - lowest)
    maps += np.einsum("tnk,nkp->tnp", weights, lowest)
    return maps.reshape(*weights.shape[:2], *places)


def sum_of_products(a: Array, b: Array) -> Array:
    """sum_k a_k b_k at every position: [n,K,h,w] twice -> [n,h,w]."""
    axes = positions(a)
    products: Array = np.einsum(f"nk{axes},nk{axes}->n{axes}", a, b)
    return products


def spatial(a: Array) -> tuple[int, ...]:
    """The axes of the positions in [n,K,h,w], or in [n,K,d,h,w] of volumes."""
    return tuple(range(2, a.ndim))


def positions(a: Array) -> str:
    """Their letters for `einsum`."""
    return "dhw"[5 - a.ndim :]
