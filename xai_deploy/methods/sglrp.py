"""SGLRP: softmax-gradient LRP (Iwana, Kuroki and Uchida, ICCV workshop 2019, arXiv:1908.04351)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import NotApplicableError
from ..format.bundle import Manifest
from ..probabilities import sigmoid
from .lrp import ROLE
from .method import Array, Forward, Method, Seed, methods, softmax
from .relevancecam import COMPOSITE, relevance_roles
from .saliency import Channels, over_channels

_PROBABILITIES = ("independent", "normalised")
"""Activations of networks whose `logits` are probabilities already."""
_NO_LOGITS = "it starts from the softmax or the sigmoid of logits, and this network has probabilities alone; take lrp"


@methods.register("sglrp")
@dataclass(frozen=True)
class Sglrp(Method):
    """M = sum_c R_c at the pixels. The start is the gradient of the target's probability: p_t (1 - p_t) at the target t,
    -p_t p_j at each other class j, p = softmax(logits) (equation 9). In a multi-label network p = sigmoid(logits), and the
    other classes start with 0. A weighted sum of classes starts from the same sum of their starts.

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
        if manifest.activation in _PROBABILITIES:
            return _NO_LOGITS
        return super().why_not(manifest)

    def offset(self, classes: int) -> None:
        """The start depends on the logits."""

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign."""
        return self.channels == "sum"

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`.

        Raises:
            NotApplicableError: The network has one class, so its softmax is always 1; or it has no logits, but probabilities.
        """
        if forward.classes == 1:
            raise NotApplicableError("sglrp: the softmax of a single class is always 1; take lrp")
        if forward.ends_in in _PROBABILITIES:
            raise NotApplicableError(f"sglrp: {_NO_LOGITS}")
        [role] = self.roles
        maps = []
        for seed in seeds:
            start = _sigmoid_start(forward, seed) if forward.ends_in == "sigmoid" else _softmax_start(forward, seed)
            # A start with largest magnitude 1 loses nothing in float32; propagation is linear, so the scale is put back after.
            scale = np.maximum(np.abs(start).max(axis=1), np.finfo(np.float64).tiny)
            relevance = forward.backward(role, Seed.of_weights((start / scale[:, None]).astype(np.float32)))
            relevance = relevance * scale.astype(np.float32).reshape(-1, *[1] * (relevance.ndim - 1))
            maps.append(over_channels(forward, relevance, self.channels))
        return np.stack(maps)


def _softmax_start(forward: Forward, seed: Seed) -> NDArray[np.float64]:
    """Start j = p_j (w_j - sum_i w_i p_i), in float64.

    The weight of the best class is subtracted from all weights first, which changes nothing (softmax's gradient ignores a
    constant). Then 1 - p of a class that is nearly certain is a sum of small numbers, not the difference of two close to 1.
    """
    p, weights = softmax(forward.logits.astype(np.float64)), forward.weights(seed)
    weights = weights - np.take_along_axis(weights, p.argmax(axis=1)[:, None], axis=1)
    start: NDArray[np.float64] = p * (weights - (weights * p).sum(axis=1, keepdims=True))
    return start


def _sigmoid_start(forward: Forward, seed: Seed) -> NDArray[np.float64]:
    """Start j = w_j p_j (1 - p_j), in float64; 1 - p is the sigmoid of the logit with its sign changed."""
    logits = forward.logits.astype(np.float64)
    start: NDArray[np.float64] = forward.weights(seed) * sigmoid(logits) * sigmoid(-logits)
    return start
