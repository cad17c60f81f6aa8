"""SGLRP: softmax-gradient LRP (Iwana, Kuroki and Uchida, ICCV workshop 2019, arXiv:1908.04351)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import NotApplicableError
from .base import Array, Forward, Seed, methods, softmax
from .lrp import ROLE
from .relevancecam import COMPOSITE, relevance_roles
from .saliency import Channels, over_channels


@methods.register("sglrp")
@dataclass(frozen=True)
class Sglrp:
    """M = sum_c R_c at the pixels, from the gradient of the target's probability: p_t (1 - p_t) at the target t, -p_t p_j at
    each other class j, p = softmax(logits) (equation 9). Of a weighted sum of classes, the same sum of these starts.

    Attributes:
        composite: The relevance graph, by the name of its composite.
        channels: How colours become one map, see `saliency.over_channels`.
    """

    composite: str = COMPOSITE
    channels: Channels = "sum"

    @property
    def roles(self) -> Mapping[str, str]:
        """See `Method.roles`."""
        return relevance_roles(ROLE, self.composite)

    def offset(self, classes: int) -> None:
        """The start depends on the logits."""

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`.

        Raises:
            NotApplicableError: The network has one class, whose probability is always 1.
        """
        if forward.classes == 1:
            raise NotApplicableError("sglrp: the softmax of a single class is always 1; take lrp")
        [role] = self.roles
        p = softmax(forward.logits)
        maps = []
        for seed in seeds:
            weights = seed.dense(forward.classes)
            start = weights * p - (weights * p).sum(axis=1, keepdims=True) * p
            maps.append(over_channels(forward, forward.backward(role, Seed.by_hand(start)), self.channels))
        return np.stack(maps)
