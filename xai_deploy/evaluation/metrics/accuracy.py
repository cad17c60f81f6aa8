"""How much of the map lies on the object's pixels (Arras et al. 2022, arXiv:2003.07258)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .curves import ranks
from .localisation import energy, over_regions
from .metric import Array, Case, Column, Numbers, Region, metrics


@metrics.register("mass-accuracy")
@dataclass(frozen=True)
class MassAccuracy:
    """sum of the map inside the object's mask / sum of the map; 0 for a map of zeros. 0 to 1, higher is better.

    `energy-pointing` is the same for boxes."""

    needs: ClassVar[frozenset[str]] = frozenset({"masks"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("mass-accuracy", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {"mass-accuracy": over_regions(case, case.masks, energy)}


@metrics.register("rank-accuracy")
@dataclass(frozen=True)
class RankAccuracy:
    """Of the K highest pixels of the map, the share that lies in the object's mask of K pixels; of equal pixels the first in
    reading order counts as higher. 0 to 1, higher is better; 0 for a map of zeros."""

    needs: ClassVar[frozenset[str]] = frozenset({"masks"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("rank-accuracy", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""

        def hits(heat: Array, mask: Region) -> float:
            return float((ranks(heat)[mask] < mask.sum()).mean()) if heat.any() else 0.0

        return {"rank-accuracy": over_regions(case, case.masks, hits)}
