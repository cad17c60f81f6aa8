"""Whether the map of a region of dense scores lies in that region, and whether the region is where the object is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .localisation import energy, iou, over_regions, salient
from .metric import Case, Column, Numbers, metrics


@metrics.register("region")
@dataclass(frozen=True)
class InRegion:
    """How much of the map lies in the region explained: the region's share of the map's sum, and IoU of {map > mean + std} with
    the region. 0 to 1. Neither is better: what lies outside is context, which a network may use or should not."""

    needs: ClassVar[frozenset[str]] = frozenset({"region"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("region-energy", ""), Column("region-iou", ""))

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        places = case.places
        return {
            "region-energy": over_regions(case, places, energy),
            "region-iou": over_regions(case, places, lambda heat, region: iou(salient(heat), region)),
        }


@metrics.register("region-truth")
@dataclass(frozen=True)
class RegionTruth:
    """IoU of the region explained with the object's mask. 0 to 1, higher is better.

    It measures the network, not the map: whether the class is predicted where the object is."""

    needs: ClassVar[frozenset[str]] = frozenset({"region", "masks"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("region-truth", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        masks = case.masks or [None] * len(case.x)
        pairs = zip(case.places, masks, strict=True)
        return {"region-truth": np.array([np.nan if mask is None else iou(place, mask) for place, mask in pairs])}
