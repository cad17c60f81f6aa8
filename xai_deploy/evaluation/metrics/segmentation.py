"""Weakly supervised segmentation: the map as a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .localisation import iou, over_regions, salient
from .metric import Case, Column, Numbers, metrics


@metrics.register("segmentation")
@dataclass(frozen=True)
class Segmentation:
    """IoU of {map > mean + std} with the object's mask (Relevance-CAM, section 4.3). 0 to 1, higher is better."""

    needs: ClassVar[frozenset[str]] = frozenset({"masks"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("segmentation", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {"segmentation": over_regions(case, case.masks, lambda heat, mask: iou(salient(heat), mask))}
