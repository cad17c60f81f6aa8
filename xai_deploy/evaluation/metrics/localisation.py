"""Whether the map lies on the object, as given by the object's boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .metric import Array, Case, Column, Numbers, Region, metrics


@metrics.register("energy-pointing")
@dataclass(frozen=True)
class EnergyPointing:
    """sum of the map inside the boxes / sum of the map (Score-CAM, section 4.3, arXiv:1910.01279); 0 for a map of zeros.
    0 to 1, higher is better.

    A second column, `energy-uniform`, is the value of a uniform map: the boxes' share of the picture."""

    needs: ClassVar[frozenset[str]] = frozenset({"boxes"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("energy-pointing", "higher"), Column("energy-uniform", ""))

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {
            "energy-pointing": over_regions(case, case.regions, energy),
            "energy-uniform": over_regions(case, case.regions, lambda _, region: float(region.mean())),
        }


@metrics.register("argmax-pointing")
@dataclass(frozen=True)
class ArgmaxPointing:
    """Whether the map's maximum lies inside the boxes, 0 or 1 (Zhang et al. 2016, arXiv:1608.00507). Higher is better.

    With several maxima the first in reading order counts. A constant map has no maximum and gives 0."""

    needs: ClassVar[frozenset[str]] = frozenset({"boxes"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("argmax-pointing", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""

        def hit(heat: Array, region: Region) -> float:
            return float(np.ptp(heat) > 0 and region.flat[heat.argmax()])

        return {"argmax-pointing": over_regions(case, case.regions, hit)}


@metrics.register("iou")
@dataclass(frozen=True)
class Iou:
    """IoU of the boxes' union with {map >= t * max}, t = 25 % and 75 %, and with {map > mean + std}; 0 for a map of zeros.
    0 to 1, higher is better."""

    needs: ClassVar[frozenset[str]] = frozenset({"boxes"})

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return tuple(Column(name, "higher") for name in ("iou-25", "iou-75", "iou-mean-std"))

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {
            "iou-25": over_regions(case, case.regions, lambda heat, region: iou(heat >= 0.25 * peak(heat), region)),
            "iou-75": over_regions(case, case.regions, lambda heat, region: iou(heat >= 0.75 * peak(heat), region)),
            "iou-mean-std": over_regions(case, case.regions, lambda heat, region: iou(salient(heat), region)),
        }


def over_regions(case: Case, regions: Sequence[Region | None], of: Callable[[Array, Region], float]) -> Numbers:
    """A figure of each map and its region, [n]; NaN for an image without a region."""
    return np.array(
        [
            np.nan if region is None else of(heat, region)
            for heat, region in zip(case.heatmaps, regions or [None] * len(case.x), strict=True)
        ]
    )


def energy(heat: Array, region: Region) -> float:
    """The share of the map's sum [H,W] that lies in a region [H,W]; 0 for a map of zeros."""
    total = heat.sum(dtype=np.float64)
    return float(heat[region].sum(dtype=np.float64) / total) if total else 0.0


def iou(a: Region, b: Region) -> float:
    """Intersection over union of two regions [H,W]; 0 if both are empty."""
    return int((a & b).sum()) / max(int((a | b).sum()), 1)  # 0 / 1 instead of 0 / 0


def salient(heat: Array) -> Region:
    """{map > mean + std}, [H,W]."""
    region: Region = heat > heat.mean(dtype=np.float64) + heat.std(dtype=np.float64)
    return region


def peak(heat: Array) -> float:
    """The map's maximum; infinity for a map of zeros, so that no pixel reaches a share of it."""
    return float(heat.max()) or np.inf
