"""SGLRP: softmax-gradient LRP (Iwana, Kuroki and Uchida, ICCV workshop 2019, arXiv:1908.04351)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import NotApplicableError
from ..format.bundle import Manifest
from .lrp import ROLE
from .method import Array, Forward, Method, Seed, methods, softmax
from .relevancecam import COMPOSITE, relevance_roles
from .saliency import Channels, over_channels


@methods.register("sglrp")
@dataclass(frozen=True)
class Sglrp(Method):
    """M = sum_c R_c at the pixels. The start is the gradient of the target's probability: p_t (1 - p_t) at the target t,
    -p_t p_j at each other class j, p = softmax(logits) (equation 9). A weighted sum of classes starts from the same sum of
    their starts.

    Attributes:
        composite: The relevance graph, by the name of its composite.
        channels: How colours become one map, see `saliency.over_channels`.
    """

    composite: str = COMPOSITE
    channels: Channels = "sum"

    shows: ClassVar[str] = "relevance of the pixels, from the probability's gradient"
    plainly: ClassVar[str] = (
        "A pixel is bright if it received much when the change of the class's probability was dealt out backwards."
    )
    passes: ClassVar[str] = "3"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    several_classes: ClassVar[bool] = True

    @property
    def roles(self) -> Mapping[str, str]:
        """See `Method.roles`."""
        return relevance_roles(ROLE, self.composite)

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        if manifest.scores.kind != "classes":
            return "it compares the classes of one prediction; take lrp"
        return super().why_not(manifest)

    def offset(self, classes: int) -> None:
        """The start depends on the logits."""

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign."""
        return self.channels == "sum"

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`.

        Raises:
            NotApplicableError: The network has one class, so its softmax is always 1.
        """
        if forward.classes == 1:
            raise NotApplicableError("sglrp: the softmax of a single class is always 1; take lrp")
        [role] = self.roles
        # Start j = p_j (w_j - sum_i w_i p_i), in float64. The weight of the best class is subtracted from all weights first,
        # which changes nothing (softmax's gradient ignores a constant). Then 1 - p of a class that is nearly certain is a sum
        # of small numbers, not the difference of two numbers close to 1.
        p = softmax(forward.logits.astype(np.float64))
        top = p.argmax(axis=1)[:, None]
        maps = []
        for seed in seeds:
            weights = forward.weights(seed)
            weights = weights - np.take_along_axis(weights, top, axis=1)
            start = p * (weights - (weights * p).sum(axis=1, keepdims=True))
            # A start with largest magnitude 1 loses nothing in float32; propagation is linear, so the scale is put back after.
            scale = np.maximum(np.abs(start).max(axis=1), np.finfo(np.float64).tiny)
            relevance = forward.backward(role, Seed.of_weights((start / scale[:, None]).astype(np.float32)))
            relevance = relevance * scale.astype(np.float32).reshape(-1, *[1] * (relevance.ndim - 1))
            maps.append(over_channels(forward, relevance, self.channels))
        return np.stack(maps)
