"""LRP: layer-wise relevance propagation down to the pixels (Bach et al., PLoS ONE 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .method import Array, Forward, Method, Seed, methods
from .relevancecam import COMPOSITE, relevance_roles
from .saliency import Channels, over_channels

ROLE = "pixel-relevance"


@methods.register("lrp")
@dataclass(frozen=True)
class Lrp(Method):
    """M = sum_c R_c at the pixels. The start is the target's logit at the target and 0 elsewhere (section 3).

    Attributes:
        composite: The relevance graph, by the name of its composite.
        channels: How colours become one map, see `saliency.over_channels`.
    """

    composite: str = COMPOSITE
    channels: Channels = "sum"

    shows: ClassVar[str] = "each pixel's share of the score, by rules of relevance"
    plainly: ClassVar[str] = (
        "A pixel is bright if it received a large share when the score was dealt out back through the network."
    )
    passes: ClassVar[str] = "2"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False

    @property
    def roles(self) -> Mapping[str, str]:
        """See `Method.roles`."""
        return relevance_roles(ROLE, self.composite)

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign."""
        return self.channels == "sum"

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        [role] = self.roles
        return np.stack([over_channels(forward, self._relevance(forward, role, seed), self.channels) for seed in seeds])

    def _relevance(self, forward: Forward, role: str, seed: Seed) -> Array:
        # Propagation is linear in its start. So one class starts with 1, and its logit, which the same run gives, is
        # multiplied in afterwards: no forward pass is needed first.
        if seed.is_class:
            relevance = forward.backward(role, seed)
            logit = seed.of(forward.logits)
            return relevance * logit.reshape(-1, *[1] * (relevance.ndim - 1))
        # Another seed starts with weight times logit at each class, so that class c alone would start with its logit.
        return forward.backward_from_logits(role, seed)
