"""Efficient model parameter randomisation test: does the map of a random network hold less than that of the trained one?
(Hedstroem et al. 2024, arXiv:2401.06465)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import OptionError
from .metric import Array, Case, Column, Numbers, metrics


@metrics.register("emprt")
@dataclass(frozen=True)
class Emprt:
    """(H(random) - H(trained)) / H(trained), H the entropy of a map's histogram: the relative rise of its complexity when all
    weights are random. Higher is better. NaN if the trained network's map is constant, for then H is 0.

    Unlike `sanity` it compares no maps, so noise in them is no evidence. It takes the last of the randomised bundles.

    Attributes:
        bins: Of the histogram, from the map's lowest to its highest value.
    """

    bins: int = 100

    needs: ClassVar[frozenset[str]] = frozenset({"randomised"})

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise OptionError(f"emprt: bins are at least 2, not {self.bins}")

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("emprt", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        after = self._entropies(case.explain(case.x, case.wanted, case.randomised[-1]))
        before = self._entropies(case.heatmaps)
        return {"emprt": np.divide(after - before, before, out=np.full(len(before), np.nan), where=before > 0)}

    def _entropies(self, maps: Array) -> Numbers:
        """-sum_b q_b ln q_b of the shares q of the pixels in each bin, [n]."""
        entropies = []
        for one in maps:
            shares = np.histogram(one, self.bins)[0] / one.size
            held = shares[shares > 0]
            entropies.append(-(held * np.log(held)).sum())
        return np.asarray(np.maximum(entropies, 0), np.float64)
