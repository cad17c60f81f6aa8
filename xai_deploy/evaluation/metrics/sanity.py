"""The sanity check: a map that does not change with the network's weights explains nothing (Adebayo et al. 2018,
arXiv:1810.03292)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...similarity import spearman
from .base import Case, Column, Numbers, metrics


@metrics.register("sanity")
@dataclass(frozen=True)
class Sanity:
    """Spearman's rank correlation of the map with those of the same network as its layers are randomised from the top,
    cascading: `sanity-1` with the first share of them random, the last with all. Must fall towards 0: a map
    turned into its opposite depends on the weights, too, so that neither sign is better; NaN where a map is constant."""

    needs: ClassVar[frozenset[str]] = frozenset({"randomised"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return tuple(Column(f"sanity-{step + 1}", "") for step in range(randomised))

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {
            column.name: spearman(case.heatmaps, case.explain(case.x, case.target, other))
            for column, other in zip(self.columns(len(case.randomised)), case.randomised, strict=True)
        }
