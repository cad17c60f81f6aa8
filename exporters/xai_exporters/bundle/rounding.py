"""What rounding in float32 decides in the graphs that propagate back: the same graph, computed in several ways, gives several maps.

ONNX Runtime without optimisations, with them, and OpenVINO add up numbers in different orders. Where the results differ, float32
can't tell which one is right. Relevance is a product of shares x w / sum of x w. If positive and negative terms nearly cancel, a
share is large, and so is its error. In 14 networks of convolutions, attention and MLPs with random weights, gradients and relevance
at the layer of `auto` differed by 6e-4 of the largest value at most, and by 1e-6 in all but one. Relevance at the pixels of MLP
networks differed by 0.006 (gMLP), 0.05 (Mixer) and 0.5 (ResMLP).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.faithful import HALF, PRODUCTS
from xai_deploy.format.bundle import ACTIVATION, Manifest

Arrays = Mapping[str, NDArray[Any]]

TOLD = 0.01
"""The share of the largest value from which it is told."""

UNUSABLE = 0.2
"""The share from which a graph is left out, unless the request asks for it."""

_CANCELLED = 1e-5
"""Gradient times activation, summed over the channels, as a share of its terms' magnitudes: 2e-7 before a LayerNormalization,
5e-2 and more in 13 networks at other layers."""


class Rounding:
    """Collects what the runtimes give for the same inputs."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        # half precision and integers round more, and by design; `faithful` has their tolerances
        self._measures = not manifest.logits_step and HALF not in manifest.extensions
        self._exact: dict[str, NDArray[np.float64]] = {}
        self._shares: dict[str, float] = {}

    def add(self, role: str, results: Arrays, feeds: Arrays, exactly: Callable[[], Callable[[Arrays], Arrays]]) -> None:
        """Add one runtime's results.

        Args:
            role: The graph's role.
            results: What the runtime gave.
            feeds: The inputs.
            exactly: Opens the graph on ONNX Runtime without optimisations. It is called once for each role.
        """
        name = self._manifest.graphs[role].propagated
        if not self._measures or name is None:
            return
        if role not in self._exact:  # at the inputs that the first runtime's head gives
            self._exact[role] = exactly()(feeds)[name].astype(np.float64)
            if role == "gradient" and _cancels(self._exact[role], feeds[ACTIVATION]):
                self._shares[PRODUCTS] = 1.0
        self._shares[role] = max(self._shares.get(role, 0.0), _share(results[name], self._exact[role]))

    def shares(self) -> dict[str, float]:
        """Role or `PRODUCTS` -> share, from `TOLD` on."""
        return {name: share for name, share in self._shares.items() if share >= TOLD}


def why_unusable(share: float) -> str | None:
    """Why a graph can't be used because of rounding; None if it can."""
    if share < UNUSABLE:
        return None
    decided = f"{100 * min(share, 1.0):.2g} %"
    return f"rounding in float32 decides {decided} of its largest value; take a layer nearer the scores, or a gradient method"


def _share(got: NDArray[Any], exact: NDArray[Any]) -> float:
    """The largest difference of an image's values, relative to the largest one; images with zeros alone do not count."""
    axes = tuple(range(1, exact.ndim))
    size = np.abs(exact).max(axis=axes)
    difference = np.abs(got - exact).max(axis=axes)
    shares = np.divide(difference, size, out=np.zeros_like(size), where=size > 0)
    return (
        float(shares.max()) if np.isfinite(shares).all() else 0.0
    )  # `check_backward` reports values that are not finite


def _cancels(gradient: NDArray[Any], activation: NDArray[Any]) -> bool:
    """Whether gradient times activation [n,K,h,w] vanishes at all positions if it is summed over the channels."""
    terms = gradient * activation
    size = float(np.abs(terms).sum(axis=1).max())
    return gradient.shape[1] > 1 and 0 < size < np.inf and float(np.abs(terms.sum(axis=1)).max()) <= _CANCELLED * size
