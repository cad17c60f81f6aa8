"""SGLRP: softmax-gradient LRP (Iwana, Kuroki and Uchida, ICCV workshop 2019, arXiv:1908.04351)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import NotApplicableError
from .base import Array, Forward, Method, Seed, methods, softmax
from .lrp import ROLE
from .relevancecam import COMPOSITE, relevance_roles
from .saliency import Channels, over_channels


@methods.register("sglrp")
@dataclass(frozen=True)
class Sglrp(Method):
    """M = sum_c R_c at the pixels, from the gradient of the target's probability: p_t (1 - p_t) at the target t, -p_t p_j at
    each other class j, p = softmax(logits) (equation 9). Of a weighted sum of classes, the same sum of these starts.

    Attributes:
        composite: The relevance graph, by the name of its composite.
        channels: How colours become one map, see `saliency.over_channels`.
    """

    composite: str = COMPOSITE
    channels: Channels = "sum"

    several_classes: ClassVar[bool] = True

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
        # In float64, and with the weight of the best class subtracted from all (softmax's gradient ignores a constant): 1 - p of
        # a class that is nearly certain is then a sum of small numbers, and not the difference of two large ones.
        p = softmax(forward.logits.astype(np.float64))
        top = p.argmax(axis=1)[:, None]
        maps = []
        for seed in seeds:
            weights = seed.dense(forward.classes)
            weights = weights - np.take_along_axis(weights, top, axis=1)
            start = p * (weights - (weights * p).sum(axis=1, keepdims=True))
            scale = np.maximum(np.abs(start).max(axis=1), np.finfo(np.float64).tiny)
            relevance = forward.backward(role, Seed.by_hand((start / scale[:, None]).astype(np.float32)))
            relevance = relevance * scale.astype(np.float32).reshape(-1, *[1] * (relevance.ndim - 1))
            maps.append(over_channels(forward, relevance, self.channels))
        return np.stack(maps)
