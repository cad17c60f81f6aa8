"""Whether the map of a detection lies in its own box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .localisation import energy, over_regions
from .metric import Case, Column, Numbers, metrics


@metrics.register("detection")
@dataclass(frozen=True)
class InDetection:
    """The share of the map's sum inside the box of the detection explained (as `energy-pointing`), and that of a uniform map: the
    box's share of the network's input. 0 to 1. Neither is better: what lies outside is context, which a network may use or not."""

    needs: ClassVar[frozenset[str]] = frozenset({"detection"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("detection-energy", ""), Column("detection-uniform", ""))

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        height, width = case.heatmaps.shape[1:]
        y, x = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5  # the centres of the pixels
        boxes = [
            (left <= x) & (x < right) & (top <= y) & (y < bottom)
            for left, top, right, bottom in (d.box for d in case.found)
        ]
        regions = [inside if inside.any() else None for inside in boxes]
        return {
            "detection-energy": over_regions(case, regions, energy),
            "detection-uniform": over_regions(case, regions, lambda _, region: float(region.mean())),
        }
