"""CLRP: contrastive LRP (Gu, Yang and Tresp, ACCV 2018, arXiv:1812.02100)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .lrp import ROLE
from .method import Array, Forward, Method, Seed, methods
from .relevancecam import COMPOSITE, contrast, relevance_roles
from .saliency import Channels, over_channels


@methods.register("clrp")
@dataclass(frozen=True)
class Clrp(Method):
    """M = sum_c R_c at the pixels, from a start of 1 at the target and equal negative weights elsewhere: the relevance of the
    target minus that of its dual, all other classes (CLRP1, equation 3).

    Attributes:
        composite: The relevance graph, by the name of its composite.
        others: Weight of each of the n-1 other classes: -1/(n-1), so that the start sums to zero, or Relevance-CAM's -1/n.
        relu: Keep max(0, R_target - R_dual) at each input value, as the paper does; False keeps the sign.
        channels: How colours become one map, see `saliency.over_channels`.
    """

    composite: str = COMPOSITE
    others: Literal["1/(n-1)", "1/n"] = "1/(n-1)"
    relu: bool = True
    channels: Channels = "sum"

    shows: ClassVar[str] = "relevance of the pixels, compared with all other classes"
    plainly: ClassVar[str] = (
        "A pixel is bright if it received a share of this class's score that the other classes did not receive."
    )
    passes: ClassVar[str] = "2"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False

    @property
    def roles(self) -> Mapping[str, str]:
        """See `Method.roles`."""
        return relevance_roles(ROLE, self.composite)

    def offset(self, classes: int) -> float:
        """The a of `relevancecam.contrast`: a / (1 + a) = -1/(n-1) or -1/n; 0 for one class, which has no dual."""
        if classes <= 1:
            return 0.0
        return -1 / (classes + 1) if self.others == "1/n" else -1 / classes

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign, nor has the ReLU's result."""
        return self.channels == "sum" and not self.relu

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        [role] = self.roles
        maps = []
        for seed in seeds:
            relevance = contrast(forward, role, seed, self.offset(forward.compared))
            # ReLU before the sum over the colours: the paper takes it at each input value
            maps.append(over_channels(forward, np.maximum(relevance, 0) if self.relu else relevance, self.channels))
        return np.stack(maps)
