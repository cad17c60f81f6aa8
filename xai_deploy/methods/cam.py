"""CAM: class activation mapping (Zhou et al., CVPR 2016, arXiv:1512.04150, equation 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Array, Forward, Index, methods


@methods.register("cam")
@dataclass(frozen=True)
class Cam:
    """L = sum_k w_k^c A_k, with w the classifier's weights; defined only where global average pooling and one linear
    layer follow the target layer.

    Attributes:
        relu: Keep the positive part only (the usual practice); False gives the paper's signed map.
    """

    relu: bool = True

    roles: ClassVar[Mapping[str, str]] = {
        "pixelwise-tail": "CAM is defined only where global average pooling and one linear layer follow the target "
        "layer; cut there (xai-export --split auto) or take reciprocam"
    }

    def maps(self, forward: Forward, targets: Index) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        maps = class_scores(forward, targets)
        return np.maximum(maps, 0) if self.relu else maps


def class_scores(forward: Forward, targets: Index) -> Array:
    """sum_k w_k^c A_k at every position: [T,n,h,w] for targets c [T,n]."""
    activation = forward.activation
    n, channels, h, w = activation.shape
    weights = forward.classifier()[targets]  # [T,n,K]
    # einsum, not matmul: BLAS threads would go on spinning into the next inference
    scores: Array = np.einsum("tnk,nkp->tnp", weights, activation.reshape(n, channels, h * w))
    return scores.reshape(*targets.shape, h, w)
