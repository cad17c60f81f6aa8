"""Relevance-CAM (Lee et al., CVPR 2021, "Relevance-CAM: Your Model Already Knows Where to Look")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cam import spatial, weighted_sum
from .method import Array, Forward, Method, Seed, methods

COMPOSITE = "relevance-cam"


def relevance_roles(role: str, composite: str) -> Mapping[str, str]:
    """The graph of a composite -> the advice to the user if a bundle lacks it."""
    option = " --pixel-relevance" if role.startswith("pixel") else ""
    if composite == COMPOSITE:
        return {role: f"export the network again with{option or ' --roles relevance, or without --roles'}"}
    return {f"{role}-{composite}": f"export the network again with --composite {composite} (or its .toml file){option}"}


def contrast(forward: Forward, role: str, seed: Seed, offset: float) -> Array:
    """Relevance of a class from a start of 1 at the class and equal weights at all others; the start sums to about zero.

    Propagation is linear in its start. So the start is the unit vector of the class plus the offset a at every class, which
    needs no prediction beforehand, and the result is divided by the target's 1 + a. "Not c" starts from the same with the sign
    turned. Any other seed is used unchanged, because it already sets which classes are compared.
    """
    if seed.is_class:
        return forward.backward(role, seed, offset) / np.float32(1 + offset)
    # In a mixed batch, only the images whose seed is one class, or "not" one, get the offset, with their own sign.
    alone = seed.sign != 0
    if offset == 0 or not alone.any():
        return forward.backward(role, seed)
    start = forward.weights(seed, np.float32(offset) * seed.sign)
    start[alone] /= np.float32(1 + offset)
    return forward.backward(role, Seed.of_weights(start))


@methods.register("relevance-cam")
@dataclass(frozen=True)
class RelevanceCam(Method):
    """L = sum_k alpha_k A_k, alpha_k = mean_ij R_kij (equation 7), without a ReLU.

    R is the relevance of the activation. The start is 1 at the target and -1/n at each other of the n classes (equation 5,
    in the form of the authors' code).

    Attributes:
        composite: The relevance graph; "relevance-cam" has the authors' rules.
        contrast: False starts from the target alone, as plain LRP does.
    """

    composite: str = COMPOSITE
    contrast: bool = True

    shows: ClassVar[str] = "the layer, channels weighted by the relevance they receive"
    plainly: ClassVar[str] = (
        "A place is bright if patterns were found there that received much when the score was dealt out backwards."
    )
    passes: ClassVar[str] = "1 + a tail"

    @property
    def roles(self) -> Mapping[str, str]:
        """See `Method.roles`."""
        return relevance_roles("relevance", self.composite)

    def offset(self, classes: int) -> float:
        """The a of `contrast`: a / (1 + a) = -1/n."""
        return -1 / (classes + 1) if self.contrast and classes else 0.0

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`."""
        return True

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        [role] = self.roles
        offset = self.offset(forward.compared)
        # alpha [n,K] of each seed
        relevances = (contrast(forward, role, seed, offset) for seed in seeds)
        weights = [r.mean(axis=spatial(r)) for r in relevances]
        return weighted_sum(np.stack(weights), forward.activation)
