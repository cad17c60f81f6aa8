"""The sanity check: a map that does not depend on the network's weights explains nothing (Adebayo et al. 2018,
arXiv:1810.03292)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...similarity import flat, spearman
from .metric import Case, Column, Numbers, metrics


@metrics.register("sanity")
@dataclass(frozen=True)
class Sanity:
    """Spearman's rank correlation of the map with the maps of the same network with randomised layers.

    Layers are randomised from the output on, cascading: in `sanity-1` the first share of them is random, in the last column
    all are. The correlation should fall towards 0. Neither sign is better, because a map that turns into its opposite
    depends on the weights too. NaN if a map is constant."""

    needs: ClassVar[frozenset[str]] = frozenset({"randomised"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return tuple(Column(f"sanity-{step + 1}", "") for step in range(randomised))

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {
            column.name: spearman(flat(case.heatmaps), flat(case.explain(case.x, case.wanted, other)))
            # for the class of the trained network's map: the randomised network may predict another
            for column, other in zip(self.columns(len(case.randomised)), case.randomised, strict=True)
        }
